"""Neighbours in a galaxy's image: other positions of the same table, and sources brighter than the galaxy."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import uniform_filter

from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.surveys.sphere import pairs_within, unit_vectors

REACH = 17.0  # arcsec: a cube's half diagonal is 17.9
ONE_GALAXY = 1.0  # arcsec: positions no farther apart are the same galaxy's
CENTRE = 2.0  # arcsec: the galaxy's own peak lies no farther from the position
BESIDE = 4.0  # arcsec: a brighter peak farther away is another source


def has_position_beside(ra: ArrayLike, dec: ArrayLike) -> np.ndarray:
    """Whether another position lies farther than 1 and no farther than 17 arcsec: (position,) bool.

    Parameters
    ----------
    ra, dec : array_like
        (position,) degrees.
    """
    pairs = pairs_within(ra, dec, REACH)
    vectors = unit_vectors(ra, dec)
    chord = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1)
    found = np.zeros(len(vectors), dtype=bool)
    found[pairs[chord > np.radians(ONE_GALAXY / 3600)]] = True
    return found


def has_brighter_beside(cubes: np.ndarray, grid: PixelGrid = CUBE) -> np.ndarray:
    """Whether a source outshines the galaxy in its own image of r or, without r, of the middle band: (galaxy,) bool.

    True where the largest mean of 3 x 3 pixels at 4 to 17 arcsec from the centre exceeds the largest within 2 arcsec.
    In cubes without a pixel at 4 arcsec no source beside is seen.

    Parameters
    ----------
    cubes : ndarray
        (galaxy, y, x, band), nanomaggies, zero where no frame covers the pixel.
    grid : PixelGrid
        Pixels and bands of the cubes.
    """
    smooth = uniform_filter(cubes[..., grid.index(grid.main_band)], size=(1, 3, 3), mode="constant")
    distance = grid.from_centre()
    centre = smooth[:, distance <= CENTRE].max(axis=1)
    return smooth[:, (distance > BESIDE) & (distance <= REACH)].max(axis=1, initial=-np.inf) > centre
