"""What shares a galaxy's image: other positions of the same table, and sources brighter than the galaxy."""

import numpy as np
from scipy.ndimage import uniform_filter

from sdss_photoz.evaluation.domain import from_centre
from sdss_photoz.sample.linking import pairs_within, unit_vectors
from sdss_photoz.survey import BANDS

REACH = 17.0  # arcsec: a cube's half diagonal is 17.9
ONE_GALAXY = 1.0  # arcsec: positions no farther apart are the same galaxy's
CENTRE = 2.0  # arcsec: the galaxy's own brightest place lies no farther from the position
BESIDE = 4.0  # arcsec: what is brighter beyond is no part of the galaxy


def has_position_beside(ra, dec) -> np.ndarray:
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


def has_brighter_beside(cubes: np.ndarray) -> np.ndarray:
    """Whether a source outshines the galaxy in its own r image: (galaxy,) bool.

    That is where the brightest mean of 3 x 3 pixels from 4 to 17 arcsec off the centre exceeds the brightest within 2
    arcsec of it.

    Parameters
    ----------
    cubes : ndarray
        (galaxy, y, x, band), nanomaggies, zero where no frame covers the pixel.
    """
    smooth = uniform_filter(cubes[..., BANDS.index("r")], size=(1, 3, 3), mode="constant")
    distance = from_centre()
    centre = smooth[:, distance <= CENTRE].max(axis=1)
    return smooth[:, (distance > BESIDE) & (distance <= REACH)].max(axis=1) > centre
