"""Scores of negative controls beside those of the prior, which they should not beat."""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from sdss_photoz.config import Evaluation
from sdss_photoz.scores import metrics
from sdss_photoz.scores.residuals import residuals


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
        ``galaxies``, their number; ``scores`` and ``differences`` of ``control`` and ``prior`` as of `metrics.compare`;
        and ``correlation``, Spearman's, of the control's redshifts with the true ones, as ``value`` and ``error``
        (None where the galaxies lie in a single sky cell).
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
        return {
            "correlation": float(np.nan_to_num(spearmanr(pairs[rows]).statistic))
        }  # NaN of equal redshifts counts as 0

    error = None
    if cells.max() > 0:
        resampled = metrics.bootstrap(correlation, cells, settings.bootstrap, settings.seed)["correlation"]
        error = float(np.std(resampled, ddof=1))
    value = correlation(np.arange(len(pairs)))["correlation"]
    return {"galaxies": int(photoz["object_id"].nunique()), **compared, "correlation": {"value": value, "error": error}}
