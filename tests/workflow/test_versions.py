"""A commit that changes a stage's results raises that stage's VERSION: the tiny run's numbers say so.

`golden.json` holds each stage's VERSION and a fingerprint (`fingerprint.py`) of the files that it wrote. After a change
of results, raise VERSION in the stage's `__init__.py` and run

    python -m pytest tests/workflow/test_versions.py --write-golden
"""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.workflow import fingerprint

GOLDEN = Path(__file__).with_name("golden.json")


def write(golden: dict) -> None:
    """Write `golden.json`, a line for each place, so that a change shows what it changed."""
    stages = []
    for name, stage in sorted(golden.items()):
        places = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in stage["fingerprint"].items())
        stages.append(f' {json.dumps(name)}: {{"version": {stage["version"]}, "fingerprint": {{\n{places}\n }}}}')
    GOLDEN.write_text("{\n" + ",\n".join(stages) + "\n}\n")


@pytest.mark.parametrize("name", fingerprint.STAGES)
def test_results_change_only_with_their_version(tiny, name, request):
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    version = import_module(f"sdss_photoz.{name}").VERSION
    found = fingerprint.of_stage(name, tiny.results)
    if request.config.getoption("--write-golden"):
        write(golden | {name: {"version": version, "fingerprint": found}})
        return
    changed = fingerprint.changed(found, golden[name]["fingerprint"])
    assert version == golden[name]["version"], f"VERSION of {name} was raised: write golden.json anew"
    few = "; ".join(changed[:5])
    assert not changed, (
        f"{len(changed)} results of {name} changed ({few}): raise its VERSION, then write golden.json anew"
    )


def galaxies(seed=1):
    random = np.random.default_rng(seed)
    z = random.uniform(0.02, 0.3, 200)
    return pd.DataFrame({"object_id": 1_237_650_000_000_000_000 + np.arange(200) * 977, "z": z, "name": z.astype(str)})


def test_a_fingerprint_sees_values_that_change_places_between_galaxies_but_not_the_order_of_rows():
    table = galaxies()
    usual = fingerprint.of_table(table, "t")
    assert not fingerprint.changed(fingerprint.of_table(table.sample(frac=1, random_state=2), "t"), usual)
    for column in ("z", "name"):
        reversed_ = table.assign(**{column: table[column].to_numpy()[::-1]})
        (said,) = fingerprint.changed(fingerprint.of_table(reversed_, "t"), usual)
        assert said.startswith(f"t.{column}: ")
    assert len(fingerprint.changed(fingerprint.of_table(table.assign(z=table["z"] * 1.001), "t"), usual)) == 1
    assert len(fingerprint.changed(fingerprint.of_table(table.drop(columns="z"), "t"), usual)) == 1


@pytest.mark.parametrize("turn", [np.transpose, np.flipud, np.fliplr, np.rot90, lambda image: np.rot90(image, 2)])
def test_a_fingerprint_sees_images_that_are_turned_or_mirrored(turn):
    images = np.random.default_rng(3).normal(0, 1, (200, 16, 16))
    usual, other = (
        fingerprint.of_table(
            pd.DataFrame({name: np.ravel(value) for name, value in fingerprint.of_image(made).items()}), "t"
        )
        for made in (images, np.stack([turn(image) for image in images]))
    )
    assert len(fingerprint.changed(other, usual)) >= 2
