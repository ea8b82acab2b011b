"""Colour images of cubes."""

from collections.abc import Sequence

import numpy as np
from astropy.visualization import make_lupton_rgb
from numpy.typing import ArrayLike

from sdss_photoz.surveys import CUBE, SDSS
from sdss_photoz.surveys.survey import main_band

STRETCH = 0.5  # nanomaggies: below it brightness is linear
SOFTENING = 8
OTHER_WEIGHTS = {"u": 6.0, "z": 0.8}  # of bands that are drawn where those of `SDSS.picture` are not all there

BLANK = (96, 104, 112)  # a grey for uncovered pixels: dark sky is black


def bands_drawn(bands: Sequence[str]) -> tuple[str, ...]:
    """Return the bands that are drawn red, green and blue: i, r and g or, without them, the last, middle and first.

    Of fewer than three bands only one is drawn, in grey: r or, without it, the middle one.
    """
    if set(SDSS.picture) <= set(bands):
        return tuple(SDSS.picture)
    return (bands[-1], bands[len(bands) // 2], bands[0]) if len(bands) > 2 else (main_band(bands),)


def describe(bands: Sequence[str]) -> str:
    """Return what `colour_image` draws of a cube, in words."""
    drawn = bands_drawn(bands)
    if len(drawn) == 1:
        return f"image from the {drawn[0]} band"
    return f"colour image from the {drawn[0]}, {drawn[1]} and {drawn[2]} bands"


def colour_image(
    cube: ArrayLike, blank: tuple[int, int, int] = (0, 0, 0), bands: Sequence[str] = CUBE.bands
) -> np.ndarray:
    """Colour image from the i, r and g bands of a cube, by Lupton et al. 2004 (PASP 116, 133).

    Without one of them other bands are drawn: see `bands_drawn`.

    Parameters
    ----------
    cube : array_like (y, x, band)
        Nanomaggies.
    blank : tuple of int
        Red, green and blue of pixels that a frame of a band that is drawn does not cover: NaN, or exactly zero as
        `cubes.load.load_cubes` gives it.
    bands : sequence of str
        Bands of the cube, in order.

    Returns
    -------
    ndarray (y, x, 3), uint8
    """
    cube = np.nan_to_num(np.asarray(cube, dtype=np.float64))
    weights, drawn, bands = SDSS.picture | OTHER_WEIGHTS, bands_drawn(bands), list(bands)
    uncovered = (cube[..., [bands.index(band) for band in drawn]] == 0).any(axis=-1)
    planes = [cube[..., bands.index(band)] * weights[band] for band in drawn]
    planes = planes * 3 if len(planes) == 1 else planes
    with np.errstate(invalid="ignore"):  # pixels without light: 0 / 0 is drawn black
        image = make_lupton_rgb(*planes, stretch=STRETCH, Q=SOFTENING)
    image[uncovered] = blank
    return image
