"""A commit that changes a stage's results raises that stage's VERSION: the tiny run's numbers say so.

`golden.json` holds each stage's VERSION and a fingerprint of what it wrote. Floating-point results differ in their last
digits between processors, and trained weights in more, so the fingerprint is a set of numbers compared within a
tolerance, not a hash. After a change of results, raise VERSION in the stage's `__init__.py` and run

    python -m pytest tests/workflow/test_versions.py --write-golden
"""

import json
from importlib import import_module
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

GOLDEN = Path(__file__).with_name("golden.json")
TOLERANCE = {"training": 0.02, "evaluation": 0.05, "report": 0.05}


def of_table(table: pd.DataFrame) -> dict[str, float]:
    """Rows, and the mean of each numeric column."""
    numeric = table.select_dtypes("number")
    return {"rows": len(table), **{name: float(np.nan_to_num(numeric[name].mean())) for name in numeric}}


def of_numbers(value, prefix="") -> dict[str, float]:
    """All numbers of a JSON value, by their place."""
    if isinstance(value, dict):
        return {k: v for key in value for k, v in of_numbers(value[key], f"{prefix}{key}.").items()}
    if isinstance(value, list):
        return {"length." + prefix: len(value)}
    return {prefix: float(value)} if isinstance(value, int | float) else {}


def embedded(results):
    found = {}
    with duckdb.connect(str(results / "archive" / "catalog.duckdb"), read_only=True) as catalog:
        for (name,) in catalog.sql("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall():
            found |= {f"{name}.{key}": value for key, value in of_table(catalog.table(name).df()).items()}
    frame = sorted((results / "archive" / "sas").rglob("frame-*.bz2"))[0]
    with fits.open(frame) as hdus:
        found |= {"frame.mean": float(hdus[0].data.mean()), "frame.std": float(hdus[0].data.std())}
    return found


def archive(results):
    tables = {name: pd.read_parquet(results / "archive" / name) for name in ("galaxies.parquet", "fields.parquet")}
    tables["manifest"] = pd.concat(
        pd.read_parquet(path) for path in sorted((results / "archive" / "frames").glob("*.parquet"))
    ).drop(columns="bytes")
    return {f"{name}.{key}": value for name, table in tables.items() for key, value in of_table(table).items()}


def sample(results):
    found = of_table(pd.read_parquet(results / "sample" / "galaxies.parquet"))
    folds = pd.read_parquet(results / "sample" / "folds-images.parquet")
    return found | {f"train_{k}": int((folds[f"role_{k}"] == "train").sum()) for k in range(2)}


def cubes(results):
    from sdss_photoz.cubes.store import load_cubes

    rows = pd.read_parquet(results / "sample" / "galaxies.parquet")["row"]
    flux = load_cubes(results / "cubes.zarr", rows)
    kinds = {"mean": np.mean, "std": np.std}
    return {f"{name}.{band}": float(kinds[name](flux[..., i])) for name in kinds for i, band in enumerate("ugriz")}


def training(results):
    found = {}
    for path in sorted((results / "training").rglob("*.history.csv")):
        found |= {f"{path.parent.name}.{key}": value for key, value in of_table(pd.read_csv(path)).items()}
    return found


def evaluation(results):
    table = pd.read_parquet(results / "evaluation" / "images" / "photoz.parquet")
    return {key: value for key, value in of_table(table).items() if key in ("rows", "z_spec", "z_phot", "crps", "pit")}


def report(results):
    figures = sorted(path.name for path in (results / "report" / "figures").iterdir())
    tables = sorted(path.name for path in (results / "report" / "tables").iterdir())
    return dict.fromkeys((*figures, *tables), 1.0)


STAGES = (embedded, archive, sample, cubes, training, evaluation, report)


@pytest.mark.parametrize("stage", STAGES, ids=[stage.__name__ for stage in STAGES])
def test_results_change_only_with_their_version(tiny, stage, request):
    name = stage.__name__
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    version = import_module(f"sdss_photoz.{name}").VERSION
    found = stage(tiny.results)
    if request.config.getoption("--write-golden"):
        golden[name] = {"version": version, "fingerprint": {key: float(f"{value:.6g}") for key, value in found.items()}}
        GOLDEN.write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")
        return
    expected = golden[name]["fingerprint"]
    tolerance = TOLERANCE.get(name, 1e-4)
    changed = sorted(set(found) ^ set(expected))
    changed += [
        key for key in expected.keys() & found.keys()
        if not np.isclose(found[key], expected[key], rtol=tolerance, atol=1e-3 * tolerance)
    ]  # fmt: skip
    assert version == golden[name]["version"], f"VERSION of {name} was raised: write golden.json anew"
    assert not changed, f"results of {name} changed ({changed[:5]}): raise its VERSION, then write golden.json anew"
