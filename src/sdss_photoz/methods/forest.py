"""A negative control: a random forest on how and where a galaxy was observed, and none of its light."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz.config import Evaluation
from sdss_photoz.frames.footprint import band_terms, grid_on_frame
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import split_object_id

TREES = 200
LEAF = 20  # galaxies in a leaf at least: the scatter of its mean stays well below that of the redshifts
DRAWN = 20_000  # galaxies that one tree sees at most: 100,000 galaxies take minutes


def features(galaxies: pd.DataFrame, quality: Sequence[Path], fields: Path | None) -> np.ndarray:
    """`observing_conditions` of the sample, float32 (galaxy, feature)."""
    tables = pd.concat([pd.read_parquet(path) for path in quality]).set_index("object_id").loc[galaxies.index]
    known = None if fields is None else pd.read_parquet(fields)
    return observing_conditions(galaxies.reset_index(), tables, known).to_numpy()


def estimate(train: np.ndarray, train_z: np.ndarray, test: np.ndarray, settings: Evaluation) -> dict[str, np.ndarray]:
    """``z_phot_forest``, float64 (test galaxy,); the same arguments give the same numbers."""
    from sklearn.ensemble import RandomForestRegressor  # here: the import takes a second

    trees = RandomForestRegressor(
        n_estimators=TREES,
        min_samples_leaf=LEAF,
        max_features=1 / 3,
        max_samples=min(DRAWN, len(train)),
        random_state=settings.seed,
        n_jobs=1,
    )
    return {"z_phot_forest": trees.fit(train, np.asarray(train_z, np.float64)).predict(test)}


def observing_conditions(
    galaxies: pd.DataFrame, quality: pd.DataFrame, fields: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Position on the frames, depth, noise, seeing and order of each galaxy: nothing that depends on its light.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, ra, dec (degrees), row and, where there is one, spec_id.
    quality : DataFrame
        The quality tables of the cubes, rows in the order of `galaxies`: frames_{b} and, where known, seeing_{b},
        sky_{b}.
    fields : DataFrame, optional
        run, camcol, field, node, incl, a … f, and optionally a_u … f_z.

    Returns
    -------
    DataFrame
        float32, a row for each galaxy: run, camcol, field; x, y (pixels) in the r frame of that field; phase_x_{b},
        phase_y_{b}, its offset from a pixel's centre, 0 to 1 pixel; depth_{b} (frames); noise_{b},
        the square root of sky over depth, to which the noise of the sky is proportional; seeing_{b} (arcsec);
        object_id (its rank), object (its number in the field), row, and catalogue, the rank of spec_id, by which the
        archive's answer is ordered. Unknown values are NaN; columns without any known value are left out.
    """
    run, camcol, field, number = split_object_id(galaxies["object_id"].to_numpy())
    known = {"run": run, "camcol": camcol, "field": field, "object": number, "row": galaxies["row"].to_numpy()}
    known["object_id"] = galaxies["object_id"].rank().to_numpy()  # trees use the order alone; float32 has seven digits
    if "spec_id" in galaxies:
        known["catalogue"] = galaxies["spec_id"].rank().to_numpy()
    bands = [band for band in SDSS.band_names if f"frames_{band}" in quality]
    if fields is not None:
        known |= _places(galaxies, np.stack([run, camcol, field], axis=1), fields, bands)
    for band in bands:
        depth = quality[f"frames_{band}"].to_numpy(float)
        known[f"depth_{band}"] = depth
        if f"sky_{band}" in quality:
            with np.errstate(invalid="ignore", divide="ignore"):
                known[f"noise_{band}"] = np.sqrt(quality[f"sky_{band}"].to_numpy(float) / depth)
        if f"seeing_{band}" in quality:
            known[f"seeing_{band}"] = quality[f"seeing_{band}"].to_numpy(float)
    table = pd.DataFrame(known).astype(np.float32).replace([np.inf, -np.inf], np.nan)
    return table.dropna(axis=1, how="all")


def _places(galaxies, own, fields, bands) -> dict[str, np.ndarray]:
    """x, y (r) and phases (in `bands`) of each galaxy on the frames of its field; NaN where the field is unknown."""
    keys = pd.MultiIndex.from_frame(fields[["run", "camcol", "field"]])
    index = keys.get_indexer(pd.MultiIndex.from_arrays(own.T))
    there = index >= 0
    ra, dec = (galaxies[name].to_numpy(float)[there] for name in ("ra", "dec"))
    node, incl = (fields[name].to_numpy(float)[index[there]] for name in ("node", "incl"))
    found = {}
    for band in SDSS.band_names:
        if band != "r" and band not in bands:
            continue
        pixel = np.full((len(galaxies), 2), np.nan)
        terms = band_terms(fields, band)[0][:, index[there]]
        pixel[there] = grid_on_frame(ra, dec, node, incl, terms)[:, 0]
        if band == "r":
            found |= {"x": pixel[:, 0], "y": pixel[:, 1]}
        if band in bands:
            found |= {f"phase_{axis}_{band}": (pixel[:, k] + 0.5) % 1 for k, axis in enumerate("xy")}
    return found
