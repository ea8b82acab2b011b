"""Redshift distributions as histograms: PIT, CRPS, widths and point estimates by exact formulas.

A distribution is a row of probabilities in equal bins, those of a `Grid`. Its density is constant within a bin, so
its cumulative distribution F is piecewise linear between the bin edges; every integral below is that of F, in closed
form.
"""

import numpy as np
from numpy.typing import ArrayLike

from sdss_photoz.scores.grid import Grid


def normalise(pdf: ArrayLike) -> np.ndarray:
    """Probabilities scaled to a sum of 1 along the last axis, float64.

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


def average(members: ArrayLike) -> np.ndarray:
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


def cumulative(pdf: ArrayLike) -> np.ndarray:
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


def _grid(grid: Grid | None, pdf) -> Grid:
    return Grid(bins=np.shape(pdf)[-1]) if grid is None else grid


def pit(pdf: ArrayLike, z: ArrayLike, grid: Grid | None = None) -> np.ndarray:
    """Probability integral transform F(z), float64 (galaxy,).

    Parameters
    ----------
    pdf : array_like (galaxy, bin)
    z : array_like (galaxy,)
        Spectroscopic redshifts.
    grid : Grid, optional
        The bins; by default equal bins from 0 to 0.4, as many as there are probabilities.
    """
    cdf = cumulative(pdf)
    rows = np.arange(len(cdf))
    index, fraction = _grid(grid, pdf).place(z)
    below = cdf[rows, index]
    return below + fraction * (cdf[rows, index + 1] - below)


def crps(pdf: ArrayLike, z: ArrayLike, grid: Grid | None = None) -> np.ndarray:
    """Continuous ranked probability score, the integral of (F(x) - [x >= z])^2 dx, float64 (galaxy,), in redshift.

    Over an interval of length h in which F is linear from a to b, the integral of F^2 is h (a^2 + a b + b^2) / 3; the
    upper part uses 1 - F summed from above, so that no digits are lost in the wings. For a redshift outside
    of the grid its distance from the grid is added.

    Parameters
    ----------
    pdf : array_like (galaxy, bin)
    z : array_like (galaxy,)
        Spectroscopic redshifts.
    grid : Grid, optional
        The bins; by default equal bins from 0 to 0.4, as many as there are probabilities.

    References
    ----------
    Hersbach 2000, Weather and Forecasting 15, 559.
    """
    pdf = normalise(pdf)
    z = np.asarray(z, dtype=np.float64)
    count, bins = pdf.shape
    grid = _grid(grid, pdf)
    below, above = np.zeros((count, bins + 1)), np.zeros((count, bins + 1))
    np.cumsum(pdf, axis=1, out=below[:, 1:])
    np.cumsum(pdf[:, ::-1], axis=1, out=above[:, 1:])
    above = above[:, ::-1]

    index, fraction = grid.place(z)
    number = np.arange(bins)
    squares = np.where(
        number < index[:, None],
        _mean_square(below[:, :-1], below[:, 1:]),
        np.where(number > index[:, None], _mean_square(above[:, :-1], above[:, 1:]), 0),
    )
    rows = np.arange(count)
    inside = pdf[rows, index]
    lower, upper = below[rows, index], above[rows, index + 1]
    split = fraction * _mean_square(lower, lower + fraction * inside)
    split += (1 - fraction) * _mean_square(upper + (1 - fraction) * inside, upper)
    outside = np.maximum(z - grid.high, 0) + np.maximum(grid.low - z, 0)
    return grid.step * (squares.sum(axis=1) + split) + outside


def _mean_square(a, b):
    """Mean of the square of a linear function from a to b."""
    return (a * a + a * b + b * b) / 3


def quantile(pdf: ArrayLike, probability: float, grid: Grid | None = None) -> np.ndarray:
    """Redshift below which a distribution holds `probability`, float64 (galaxy,).

    Where F is flat at that height, the upper end of the flat interval.
    """
    cdf, grid = cumulative(pdf), _grid(grid, pdf)
    index = (cdf[:, 1:-1] <= probability).sum(axis=1)
    rows = np.arange(len(cdf))
    below, above = cdf[rows, index], cdf[rows, index + 1]
    return grid.low + (index + (probability - below) / (above - below)) * grid.step


def width(pdf: ArrayLike, probability: float = 0.68, grid: Grid | None = None) -> np.ndarray:
    """Width of the central interval that holds `probability`, float64 (galaxy,): z(0.84) - z(0.16) for 0.68."""
    tail = (1 - probability) / 2
    return quantile(pdf, 1 - tail, grid) - quantile(pdf, tail, grid)


def point_estimate(pdf: ArrayLike, values: ArrayLike | None = None, grid: Grid | None = None) -> np.ndarray:
    """z_phot: sum over bins of centre x probability, float64 (galaxy,); `values` (bin,) replace the centres."""
    pdf = normalise(pdf)
    return pdf @ (_grid(grid, pdf).centres() if values is None else np.asarray(values))


def regressed_values(pdf: ArrayLike, z: ArrayLike, grid: Grid | None = None) -> np.ndarray:
    """Redshift of each bin for `point_estimate`, float64 (bin,), fitted to galaxies of known redshift.

    Ridge regression of redshifts on probabilities, shrunk towards the centres of the bins: a bin without probability
    keeps its centre. The regularisation is that of the least leave-one-out squared error (Golub, Heath & Wahba 1979).

    Parameters
    ----------
    pdf : array_like (galaxy, bin)
    z : array_like (galaxy,)
        Spectroscopic redshifts.
    grid : Grid, optional
        The bins; by default equal bins from 0 to 0.4, as many as there are probabilities.
    """
    pdf = normalise(pdf)
    centres = _grid(grid, pdf).centres()
    left, scale, right = np.linalg.svd(pdf, full_matrices=False)
    residuals = np.asarray(z, dtype=np.float64) - pdf @ centres
    along = left.T @ residuals

    def error(strength):
        kept = scale**2 / (scale**2 + strength)
        return np.mean(((residuals - left @ (kept * along)) / (1 - left**2 @ kept)) ** 2)

    strength = min(scale[0] ** 2 * np.logspace(-6, 2, 17), key=error)
    return centres + right.T @ (scale / (scale**2 + strength) * along)
