"""How well the pixels of a simulated galaxy determine it: Fisher matrices without rendering.

A galaxy is a bulge (n = 4) and an exponential disc with one centre and position angle. Both shift an image without
changing its flux or shape, so their errors are not correlated with those of the parameters here, and one quadrant of
the image holds all there is to know. Images of both profiles and their derivatives are drawn once on a grid of size,
axis ratio and seeing; each galaxy's are interpolated from it.
"""

from functools import cache
from typing import NamedTuple

import galsim
import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline

from sdss_photoz.cubes.compiled import compiled
from sdss_photoz.embedded import camera, render
from sdss_photoz.embedded.population import BULGE_EXCESS
from sdss_photoz.survey import BANDS, CUBE_SIZE, PIXEL_SCALE, ZERO_POINT

PARAMETERS = (*(f"mag_{band}" for band in BANDS), "bulge", "log_bulge_r50", "log_disc_r50", "bulge_ab", "disc_ab")
R50 = np.geomspace(0.08, 32, 42)  # arcsec, half-light semi-major axes of the grid
AXIS_RATIO = np.array([0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
FWHM = np.geomspace(0.9, 1.9, 6)  # arcsec
HALF = CUBE_SIZE // 2
STAMP = 384  # pixels: what a large profile loses beyond it is 1 % of its light at a half-light radius of 8 arcsec
FINE = HALF // 2  # pixels from the centre within which none are summed; beyond, two by two
BLOCK = 256  # galaxies at a time: some 40 MB
MAGNITUDE = 0.4 * np.log(10)  # relative flux of a magnitude
EXCESS = np.log([10 ** (-0.4 * BULGE_EXCESS[band]) for band in BANDS])


class Nights(NamedTuple):
    """Conditions under which galaxies are seen, each an array (galaxy, band)."""

    fwhm: np.ndarray  # arcsec
    variance: np.ndarray  # of an empty pixel, nanomaggies^2
    photons: np.ndarray  # variance of a pixel (nanomaggies^2) for each nanomaggy of light

    @classmethod
    def of(cls, conditions: list[dict]) -> "Nights":
        """The nights whose conditions `camera.draw_conditions` drew."""
        seen = [[now[band] for band in BANDS] for now in conditions]
        table = [[(now["fwhm"], pixel_variance(now), camera.photon_variance(now)) for now in bands] for bands in seen]
        return cls(*np.moveaxis(np.array(table), -1, 0))


def pixel_variance(now: dict) -> float:
    """Variance of an empty pixel (nanomaggies^2): sky, dark current and the steps to which values are rounded."""
    return camera.sky_noise(now) ** 2 + camera.quantum(now) ** 2 / 12


def parameters(galaxies: pd.DataFrame, flux: np.ndarray) -> np.ndarray:
    """The parameters of galaxies, shape (galaxy, `PARAMETERS`).

    Parameters
    ----------
    galaxies : DataFrame
        As of `population.draw_galaxies`.
    flux : ndarray (galaxy, band)
        Total fluxes as observed (nanomaggies), after Galactic dust.

    Returns
    -------
    ndarray
        Magnitudes; logit of the bulge's part of the light in r; natural logarithms of half-light radii (arcsec); axis
        ratios.
    """
    share = galaxies["bulge_share_r"].to_numpy()
    shape = [np.log(galaxies["bulge_r50"]), np.log(galaxies["disc_r50"]), galaxies["bulge_ab"], galaxies["disc_ab"]]
    return np.column_stack([ZERO_POINT - 2.5 * np.log10(flux), np.log(share / (1 - share)), *shape])


def quadrants(profile, r50: float, axis_ratio: float, psfs: list[np.ndarray]) -> list[np.ndarray]:
    """A quadrant of a profile's image of unit flux in each seeing, centred on a corner of pixels, major axis along x.

    Parameters
    ----------
    profile : callable
        `galsim.DeVaucouleurs` or `galsim.Exponential`.
    r50 : float
        Half-light semi-major axis (arcsec).
    axis_ratio : float
    psfs : list of ndarray
        `render.PointSpread.fourier` for stamps of `STAMP` pixels.

    Returns
    -------
    list of ndarray (pixel,), float64
        Pixels near the centre one by one, those farther than `FINE` pixels summed two by two.
    """
    shape = profile(half_light_radius=r50 / PIXEL_SCALE * np.sqrt(axis_ratio))
    fourier = render.fourier_image(shape.shear(q=axis_ratio, beta=0 * galsim.radians), STAMP)
    stamps = [render.stamp(fourier * psf, -0.5, -0.5) for psf in psfs]
    return [_summed(pixels[-first:, -first:][:HALF, :HALF].astype(float)) for pixels, first, _ in stamps]


def _summed(image: np.ndarray) -> np.ndarray:
    """Pixels of a quadrant near the centre, and sums of two by two of the others."""
    pairs = image.reshape(HALF // 2, 2, HALF // 2, 2).sum(axis=(1, 3))
    outer = np.ones_like(pairs, dtype=bool)
    outer[: FINE // 2, : FINE // 2] = False
    return np.concatenate([image[:FINE, :FINE].ravel(), pairs[outer]])


PIXELS = _summed(np.ones((HALF, HALF)))  # of the cube in each entry of a quadrant


@cache
def _tables() -> np.ndarray:
    """Images of bulge and disc and their derivatives, float32 (profile, size, axis ratio, seeing, 3, pixel).

    The three are the image of unit flux, its derivative by the logarithm of size, and that by axis ratio.
    """
    psfs = [render.PointSpread(fwhm, (0.0, 0.0)).fourier(STAMP) for fwhm in FWHM]
    profiles = (galsim.DeVaucouleurs, galsim.Exponential)
    images = np.array([[[quadrants(p, r50, ratio, psfs) for ratio in AXIS_RATIO] for r50 in R50] for p in profiles])
    by_size = CubicSpline(np.log(R50), images, axis=1)(np.log(R50), 1)
    by_ratio = CubicSpline(AXIS_RATIO, images, axis=2)(AXIS_RATIO, 1)
    return np.stack([images, by_size, by_ratio], axis=4).astype(np.float32)


@compiled
def _interpolate(table, size, ratio, seeing, part, images):
    """Interpolate one profile's table linearly in size, axis ratio and seeing, for each galaxy and band.

    `size` and `ratio` (galaxy,) and `seeing` (galaxy, band) are numbers of the nodes below, `part` (galaxy, band, 3)
    how far on each lies towards the next; `images` (galaxy, band, 3, pixel) takes the result.
    """
    images[:] = 0
    for galaxy in range(images.shape[0]):
        for band in range(images.shape[1]):
            for corner in range(8):
                weight = np.float32(1)
                for axis in range(3):
                    far = part[galaxy, band, axis]
                    weight *= far if corner >> axis & 1 else np.float32(1) - far
                node = table[size[galaxy] + (corner & 1), ratio[galaxy] + (corner >> 1 & 1)]
                node = node[seeing[galaxy, band] + (corner >> 2)]
                for kind in range(3):
                    for pixel in range(images.shape[3]):
                        images[galaxy, band, kind, pixel] += weight * node[kind, pixel]


def _place(grid: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The node of a grid below each value, and how far on it lies towards the next, between 0 and 1."""
    place = np.interp(values, grid, np.arange(len(grid)))
    below = np.minimum(place.astype(np.int64), len(grid) - 2)
    return below, (place - below).astype(np.float32)


def _images(kind: int, log_r50, axis_ratio, fwhm) -> np.ndarray:
    """Images of a profile and its derivatives for each galaxy and band, float32 (galaxy, band, 3, pixel)."""
    places = _place(np.log(R50), log_r50), _place(AXIS_RATIO, axis_ratio), _place(np.log(FWHM), np.log(fwhm))
    (size, at_size), (ratio, at_ratio), (seeing, at_seeing) = places
    at_size, at_ratio, at_seeing = np.broadcast_arrays(at_size[:, None], at_ratio[:, None], at_seeing)
    images = np.empty((*fwhm.shape, 3, len(PIXELS)), np.float32)
    _interpolate(_tables()[kind], size, ratio, seeing, np.stack([at_size, at_ratio, at_seeing], axis=2), images)
    return images


def fisher_matrices(theta: np.ndarray, nights: Nights) -> np.ndarray:
    """Fisher matrix of each galaxy's parameters from the 64 x 64 pixels of its five bands.

    Parameters
    ----------
    theta : ndarray (galaxy, `PARAMETERS`)
        As of `parameters`.
    nights : Nights

    Returns
    -------
    ndarray (galaxy, `PARAMETERS`, `PARAMETERS`), float64
        Its inverse is the smallest covariance that an unbiased fit can have where noise and seeing are known.
    """
    blocks = range(0, len(theta), BLOCK)
    return np.concatenate([_fisher(theta[k : k + BLOCK], *(part[k : k + BLOCK] for part in nights)) for k in blocks])


def _fisher(theta, fwhm, variance, photons):
    flux = 10 ** (0.4 * (ZERO_POINT - theta[:, :5]))
    share = 1 / (1 + np.exp(-theta[:, 5:6] - EXCESS))  # of the bulge in each band
    flux, share = (values.astype(np.float32)[..., None] for values in (flux, share))
    bulge = _images(0, theta[:, 6], theta[:, 8], fwhm)
    disc = _images(1, theta[:, 7], theta[:, 9], fwhm)
    derivatives = np.empty((len(theta), len(BANDS), 6, len(PIXELS)), np.float32)
    light = flux * (share * bulge[:, :, 0] + (1 - share) * disc[:, :, 0])
    derivatives[:, :, 0] = -MAGNITUDE * light
    derivatives[:, :, 1] = flux * share * (1 - share) * (bulge[:, :, 0] - disc[:, :, 0])
    derivatives[:, :, 2], derivatives[:, :, 3] = flux * share * bulge[:, :, 1], flux * (1 - share) * disc[:, :, 1]
    derivatives[:, :, 4], derivatives[:, :, 5] = flux * share * bulge[:, :, 2], flux * (1 - share) * disc[:, :, 2]
    noise = variance[..., None] * PIXELS + photons[..., None] * np.maximum(light, 0)
    derivatives *= (2 / np.sqrt(noise)).astype(np.float32)[:, :, None]  # four quadrants
    each = (derivatives @ derivatives.swapaxes(2, 3)).astype(float)  # (galaxy, band, 6, 6)
    matrices = np.zeros((len(theta), len(PARAMETERS), len(PARAMETERS)))
    for band in range(len(BANDS)):
        own = [band, *range(len(BANDS), len(PARAMETERS))]
        matrices[:, np.array(own)[:, None], own] += each[:, band]
    return matrices
