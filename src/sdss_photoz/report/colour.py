"""Colour images of cubes."""

import numpy as np
from astropy.visualization import make_lupton_rgb

from sdss_photoz.survey import BANDS

WEIGHTS = {"i": 1.0, "r": 1.3, "g": 2.0}  # red, green, blue: a galaxy of middling colour is nearly white
STRETCH = 0.5  # nanomaggies: below it brightness is linear
SOFTENING = 8


BLANK = (96, 104, 112)  # a grey that no light gives: an image's darkest parts are black


def colour_image(cube, blank=(0, 0, 0)) -> np.ndarray:
    """Colour image from the i, r and g bands of a cube, by Lupton et al. 2004 (PASP 116, 133).

    Parameters
    ----------
    cube : array_like (y, x, band)
        Nanomaggies in ugriz.
    blank : tuple of int
        Red, green and blue of pixels that a frame of i, r or g does not cover: NaN, or exactly zero as
        `cubes.store.load_cubes` gives it.

    Returns
    -------
    ndarray (y, x, 3), uint8
    """
    cube = np.nan_to_num(np.asarray(cube, dtype=np.float64))
    uncovered = (cube[..., [BANDS.index(band) for band in WEIGHTS]] == 0).any(axis=-1)
    planes = [cube[..., BANDS.index(band)] * weight for band, weight in WEIGHTS.items()]
    with np.errstate(invalid="ignore"):  # pixels without light: 0 / 0 is drawn black
        image = make_lupton_rgb(*planes, stretch=STRETCH, Q=SOFTENING)
    image[uncovered] = blank
    return image
