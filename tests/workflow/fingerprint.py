"""What a user would notice of each stage's results, as numbers, read from the files that a run writes.

A table gives four numbers a column: its mean and standard deviation; its correlation with a draw that follows from each
row's id, so that values which change places between galaxies are seen; and how many are missing. They are compared in
units of the standard deviation. A single number stands for itself.

Floating-point results differ in their last digits between processors. What no network touches is compared within
`EXACT`. What a trained network enters (`TRAINED`) differs by what two epochs make of the rounding of bfloat16, some
hundredths of the standard deviation: it is compared within `LEARNED`. `test_recomputed.py` works it out again from the
run's own files, which holds to the last digits on every processor, also for the errors, which are left out here.
"""

import json
import re
from pathlib import Path
from zlib import crc32

import duckdb
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import zarr
from astropy.io import fits
from safetensors import safe_open

EXACT, LEARNED, LOSS = 1e-4, 0.25, 0.02
TRAINED = re.compile(
    r"network|member|(^|\.)mean|loss|pdfs|density|ensemble|photoz\.(z_phot|z_phot_mean|pit|crps|width_\d+)$|examples.z_phot"
)
UNSTEADY = re.compile(
    r"(network|mean|member).*error|scatter\.\w+\.network|(redshifts|residuals)\.network"
)  # of few galaxies
MISSING = -9999  # the archive's mark
IDS = ("object_id", "objID", "specObjID")
BANDS = "ugriz"


def of_table(table: pd.DataFrame, name: str) -> dict:
    """Rows of a table, and [mean, standard deviation, correlation with a draw by id, missing] of each column."""
    ids = next((table[key] for key in IDS if key in table), pd.Series(np.arange(len(table))))
    words = ids.to_numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    draw = (words / 2.0**64 - 0.5) * np.sqrt(12)
    return {f"{name}.rows": len(table)} | {f"{name}.{key}": _of_column(table[key], draw) for key in table}


def _of_column(column: pd.Series, draw: np.ndarray) -> list[float]:
    missing = column.isna() | column.eq(MISSING)
    if pd.api.types.is_numeric_dtype(column):
        values = column.astype(float)
    else:
        values = column.map(lambda text: crc32(str(text).encode()) / 2**32)
    values = np.where(missing, np.nan, values.to_numpy(float))
    if missing.all():
        return [0, 0, 0, len(values)]
    mean, scatter = np.nanmean(values), np.nanstd(values)
    apart = np.nan_to_num(values - mean) / (scatter or 1)
    return [mean, scatter, np.mean(apart * draw), int(missing.sum())]


def of_numbers(value, prefix: str) -> dict:
    """All numbers of a JSON value, by their place."""
    if isinstance(value, dict | list):
        places = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for place, one in places for k, v in of_numbers(one, f"{prefix}.{place}").items()}
    return {prefix: value} if isinstance(value, int | float) else {prefix: crc32(str(value).encode())}


def of_image(image: np.ndarray) -> dict[str, np.ndarray]:
    """Moments of images (…, y, x): flux, flux by its place along x, y and both, central pixel, pixels without a value.

    A turned or mirrored image has others.
    """
    height, width = image.shape[-2:]
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = y / (height - 1) - 0.5, x / (width - 1) - 0.5
    weights = {"flux": 1 + 0 * x, "x": x, "y": y, "xy": x * y, "xx_yy": x**2 - y**2}
    values = np.nan_to_num(image.astype(float))
    found = {name: np.einsum("...yx,yx->...", values, weight) / image[0, 0].size for name, weight in weights.items()}
    return found | {"centre": values[..., height // 2, width // 2], "empty": np.isnan(image).sum(axis=(-2, -1))}


def of_pdfs(pdf: np.ndarray) -> pd.DataFrame:
    """Mean, width and entropy of distributions (galaxy, bin), in units of their range and nat."""
    place = (np.arange(pdf.shape[1]) + 0.5) / pdf.shape[1]
    mean = pdf @ place
    entropy = -(pdf * np.log(np.where(pdf > 0, pdf, 1))).sum(axis=1)
    width = np.sqrt(np.maximum(pdf @ place**2 - mean**2, 0))
    return pd.DataFrame({"pdfs_mean": mean, "pdfs_width": width, "pdfs_entropy": entropy})


def embedded(results: Path) -> dict:
    found = {}
    with duckdb.connect(str(results / "archive" / "catalog.duckdb"), read_only=True) as catalog:
        for (name,) in catalog.sql("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall():
            found |= of_table(catalog.table(name).df(), name)
    field = sorted((results / "archive" / "sas").rglob("frame-r-*.bz2"))[0]
    for band in BANDS:
        with fits.open(field.with_name(field.name.replace("frame-r", f"frame-{band}"))) as hdus:
            moments = of_image(hdus[0].data[None, None])
            found |= {f"frame_{band}.{name}": float(value.item()) for name, value in moments.items()}
            keys = ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
            found |= {f"frame_{band}.{key}": float(hdus[0].header[key]) for key in keys}
    return found


def archive(results: Path) -> dict:
    found = {}
    for name in ("galaxies", "fields"):
        found |= of_table(pd.read_parquet(results / "archive" / f"{name}.parquet"), name)
    manifests = sorted((results / "archive" / "frames").glob("*.parquet"))
    manifest = pd.concat([pd.read_parquet(path) for path in manifests], ignore_index=True)
    return found | of_table(manifest[["run", "camcol", "field", "band", "state"]], "manifest")


def sample(results: Path) -> dict:
    found = of_table(pd.read_parquet(results / "sample" / "galaxies.parquet"), "galaxies")
    found |= of_table(pd.read_csv(results / "sample" / "counts.csv"), "counts")
    return found | of_table(pd.read_parquet(results / "sample" / "folds-images.parquet"), "folds")


def cubes(results: Path) -> dict:
    store = zarr.open_group(results / "cubes.zarr", mode="r")
    flux, depth = store["flux"][:], store["depth"][:]
    columns = {"object_id": store["object_id"][:]}
    for index, band in enumerate(BANDS):
        columns |= {f"{name}_{band}": value for name, value in of_image(flux[:, None, :, :, index]).items()}
        columns[f"depth_{band}"] = depth[:, index]
    table = pd.DataFrame({name: np.ravel(value) for name, value in columns.items()})
    quality = pd.concat([pd.read_parquet(path) for path in sorted((results / "cubes").glob("quality-*.parquet"))])
    notes = [name for name in quality if re.search("sha256|digest|code|version", name)]
    return of_table(table, "store") | of_table(quality.drop(columns=notes).reset_index(drop=True), "quality")


def training(results: Path) -> dict:
    found = {}
    for path in sorted((results / "training").rglob("member-*.safetensors")):
        place = f"{path.parent.name}.{path.stem}"
        history = pd.read_csv(path.with_suffix(".history.csv"))
        found |= of_numbers(history.to_dict("list"), f"{place}.history")
        with safe_open(path, "np") as model:
            shapes = {name: f"{model.get_slice(name).get_dtype()}{model.get_slice(name).get_shape()}"
                      for name in sorted(model.keys())}  # fmt: skip
        found |= of_numbers(shapes, f"{place}.tensors")
    for path in sorted((results / "training").rglob("pdfs.parquet")):
        table = pq.read_table(path)
        pdf = np.stack(table["pdf"].to_numpy())
        found |= of_table(
            table.select(["object_id", "member"]).to_pandas().join(of_pdfs(pdf.astype(float))), path.parent.name
        )
        found |= of_numbers({"bins": pdf.shape[1], "dtype": str(pdf.dtype)}, path.parent.name)
    return found


def evaluation(results: Path) -> dict:
    folder = results / "evaluation" / "images"
    found = of_table(pd.read_parquet(folder / "photoz.parquet"), "photoz")
    found |= of_numbers(json.loads((folder / "metrics.json").read_text()), "metrics")
    with h5py.File(folder / "photoz.hdf5") as file:
        table = pd.DataFrame({name: column[:] for name, column in file["ancil"].items()})
        edges, pdf = file["meta/bins"][:].ravel(), file["data/pdfs"][:]
    found |= {"qp.bins": len(edges), "qp.last": float(edges[-1])}
    return found | of_table(table.drop(columns="z_phot").join(of_pdfs(pdf / pdf.sum(axis=1, keepdims=True))), "qp")


def report(results: Path) -> dict:
    found = {f"figures.{path.name}": 1 for path in sorted((results / "report" / "figures").glob("*.png"))}
    for path in sorted((results / "report" / "tables").glob("*.csv")):
        table = pd.read_csv(path)
        parts = table.groupby("method", sort=False) if "method" in table else [("", table)]
        for method, part in parts:
            found |= of_table(part.reset_index(drop=True), f"{path.stem}{'.' * bool(method)}{method}")
    return found


def of_stage(name: str, results: Path) -> dict:
    """The fingerprint of a stage: a number or a list of four for each place, rounded to seven digits."""
    found = {key: value for key, value in STAGES[name](results).items() if not UNSTEADY.search(key)}
    return {key: [_rounded(one) for one in value] if isinstance(value, list) else _rounded(value)
            for key, value in found.items()}  # fmt: skip


def _rounded(value):
    return value if isinstance(value, int) else float(f"{value:.7g}")


STAGES = {stage.__name__: stage for stage in (embedded, archive, sample, cubes, training, evaluation, report)}


def changed(found: dict, expected: dict) -> list[str]:
    """Places where two fingerprints differ by more than is allowed, with both values."""
    places = [*expected, *(key for key in found if key not in expected)]
    return [f"{key}: {expected.get(key)} -> {found.get(key)}" for key in places if not _alike(key, found, expected)]


def _alike(key, found, expected) -> bool:
    if key not in found or key not in expected:
        return False
    tolerance = LOSS if "history" in key else LEARNED if TRAINED.search(key) else EXACT
    if not isinstance(expected[key], list):
        return abs(found[key] - expected[key]) <= tolerance * abs(expected[key])
    mean, scatter, by_id, missing = expected[key]
    room = tolerance * scatter + 1e-6 * abs(mean)
    return (
        abs(found[key][0] - mean) <= room
        and abs(found[key][1] - scatter) <= room
        and abs(found[key][2] - by_id) <= tolerance
        and found[key][3] == missing
    )
