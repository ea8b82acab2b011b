"""Scores of the probability of yes: ROC curve, completeness and purity, calibration, Brier score."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

THRESHOLD = 0.5  # from which on a galaxy counts as yes
INTERVALS = 10  # of the probability, in a table of its calibration


def scores(probability: np.ndarray, yes: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve, completeness and purity at 0.5, and Brier score.

    Parameters
    ----------
    probability : ndarray (galaxy,)
        Probability of yes.
    yes : ndarray (galaxy,), bool
        The truth.

    Returns
    -------
    dict
        ``auc``: the probability that a yes has the higher probability of a random yes and a random no (ties count
        half); ``completeness``, the fraction of yes with a probability of 0.5 or more; ``purity``, the fraction of yes
        among those; ``brier``, the mean of (probability - truth)^2 (Brier 1950). A score that is not defined, without a
        galaxy of either kind, is NaN.
    """
    probability, yes = np.asarray(probability, dtype=np.float64), np.asarray(yes, dtype=bool)
    taken = probability >= THRESHOLD
    right = float(np.sum(taken & yes))
    return {
        "auc": auc(probability, yes),
        "completeness": _ratio(right, yes.sum()),
        "purity": _ratio(right, taken.sum()),
        "brier": float(np.mean((probability - yes) ** 2)),
    }


def _ratio(count, of) -> float:
    return float(count / of) if of else float("nan")


def auc(probability: ArrayLike, yes: ArrayLike) -> float:
    """Area under the ROC curve, from the ranks of the probabilities (Mann & Whitney 1947); NaN without both kinds."""
    yes = np.asarray(yes, dtype=bool)
    positive, negative = int(yes.sum()), int((~yes).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(probability)[yes].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def selection(probability: ArrayLike, yes: ArrayLike, thresholds: ArrayLike | None = None) -> pd.DataFrame:
    """What a selection of all galaxies from some probability on holds.

    Parameters
    ----------
    probability : array_like (galaxy,)
    yes : array_like (galaxy,), bool
    thresholds : array_like, optional
        Default: infinity, which selects nothing, and each probability that occurs, from the highest to the lowest.

    Returns
    -------
    DataFrame
        A row for each threshold: threshold; selected, galaxies with at least that probability; completeness, the
        fraction of all yes that is selected (the true positive rate); purity, the fraction of yes among the selected;
        false_positive_rate, the fraction of all no that is selected. What is not defined is NaN.
    """
    probability, yes = np.asarray(probability, dtype=np.float64), np.asarray(yes, dtype=bool)
    if thresholds is None:
        thresholds = np.append(np.inf, np.unique(probability)[::-1])
    thresholds = np.asarray(thresholds, dtype=np.float64)
    order = np.argsort(probability, kind="stable")
    selected = len(order) - np.searchsorted(probability[order], thresholds, side="left")
    right = np.append(0, np.cumsum(yes[order][::-1]))[selected]
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "threshold": thresholds,
                "selected": selected,
                "completeness": right / yes.sum(),
                "purity": right / selected,
                "false_positive_rate": (selected - right) / (~yes).sum(),
            }
        )


def reliability(probability: ArrayLike, yes: ArrayLike, intervals: int = INTERVALS) -> pd.DataFrame:
    """Fraction of yes in equal intervals of the probability; that of calibrated probabilities is their mean.

    Parameters
    ----------
    probability : array_like (galaxy,)
        From 0 to 1.
    yes : array_like (galaxy,), bool
    intervals : int

    Returns
    -------
    DataFrame
        low, high; galaxies; probability, their mean; yes, the fraction of yes; error, the standard deviation of that
        fraction if the probabilities were calibrated, sqrt(sum of p (1 - p)) / galaxies. NaN in empty intervals.
    """
    probability, yes = np.asarray(probability, dtype=np.float64), np.asarray(yes, dtype=bool)
    place = np.clip((probability * intervals).astype(np.int64), 0, intervals - 1)
    total = [
        np.bincount(place, weights, intervals) for weights in (None, probability, yes, probability * (1 - probability))
    ]
    edges = np.arange(intervals + 1) / intervals
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "low": edges[:-1],
                "high": edges[1:],
                "galaxies": total[0],
                "probability": total[1] / total[0],
                "yes": total[2] / total[0],
                "error": np.sqrt(total[3]) / total[0],
            }
        )
