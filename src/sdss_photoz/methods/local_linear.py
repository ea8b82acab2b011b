"""Local-linear regression on catalogue photometry, as the survey's own photometric redshifts are made."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from sdss_photoz.config import Evaluation
from sdss_photoz.cubes.quality import bands_of
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.survey import main_band

QUERIES = 4096  # galaxies fitted at a time: 100 neighbours of 6 columns in float64 are 20 MB
CLIP = 3.0  # neighbours further than this many rms from the first fit leave the second
RIDGE = 1e-9  # of the trace: keeps neighbourhoods of equal galaxies solvable


def features(galaxies: pd.DataFrame, quality: Sequence[Path], fields: Path | None) -> np.ndarray:
    """`beck_features` of the sample in the bands of its cubes, float64 (galaxy, feature)."""
    return beck_features(galaxies, bands_of(quality))


def estimate(train: np.ndarray, train_z: np.ndarray, test: np.ndarray, settings: Evaluation) -> dict[str, np.ndarray]:
    """``z_phot_local_linear``, and ``features_missing``: whether a feature of the galaxy is not finite."""
    return {
        "z_phot_local_linear": local_linear(train, train_z, test, settings.neighbours),
        "features_missing": ~np.isfinite(test).all(axis=1),
    }


def beck_features(galaxies: pd.DataFrame, bands: Sequence[str] = SDSS.band_names) -> np.ndarray:
    """The five features of Beck et al. 2016: dereddened model r, u-g, g-r, r-i, i-z (mag), float64 (galaxy, 5).

    With fewer bands, r or the middle one, and the colours of neighbouring bands: float64 (galaxy, band).

    Parameters
    ----------
    galaxies : DataFrame
        With columns ``model_mag_{b}`` and ``extinction_{b}`` for each band. NaN stays NaN.
    bands : sequence of str
        In the survey's order.

    Raises
    ------
    UserError
        Where a column is missing.
    """
    needed = [f"{kind}_{band}" for kind in ("model_mag", "extinction") for band in bands]
    missing = [column for column in needed if column not in galaxies]
    if missing:
        raise UserError(
            f"the table of galaxies has no column {missing[0]}, which local-linear regression needs: "
            "query the galaxies again."
        )
    magnitude = {
        b: galaxies[f"model_mag_{b}"].to_numpy(np.float64) - galaxies[f"extinction_{b}"].to_numpy(np.float64)
        for b in bands
    }
    colours = [magnitude[first] - magnitude[second] for first, second in pairwise(bands)]
    return np.column_stack([magnitude[main_band(bands)], *colours])


def local_linear(
    train_features: ArrayLike, train_z: ArrayLike, features: ArrayLike, neighbours: int = 100
) -> np.ndarray:
    """Redshift of each galaxy from a linear fit to its nearest training galaxies.

    Features are scaled to zero mean and unit variance of the training set; neighbours are the nearest in the Euclidean
    metric there. A plane is fitted to their redshifts by least squares; neighbours more than three rms off it are
    dropped and the plane is fitted again (Beck et al. 2016, MNRAS 460, 1371, section 3). A missing feature (NaN) is
    replaced by the training set's mean, so that every galaxy has a redshift.

    Parameters
    ----------
    train_features : array_like (training galaxy, feature)
    train_z : array_like (training galaxy,)
        Spectroscopic redshifts.
    features : array_like (galaxy, feature)
    neighbours : int
        Number of neighbours; all training galaxies where there are fewer.

    Returns
    -------
    ndarray (galaxy,), float64

    Raises
    ------
    UserError
        Where there are too few training galaxies for a fit.
    """
    train_features, features = (np.asarray(table, dtype=np.float64) for table in (train_features, features))
    train_z = np.asarray(train_z, dtype=np.float64)
    least = 2 * (features.shape[1] + 1)
    if len(train_z) < least:
        raise UserError(f"local-linear regression needs {least} training galaxies, but the fold has {len(train_z)}.")
    mean, scale = np.nanmean(train_features, axis=0), np.nanstd(train_features, axis=0)
    scale[scale == 0] = 1
    train_x, x = (np.nan_to_num((table - mean) / scale, nan=0.0) for table in (train_features, features))
    tree = cKDTree(train_x)
    found = np.empty(len(x))
    for start in range(0, len(x), QUERIES):
        part = slice(start, start + QUERIES)
        _, near = tree.query(x[part], k=min(neighbours, len(train_z)))
        found[part] = _clipped_fit(train_x[near] - x[part, None, :], train_z[near])
    return found


def _clipped_fit(offsets, z):
    """Value at offset 0 of planes fitted to z (galaxy, neighbour), outliers clipped between two fits: (galaxy,)."""
    ones = np.ones((*z.shape, 1))
    design = np.concatenate([ones, offsets / np.sqrt(np.mean(offsets**2, axis=1, keepdims=True) + 1e-30)], axis=2)
    kept = np.ones_like(z)
    plane = _weighted_fit(design, z, kept)
    deviation = np.abs(z - _values(design, plane))
    rms = np.sqrt(np.mean(deviation**2, axis=1, keepdims=True))
    return _weighted_fit(design, z, (deviation <= CLIP * rms).astype(float))[:, 0]


def _weighted_fit(design, z, weights):
    transposed = (design * weights[..., None]).transpose(0, 2, 1)
    normal = transposed @ design
    size = normal.shape[-1]
    normal += RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(size)
    return np.linalg.solve(normal, transposed @ z[..., None])[..., 0]


def _values(design, plane):
    return (design @ plane[..., None])[..., 0]
