"""Scores of predicted values of any quantity, by residuals predicted - true."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sdss_photoz.scores.residuals import sigma_mad

FAR = 3  # sigma_MAD off the median, beyond which a galaxy is an outlier
INTERVALS = 20  # of the true value, across its range
FEWEST = 10  # galaxies in an interval of a running median


def scores(residual: np.ndarray, crps: np.ndarray | None = None) -> dict[str, float]:
    """Bias, median, RMSE, sigma_MAD (NMAD), fraction of outliers and mean CRPS.

    Parameters
    ----------
    residual : ndarray (galaxy,)
        Predicted - true, in the unit of the quantity.
    crps : ndarray (galaxy,), optional
        Scores of the distributions; a method without distributions has none.

    Returns
    -------
    dict
        ``bias``, the mean residual; ``median``; ``rmse``, the root of the mean square; ``sigma_mad``, 1.4826 times the
        median absolute deviation from the median; ``outliers``, the fraction of residuals more than three sigma_mad off
        the median, 0.0027 for a Gaussian; ``crps`` where given. All but ``outliers`` have the unit of the quantity.
    """
    residual = np.asarray(residual, dtype=np.float64)
    median, scatter = float(np.median(residual)), sigma_mad(residual)
    found = {
        "bias": float(np.mean(residual)),
        "median": median,
        "rmse": float(np.sqrt(np.mean(residual**2))),
        "sigma_mad": scatter,
        "outliers": float(np.mean(np.abs(residual - median) > FAR * scatter)),
    }
    return found if crps is None else found | {"crps": float(np.mean(crps))}


def running(
    true: ArrayLike, values: ArrayLike, low: float | None = None, high: float | None = None, fewest: int = FEWEST
) -> pd.DataFrame:
    """Median, and 16 and 84 %, of values in 20 equal intervals of the true value.

    Parameters
    ----------
    true, values : array_like (galaxy,)
        Finite numbers: the true value, and what is summed up, such as predictions or residuals.
    low, high : float, optional
        Ends of the intervals; default: the least and the largest true value.
    fewest : int
        Intervals with fewer galaxies are left out.

    Returns
    -------
    DataFrame
        true_low, true_high; galaxies; median, low (16 %), high (84 %) of the values.
    """
    true, values = (np.asarray(column, dtype=np.float64) for column in (true, values))
    columns = ["true_low", "true_high", "galaxies", "median", "low", "high"]
    if not len(true):
        return pd.DataFrame(columns=columns, dtype=float)
    low, high = true.min() if low is None else low, true.max() if high is None else high
    edges = np.linspace(low, high if high > low else low + 1, INTERVALS + 1)
    inside = (true >= edges[0]) & (true <= edges[-1])
    place = np.clip(np.searchsorted(edges, true, side="right") - 1, 0, INTERVALS - 1)
    rows = []
    for number in range(INTERVALS):
        part = values[inside & (place == number)]
        if len(part) >= max(fewest, 1):
            low_part, median, high_part = np.quantile(part, (0.16, 0.5, 0.84))
            rows.append((edges[number], edges[number + 1], len(part), median, low_part, high_part))
    return pd.DataFrame(rows, columns=columns).astype({"galaxies": int})
