"""Negative controls: what a network is trained on where nothing should tell it the redshift of its galaxy."""

import numpy as np
import pandas as pd

from sdss_photoz.cubes.store import load_cubes, open_store
from sdss_photoz.evaluation.domain import from_centre
from sdss_photoz.evaluation.residuals import MAD_TO_SIGMA
from sdss_photoz.survey import CUBE_SIZE, PIXEL_SCALE
from sdss_photoz.training.order import random_words

RADIUS = CUBE_SIZE / 2 * PIXEL_SCALE  # arcsec: the largest disc; a smaller one leaves the photons of bright galaxies
SHUFFLE = 4  # the last number of the key of `random_words`: order and symmetries have those below


def load_cubes_for(store, rows, digest: str | None = None, without_target: bool = False) -> np.ndarray:
    """As `cubes.store.load_cubes`, on request without the galaxies that the cubes are centred on."""
    cubes = load_cubes(store, rows, digest)
    return without_targets(cubes, open_store(store)["object_id"][:][rows]) if without_target else cubes


def without_targets(cubes: np.ndarray, object_id: np.ndarray) -> np.ndarray:
    """Cubes without the galaxies that they are centred on.

    Each image has itself, turned by 180 degrees, subtracted, and is divided by the square root of 2. Light that is
    symmetric about the centre is gone; the noise keeps its size and correlations; what else is in the image stays, with
    a negative twin. What would still tell of the galaxy is the noise of its own photons, and where it was not quite
    central: so the largest disc that the image holds, 12.7 arcsec in radius, is filled with Gaussian noise, whose width
    is that of the pixels outside the disc, by their median. It is a pure function of the object id.

    Parameters
    ----------
    cubes : ndarray
        (galaxy, y, x, band) float32, nanomaggies, zero where no frame covers the pixel.
    object_id : ndarray
        (galaxy,) int64.

    Returns
    -------
    ndarray
        The same shape, float32; zero where no frame covers the pixel or the one opposite.
    """
    turned = cubes[:, ::-1, ::-1]
    covered = (cubes != 0) & (turned != 0)
    left = np.where(covered, (cubes - turned) / np.float32(np.sqrt(2)), np.float32(0))
    disc = from_centre() <= RADIUS
    half = ~disc & (np.arange(len(disc)) < len(disc) // 2)[:, None]  # the other half has the same numbers, negative
    for image, there, galaxy in zip(left, covered, object_id.tolist(), strict=True):
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence(galaxy)))
        noise = random.standard_normal((int(disc.sum()), image.shape[-1]), dtype=np.float32)
        image[disc] = noise * _width(image[half], there[half]) * there[disc]
    return left


def _width(values: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Width (band,) float32 of the noise in pixels (pixel, band) that scatter about zero; 0 without any."""
    sizes = [np.abs(values[covered[:, band], band]) for band in range(values.shape[1])]
    return np.array([MAD_TO_SIGMA * np.median(size) if len(size) else 0 for size in sizes], np.float32)


def shuffled(chosen: dict[str, pd.DataFrame], seed: int, fold: int) -> dict[str, pd.DataFrame]:
    """Galaxies that train and validate, each with the redshift of another of them.

    Parameters
    ----------
    chosen : dict
        Tables with the column z_spec, by role.
    seed, fold : int
        What the shuffle follows from: all members of a fold learn from the same one.

    Returns
    -------
    dict
        The same tables with other redshifts.
    """
    z = np.concatenate([table["z_spec"] for table in chosen.values()])
    z = z[np.argsort(random_words(seed, fold, 0, 0, SHUFFLE, count=len(z)), kind="stable")]
    parts = np.split(z, np.cumsum([len(table) for table in chosen.values()])[:-1])
    return {role: chosen[role].assign(z_spec=part) for role, part in zip(chosen, parts, strict=True)}
