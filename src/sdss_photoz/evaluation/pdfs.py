"""Redshift distributions as histograms: PIT, CRPS, widths and point estimates by exact formulas.

A distribution is a row of probabilities in equal bins between 0 and `Z_RANGE`. Its density is constant within a bin, so
its cumulative distribution F is piecewise linear between the bin edges; every integral below is that of F, in closed
form.
"""

import numpy as np

Z_RANGE = 0.4  # the paper's bins end there


def bin_edges(bins: int = 180) -> np.ndarray:
    """Edges k 0.4 / bins of the redshift bins, float64 (bins + 1,)."""
    return np.arange(bins + 1) * (Z_RANGE / bins)


def bin_centres(bins: int = 180) -> np.ndarray:
    """Centres of the redshift bins, float64 (bins,)."""
    return (np.arange(bins) + 0.5) * (Z_RANGE / bins)


def normalise(pdf) -> np.ndarray:
    """Probabilities as float64 that sum to 1 along the last axis.

    Raises
    ------
    ValueError
        Where a probability is negative or not finite, or a row sums to 0.
    """
    pdf = np.asarray(pdf, dtype=np.float64)
    total = pdf.sum(axis=-1, keepdims=True)
    if not (np.isfinite(total).all() and (total > 0).all() and (pdf >= 0).all()):
        raise ValueError("a distribution holds probabilities that are negative, not finite, or all 0")
    return pdf / total


def average(members) -> np.ndarray:
    """The ensemble's distribution: the mean of its members' probabilities, in float64.

    Parameters
    ----------
    members : array_like (member, galaxy, bin)

    Returns
    -------
    ndarray (galaxy, bin), float64
    """
    members = np.asarray(members)
    mean = np.zeros(members.shape[1:])
    for member in members:
        mean += normalise(member)
    return mean / len(members)


def cumulative(pdf) -> np.ndarray:
    """F at the bin edges, float64 (galaxy, bins + 1), from 0 to exactly 1.

    Parameters
    ----------
    pdf : array_like (galaxy, bin)
        Probabilities; rows are normalised first.
    """
    pdf = normalise(pdf)
    cdf = np.zeros((*pdf.shape[:-1], pdf.shape[-1] + 1))
    np.cumsum(pdf, axis=-1, out=cdf[..., 1:])
    cdf /= cdf[..., -1:]
    return cdf


def _bin_of(z, bins):
    """Index of the bin that holds z, and the position of z in it between 0 and 1; both clipped to the range."""
    position = np.clip(np.asarray(z, dtype=np.float64) * (bins / Z_RANGE), 0, bins)
    index = np.minimum(position.astype(np.int64), bins - 1)
    return index, position - index


def pit(pdf, z) -> np.ndarray:
    """Probability integral transform F(z), float64 (galaxy,).

    Parameters
    ----------
    pdf : array_like (galaxy, bin)
    z : array_like (galaxy,)
        Spectroscopic redshifts.
    """
    cdf = cumulative(pdf)
    rows = np.arange(len(cdf))
    index, part = _bin_of(z, cdf.shape[1] - 1)
    below = cdf[rows, index]
    return below + part * (cdf[rows, index + 1] - below)


def crps(pdf, z) -> np.ndarray:
    """Continuous ranked probability score, the integral of (F(x) - [x >= z])^2 dx, float64 (galaxy,), in redshift.

    Over a stretch of length h in which F runs linearly from a to b, the integral of F^2 is h (a^2 + a b + b^2) / 3; the
    upper part uses 1 - F summed from above, so that no digits are lost in the wings. A redshift outside of [0, 0.4]
    adds its distance from the range.

    Parameters
    ----------
    pdf : array_like (galaxy, bin)
    z : array_like (galaxy,)
        Spectroscopic redshifts.

    References
    ----------
    Hersbach 2000, Weather and Forecasting 15, 559.
    """
    pdf = normalise(pdf)
    z = np.asarray(z, dtype=np.float64)
    count, bins = pdf.shape
    step = Z_RANGE / bins
    below, above = np.zeros((count, bins + 1)), np.zeros((count, bins + 1))
    np.cumsum(pdf, axis=1, out=below[:, 1:])
    np.cumsum(pdf[:, ::-1], axis=1, out=above[:, 1:])
    above = above[:, ::-1]

    index, part = _bin_of(z, bins)
    number = np.arange(bins)
    squares = np.where(
        number < index[:, None],
        _mean_square(below[:, :-1], below[:, 1:]),
        np.where(number > index[:, None], _mean_square(above[:, :-1], above[:, 1:]), 0),
    )
    rows = np.arange(count)
    inside = pdf[rows, index]
    lower, upper = below[rows, index], above[rows, index + 1]
    split = part * _mean_square(lower, lower + part * inside)
    split += (1 - part) * _mean_square(upper + (1 - part) * inside, upper)
    outside = np.maximum(z - Z_RANGE, 0) + np.maximum(-z, 0)
    return step * (squares.sum(axis=1) + split) + outside


def _mean_square(a, b):
    """Mean of the square of a line that runs from a to b."""
    return (a * a + a * b + b * b) / 3


def quantile(pdf, probability: float) -> np.ndarray:
    """Redshift below which a distribution holds `probability`, float64 (galaxy,).

    Where F is flat at that height, the upper end of the flat stretch.
    """
    cdf = cumulative(pdf)
    bins = cdf.shape[1] - 1
    index = (cdf[:, 1:-1] <= probability).sum(axis=1)
    rows = np.arange(len(cdf))
    below, above = cdf[rows, index], cdf[rows, index + 1]
    return (index + (probability - below) / (above - below)) * (Z_RANGE / bins)


def width(pdf, probability: float = 0.68) -> np.ndarray:
    """Width of the central interval that holds `probability`, float64 (galaxy,): z(0.84) - z(0.16) for 0.68."""
    tail = (1 - probability) / 2
    return quantile(pdf, 1 - tail) - quantile(pdf, tail)


def point_estimate(pdf, values=None) -> np.ndarray:
    """z_phot: sum over bins of centre x probability, float64 (galaxy,); with `values` (bin,), of those instead."""
    pdf = normalise(pdf)
    return pdf @ (bin_centres(pdf.shape[-1]) if values is None else np.asarray(values))


def regressed_values(pdf, z) -> np.ndarray:
    """Redshift that each bin best stands for in a point estimate, float64 (bin,), learned from galaxies of known z.

    Ridge regression of redshifts on probabilities that pulls towards the centres of the bins, so that bins in which
    nothing is learned keep theirs. Its strength is that of the least squared error when each galaxy is left out in turn
    (Golub, Heath & Wahba 1979).

    Parameters
    ----------
    pdf : array_like (galaxy, bin)
    z : array_like (galaxy,)
        Spectroscopic redshifts.
    """
    pdf = normalise(pdf)
    centres = bin_centres(pdf.shape[-1])
    left, scale, right = np.linalg.svd(pdf, full_matrices=False)
    residuals = np.asarray(z, dtype=np.float64) - pdf @ centres
    along = left.T @ residuals

    def error(strength):
        kept = scale**2 / (scale**2 + strength)
        return np.mean(((residuals - left @ (kept * along)) / (1 - left**2 @ kept)) ** 2)

    strength = min(scale[0] ** 2 * np.logspace(-6, 2, 17), key=error)
    return centres + right.T @ (scale / (scale**2 + strength) * along)
