"""Negative controls: training data that hold no information on the redshifts of the galaxies."""

import numpy as np
import pandas as pd

from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import open_store
from sdss_photoz.scores.residuals import MAD_TO_SIGMA
from sdss_photoz.surveys import PixelGrid
from sdss_photoz.training.data.order import random_words

SHUFFLE = 4  # the last number of the key of `random_words`


def load_cubes_for(store, rows, digest: str | None = None, without_target: bool = False) -> np.ndarray:
    """Load cubes of a store, NaN where uncovered; on request without central galaxies (`without_targets`)."""
    cubes = load_cubes(store, rows, digest, uncovered=np.nan)
    return without_targets(cubes, open_store(store)["object_id"][:][rows]) if without_target else cubes


def without_targets(cubes: np.ndarray, object_id: np.ndarray) -> np.ndarray:
    """Remove the central galaxies from cubes.

    Each image, rotated by 180 degrees, is subtracted from itself, and the difference divided by the square root of 2.
    Light that is symmetric about the centre is removed; the noise keeps its amplitude and correlations; other objects
    stay, with a negative mirror image. The galaxy's photon noise and residuals of its asymmetry would remain: so the
    largest disc of the image, 12.7 arcsec in radius by default, is filled with Gaussian noise, whose width is that of
    the pixels outside the disc, from their median absolute value. Its seed is the object id.

    Parameters
    ----------
    cubes : ndarray
        (galaxy, y, x, band) float32, nanomaggies, NaN in pixels without coverage.
    object_id : ndarray
        (galaxy,) int64.

    Returns
    -------
    ndarray
        The same shape, float32; NaN in pixels without coverage, or whose opposite pixel has none.
    """
    rotated = cubes[:, ::-1, ::-1]
    residual = (cubes - rotated) / np.float32(np.sqrt(2))
    covered = ~np.isnan(residual)
    size = cubes.shape[1]
    disc = PixelGrid(size, 1.0, ()).from_centre() <= size / 2  # bright galaxies reach beyond a smaller one
    half = ~disc & (np.arange(len(disc)) < len(disc) // 2)[:, None]  # the other half is its negative
    for image, has_flux, galaxy in zip(residual, covered, object_id.tolist(), strict=True):
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence(galaxy)))
        noise = random.standard_normal((int(disc.sum()), image.shape[-1]), dtype=np.float32)
        image[disc] = np.where(has_flux[disc], noise * _noise_width(image[half], has_flux[half]), np.float32(np.nan))
    return residual


def _noise_width(values: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Standard deviation (band,) float32 of noise of mean 0 in pixels (pixel, band), by the median; 0 without any."""
    sizes = [np.abs(values[covered[:, band], band]) for band in range(values.shape[1])]
    return np.array([MAD_TO_SIGMA * np.median(size) if len(size) else 0 for size in sizes], np.float32)


def shuffled(chosen: dict[str, pd.DataFrame], seed: int, fold: int, column: str = "z_spec") -> dict[str, pd.DataFrame]:
    """Permute the redshifts of the training and validation galaxies, or another column.

    Parameters
    ----------
    chosen : dict
        Tables with the column, by role.
    seed, fold : int
        Key of the permutation, which is the same for all members of a fold.

    Returns
    -------
    dict
        The same tables with permuted values of the column.
    """
    values = np.concatenate([table[column] for table in chosen.values()])
    values = values[np.argsort(random_words(seed, fold, 0, 0, SHUFFLE, count=len(values)), kind="stable")]
    parts = np.split(values, np.cumsum([len(table) for table in chosen.values()])[:-1])
    return {role: chosen[role].assign(**{column: part}) for role, part in zip(chosen, parts, strict=True)}
