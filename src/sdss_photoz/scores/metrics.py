"""Scores of photometric redshifts; and errors of any scores, by bootstrap over cells of the sky."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
from astropy import units as u
from astropy_healpix import lonlat_to_healpix
from numpy.typing import ArrayLike

from sdss_photoz.errors import UserError
from sdss_photoz.scores.residuals import sigma_mad

SCORES = ("bias", "sigma_mad", "outliers", "crps")
OUTLIER = 0.05


def scores(dz: np.ndarray, crps: np.ndarray | None = None, outlier: float = OUTLIER) -> dict[str, float]:
    """Bias, sigma_MAD, outlier fraction and mean CRPS as Pasquet et al. 2018 (section 4) define them.

    Parameters
    ----------
    dz : ndarray (galaxy,)
        Residuals of `residuals.residuals`.
    crps : ndarray (galaxy,), optional
        Scores of the distributions; a method without distributions has none.
    outlier : float
        |dz| above which a galaxy is an outlier.

    Returns
    -------
    dict
        ``bias`` = mean of dz; ``sigma_mad``; ``outliers`` = fraction with |dz| > `outlier`; ``crps`` where given.
    """
    result = {
        "bias": float(np.mean(dz)),
        "sigma_mad": sigma_mad(dz),
        "outliers": float(np.mean(np.abs(dz) > outlier)),
    }
    if crps is not None:
        result["crps"] = float(np.mean(crps))
    return result


def sky_cells(ra: ArrayLike, dec: ArrayLike, nside: int) -> np.ndarray:
    """Number (0, 1, ...) of the HEALPix cell (nested) of each position, int64 (galaxy,).

    Parameters
    ----------
    ra, dec : array_like (galaxy,)
        Degrees.
    nside : int
        HEALPix NSIDE, a power of two: cells are 58.6 / NSIDE degrees wide.

    Raises
    ------
    UserError
        Where NSIDE is not a power of two.
    """
    if nside < 1 or nside & (nside - 1):
        raise UserError(f"the NSIDE of the bootstrap's sky cells is {nside}, but must be a power of two.")
    pixels = lonlat_to_healpix(np.asarray(ra) * u.deg, np.asarray(dec) * u.deg, nside, order="nested")
    return np.unique(pixels, return_inverse=True)[1]


def bootstrap(
    score: Callable[[np.ndarray], Mapping[str, float]], cells: np.ndarray, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Scores of resamples of the sky: cells are drawn with replacement, each with all of its galaxies.

    Parameters
    ----------
    score : callable
        Takes row indices (int64, each repeated as often as its cell was drawn) and returns named numbers. Scores of one
        call are of one resample, so the error of a paired difference is the scatter of a difference that it returns.
    cells : ndarray (galaxy,), int64
        Cell of each galaxy, numbered from 0.
    resamples : int
        Number of resamples.
    seed : int
        The same seed draws the same cells.

    Returns
    -------
    dict of ndarray (resamples,)
        By the names that `score` returns.
    """
    cells = np.asarray(cells)
    count = int(cells.max()) + 1
    random = np.random.default_rng(seed)
    rows = np.arange(len(cells))
    drawn: dict[str, list] = {}
    while len(next(iter(drawn.values()), ())) < resamples:
        repeats = np.bincount(random.integers(count, size=count), minlength=count)[cells]
        if not repeats.any():
            continue  # cells without galaxies can leave a resample empty
        for name, value in score(np.repeat(rows, repeats)).items():
            drawn.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in drawn.items()}


def compare(
    methods: Mapping[str, Mapping[str, np.ndarray]],
    cells: np.ndarray,
    *,
    pairs: Iterable[tuple[str, str]] = (),
    repeat: np.ndarray | None = None,
    outlier: float = OUTLIER,
    score: Callable[..., dict[str, float]] | None = None,
    resamples: int = 300,
    seed: int = 0,
) -> dict:
    """Scores of several methods on the same galaxies, with errors, and the differences of pairs with theirs.

    Parameters
    ----------
    methods : mapping of name to mapping
        Each method's ``dz`` and, where it has distributions, ``crps``: ndarray (galaxy,), the same galaxies in all.
        With `score` its arguments by name.
    cells : ndarray (galaxy,)
        Sky cell of each galaxy, numbered from 0.
    pairs : iterable of (name, name)
        Differences first - second to take on the same resamples.
    repeat : ndarray (galaxy,), optional
        Repeat of the trial that each row belongs to: a score is then the mean of the repeats' scores, so that a galaxy
        that was predicted twice does not count as two.
    outlier, resamples, seed
        As in `scores` and `bootstrap`.
    score : callable, optional
        Takes the arrays of one method, by name, and returns its scores: `values.scores`, `yes_no.scores`. Default:
        `scores`, with `outlier`.

    Returns
    -------
    dict
        ``scores``: {method: {score: {"value", "error"}}}; ``differences``: {"a - b": {score: {"value", "error"}}}.
        An error is the standard deviation over resamples, without those in which the score is not defined (NaN); None
        where the galaxies lie in a single cell. A value that is not defined is None.
    """
    pairs = list(pairs)
    repeat = np.zeros(len(cells), dtype=np.int64) if repeat is None else np.asarray(repeat)
    repeats = np.unique(repeat)
    score = partial(scores, outlier=outlier) if score is None else score

    def all_scores(rows):
        found = {}
        parts = [rows] if len(repeats) == 1 else [rows[repeat[rows] == number] for number in repeats]
        for name, method in methods.items():
            each = [score(**{key: values[part] for key, values in method.items()}) for part in parts if len(part)]
            for key in each[0]:
                found[name, key] = float(np.mean([one[key] for one in each]))
        for a, b in pairs:
            for key in [key for name, key in found if name == a]:
                if (b, key) in found:
                    found[f"{a} - {b}", key] = found[a, key] - found[b, key]
        return found

    values = all_scores(np.arange(len(cells)))
    several = np.max(cells) > 0
    resampled = bootstrap(all_scores, cells, resamples, seed) if several else {}
    result: dict = {"scores": {}, "differences": {}}
    for (name, key), value in values.items():
        error = _deviation(resampled[name, key]) if several and not np.isnan(value) else None
        value = None if np.isnan(value) else value
        group = result["scores" if name in methods else "differences"]
        group.setdefault(name, {})[key] = {"value": value, "error": error}
    return result


def _deviation(values: np.ndarray) -> float | None:
    """Standard deviation of numbers without those that are NaN; None of fewer than two."""
    values = values[~np.isnan(values)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
