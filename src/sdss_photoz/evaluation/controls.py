"""Estimators that know nothing of a galaxy's light: the prior, and a forest on the circumstances of its image."""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from sdss_photoz.config import Evaluation
from sdss_photoz.evaluation import metrics
from sdss_photoz.evaluation.residuals import residuals
from sdss_photoz.sample.footprint import band_terms, grid_on_frame
from sdss_photoz.survey import BANDS, split_object_id

TREES = 200
LEAF = 20  # galaxies in a leaf at least: the scatter of its mean stays well below that of the redshifts
DRAWN = 20_000  # galaxies that one tree sees at most: 100,000 galaxies take minutes


def prior(train_z) -> float:
    """The redshift that everyone gets who knows the training galaxies' redshifts alone: their median."""
    return float(np.median(train_z))


def circumstances(galaxies: pd.DataFrame, quality: pd.DataFrame, fields: pd.DataFrame | None = None) -> pd.DataFrame:
    """What is known of a galaxy's image without any of its light.

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
        phase_y_{b}, the parts of a pixel, 0 to 1, by which it is off a pixel's centre; depth_{b} (frames); noise_{b},
        the square root of sky over depth, to which the noise of the sky is proportional; seeing_{b} (arcsec);
        object_id (its rank), object (its number in the field), row, and catalogue, the rank of spec_id, by which the
        archive's answer is ordered. Unknown values are NaN; what is known of no galaxy is absent.
    """
    run, camcol, field, number = split_object_id(galaxies["object_id"].to_numpy())
    known = {"run": run, "camcol": camcol, "field": field, "object": number, "row": galaxies["row"].to_numpy()}
    known["object_id"] = galaxies["object_id"].rank().to_numpy()  # trees ask for order alone; float32 has seven digits
    if "spec_id" in galaxies:
        known["catalogue"] = galaxies["spec_id"].rank().to_numpy()
    if fields is not None:
        known |= _places(galaxies, np.stack([run, camcol, field], axis=1), fields)
    for band in BANDS:
        depth = quality[f"frames_{band}"].to_numpy(float)
        known[f"depth_{band}"] = depth
        if f"sky_{band}" in quality:
            with np.errstate(invalid="ignore", divide="ignore"):
                known[f"noise_{band}"] = np.sqrt(quality[f"sky_{band}"].to_numpy(float) / depth)
        if f"seeing_{band}" in quality:
            known[f"seeing_{band}"] = quality[f"seeing_{band}"].to_numpy(float)
    table = pd.DataFrame(known).astype(np.float32).replace([np.inf, -np.inf], np.nan)
    return table.dropna(axis=1, how="all")


def _places(galaxies, own, fields) -> dict[str, np.ndarray]:
    """Where each galaxy lies on the frames of the field that its object id names; NaN where that is not known."""
    keys = pd.MultiIndex.from_frame(fields[["run", "camcol", "field"]])
    index = keys.get_indexer(pd.MultiIndex.from_arrays(own.T))
    there = index >= 0
    ra, dec = (galaxies[name].to_numpy(float)[there] for name in ("ra", "dec"))
    node, incl = (fields[name].to_numpy(float)[index[there]] for name in ("node", "incl"))
    found = {}
    for band in BANDS:
        pixel = np.full((len(galaxies), 2), np.nan)
        terms = band_terms(fields, band)[0][:, index[there]]
        pixel[there] = grid_on_frame(ra, dec, node, incl, terms)[:, 0]
        if band == "r":
            found |= {"x": pixel[:, 0], "y": pixel[:, 1]}
        found |= {f"phase_{axis}_{band}": (pixel[:, k] + 0.5) % 1 for k, axis in enumerate("xy")}
    return found


def forest(train: pd.DataFrame, train_z, table: pd.DataFrame, seed: int) -> np.ndarray:
    """Redshifts (galaxy,) float64 of galaxies by a random forest, from tables of `circumstances`.

    The same arguments give the same numbers.
    """
    from sklearn.ensemble import RandomForestRegressor  # it takes a second that other evaluations need not spend

    trees = RandomForestRegressor(
        n_estimators=TREES,
        min_samples_leaf=LEAF,
        max_features=1 / 3,
        max_samples=min(DRAWN, len(train)),
        random_state=seed,
        n_jobs=1,
    )
    return trees.fit(train, np.asarray(train_z, np.float64)).predict(table)


def control_scores(photoz: pd.DataFrame, column: str, settings: Evaluation) -> dict:
    """Scores of a negative control and of the prior, on the same galaxies and the same resamples of the sky.

    Parameters
    ----------
    photoz : DataFrame
        The scored galaxies: ra, dec, repeat, z_spec, z_phot_prior and `column`.
    column : str
        The control's redshifts.
    settings : config.Evaluation

    Returns
    -------
    dict
        ``galaxies``; ``scores`` and ``differences`` of ``control`` and ``prior`` as of `metrics.compare`; and
        ``correlation``, Spearman's, of the control's redshifts with the true ones, as ``value`` and ``error``.
    """
    cells = metrics.sky_cells(photoz["ra"], photoz["dec"], settings.bootstrap_nside)
    columns = {"control": column, "prior": "z_phot_prior"}
    compared = metrics.compare(
        {name: {"dz": residuals(photoz[of], photoz["z_spec"])} for name, of in columns.items()},
        cells,
        pairs=[("control", "prior")],
        repeat=photoz["repeat"].to_numpy(),
        outlier=settings.outlier,
        resamples=settings.bootstrap,
        seed=settings.seed,
    )
    pairs = photoz[[column, "z_spec"]].to_numpy()

    def correlation(rows):
        return {"correlation": float(np.nan_to_num(spearmanr(pairs[rows]).statistic))}  # NaN where all are the same

    error = None
    if cells.max() > 0:
        drawn = metrics.bootstrap(correlation, cells, settings.bootstrap, settings.seed)["correlation"]
        error = float(np.std(drawn, ddof=1))
    value = correlation(np.arange(len(pairs)))["correlation"]
    return {"galaxies": int(photoz["object_id"].nunique()), **compared, "correlation": {"value": value, "error": error}}
