"""Fisher matrices of the parameters of simulated galaxies, from interpolated images.

A galaxy is a bulge (n = 4) and an exponential disc with one centre and position angle. Errors of these do not correlate
with those of the parameters here, and by symmetry one quadrant of the image suffices. Images of both profiles and their
derivatives are rendered once on a grid of size, axis ratio and seeing, and interpolated for each galaxy.
"""

from functools import cache
from typing import NamedTuple

import galsim
import numpy as np
import pandas as pd
from scipy.interpolate import CubicSpline

from sdss_photoz.cubes.jit import cached_njit
from sdss_photoz.embedded import camera, render
from sdss_photoz.embedded.population import BULGE_EXCESS
from sdss_photoz.surveys import CUBE, SDSS

PARAMETERS = (
    *(f"mag_{band}" for band in SDSS.band_names),
    "bulge",
    "log_bulge_r50",
    "log_disc_r50",
    "bulge_ab",
    "disc_ab",
)
R50 = np.geomspace(0.08, 32, 42)  # arcsec, half-light semi-major axes of the grid
AXIS_RATIO = np.array([0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0])
FWHM = np.geomspace(0.9, 1.9, 6)  # arcsec
HALF = CUBE.size // 2
STAMP = 384  # pixels: a profile of half-light radius 8 arcsec has 1 % of its light outside
FINE = HALF // 2  # pixels from the centre: farther out pixels are summed two by two
BLOCK = 256  # galaxies at a time: some 40 MB
MAGNITUDE = 0.4 * np.log(10)  # derivative of ln(flux) with respect to magnitude, absolute value
ZERO_POINTS = np.array(list(SDSS.zero_point.values()))
EXCESS = np.log([10 ** (-0.4 * BULGE_EXCESS[band]) for band in SDSS.band_names])


class Nights(NamedTuple):
    """Observing conditions of galaxies, each an array (galaxy, band)."""

    fwhm: np.ndarray  # arcsec
    variance: np.ndarray  # of an empty pixel, nanomaggies^2
    photons: np.ndarray  # photon noise variance per flux, nanomaggies

    @classmethod
    def of(cls, conditions: list[dict]) -> "Nights":
        """Collect conditions drawn by `camera.draw_conditions`."""
        by_band = [[now[band] for band in SDSS.band_names] for now in conditions]
        table = [[(c["fwhm"], pixel_variance(c), camera.photon_variance(c)) for c in bands] for bands in by_band]
        return cls(*np.moveaxis(np.array(table), -1, 0))


def pixel_variance(now: dict) -> float:
    """Return the variance of an empty pixel (nanomaggies^2): sky, dark current and quantisation."""
    return camera.sky_noise(now) ** 2 + camera.quantum(now) ** 2 / 12


def parameters(galaxies: pd.DataFrame, flux: np.ndarray) -> np.ndarray:
    """Compute the parameters of galaxies, shape (galaxy, `PARAMETERS`).

    Parameters
    ----------
    galaxies : DataFrame
        As of `population.draw_galaxies`.
    flux : ndarray (galaxy, band)
        Total fluxes (nanomaggies), not corrected for Galactic dust.

    Returns
    -------
    ndarray
        Magnitudes; logit of the bulge fraction in r; natural logarithms of half-light radii (arcsec); axis
        ratios.
    """
    fraction = galaxies["bulge_fraction_r"].to_numpy()
    shape = [np.log(galaxies["bulge_r50"]), np.log(galaxies["disc_r50"]), galaxies["bulge_ab"], galaxies["disc_ab"]]
    return np.column_stack([ZERO_POINTS - 2.5 * np.log10(flux), np.log(fraction / (1 - fraction)), *shape])


def quadrants(profile, r50: float, axis_ratio: float, psfs: list[np.ndarray]) -> list[np.ndarray]:
    """Render a quadrant of a profile of unit flux in each seeing, centred on a pixel corner, major axis along x.

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
        Pixels, those farther than `FINE` pixels from the centre summed two by two.
    """
    shape = profile(half_light_radius=r50 / SDSS.pixel_scale * np.sqrt(axis_ratio))
    fourier = render.fourier_image(shape.shear(q=axis_ratio, beta=0 * galsim.radians), STAMP)
    stamps = [render.stamp(fourier * psf, -0.5, -0.5) for psf in psfs]
    return [_summed(pixels[-first:, -first:][:HALF, :HALF].astype(float)) for pixels, first, _ in stamps]


def _summed(image: np.ndarray) -> np.ndarray:
    """Return the pixels of a quadrant near the centre, and sums of two by two of the others."""
    pairs = image.reshape(HALF // 2, 2, HALF // 2, 2).sum(axis=(1, 3))
    outer = np.ones_like(pairs, dtype=bool)
    outer[: FINE // 2, : FINE // 2] = False
    return np.concatenate([image[:FINE, :FINE].ravel(), pairs[outer]])


PIXELS = _summed(np.ones((HALF, HALF)))  # number of pixels in each entry of a quadrant


@cache
def _tables() -> np.ndarray:
    """Render images of bulge and disc and their derivatives, float32 (profile, size, axis ratio, seeing, 3, pixel).

    The 3 are the image of unit flux, and its derivatives by the logarithm of size and by axis ratio.
    """
    psfs = [render.PointSpread(fwhm, (0.0, 0.0)).fourier(STAMP) for fwhm in FWHM]
    profiles = (galsim.DeVaucouleurs, galsim.Exponential)
    images = np.array([[[quadrants(p, r50, ratio, psfs) for ratio in AXIS_RATIO] for r50 in R50] for p in profiles])
    by_size = CubicSpline(np.log(R50), images, axis=1)(np.log(R50), 1)
    by_ratio = CubicSpline(AXIS_RATIO, images, axis=2)(AXIS_RATIO, 1)
    return np.stack([images, by_size, by_ratio], axis=4).astype(np.float32)


@cached_njit
def _interpolate(table, size, ratio, seeing, part, images):
    """Interpolate one profile's table linearly in size, axis ratio and seeing, for each galaxy and band.

    `size` and `ratio` (galaxy,) and `seeing` (galaxy, band) are indices of the lower nodes, `part` (galaxy, band, 3)
    the fractional distances from them; `images` (galaxy, band, 3, pixel) receives the result.
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
    """Return the index of the grid node below each value, and the fractional distance from it."""
    place = np.interp(values, grid, np.arange(len(grid)))
    below = np.minimum(place.astype(np.int64), len(grid) - 2)
    return below, (place - below).astype(np.float32)


def _images(kind: int, log_r50, axis_ratio, fwhm) -> np.ndarray:
    """Interpolate a profile and its derivatives for each galaxy and band, float32 (galaxy, band, 3, pixel)."""
    places = _place(np.log(R50), log_r50), _place(AXIS_RATIO, axis_ratio), _place(np.log(FWHM), np.log(fwhm))
    (size, at_size), (ratio, at_ratio), (seeing, at_seeing) = places
    at_size, at_ratio, at_seeing = np.broadcast_arrays(at_size[:, None], at_ratio[:, None], at_seeing)
    images = np.empty((*fwhm.shape, 3, len(PIXELS)), np.float32)
    _interpolate(_tables()[kind], size, ratio, seeing, np.stack([at_size, at_ratio, at_seeing], axis=2), images)
    return images


def fisher_matrices(theta: np.ndarray, nights: Nights) -> np.ndarray:
    """Compute the Fisher matrix of each galaxy's parameters from the 64 x 64 pixels of its five bands.

    Parameters
    ----------
    theta : ndarray (galaxy, `PARAMETERS`)
        As returned by `parameters`.
    nights : Nights

    Returns
    -------
    ndarray (galaxy, `PARAMETERS`, `PARAMETERS`), float64
        Its inverse is the smallest covariance of an unbiased fit with known noise and seeing (Cramer-Rao).
    """
    blocks = range(0, len(theta), BLOCK)
    return np.concatenate([_fisher(theta[k : k + BLOCK], *(part[k : k + BLOCK] for part in nights)) for k in blocks])


def _fisher(theta, fwhm, variance, photons):
    flux = 10 ** (0.4 * (ZERO_POINTS - theta[:, :5]))
    fraction = 1 / (1 + np.exp(-theta[:, 5:6] - EXCESS))  # of the bulge in each band
    flux, fraction = (values.astype(np.float32)[..., None] for values in (flux, fraction))
    bulge = _images(0, theta[:, 6], theta[:, 8], fwhm)
    disc = _images(1, theta[:, 7], theta[:, 9], fwhm)
    derivatives = np.empty((len(theta), len(SDSS.band_names), 6, len(PIXELS)), np.float32)
    light = flux * (fraction * bulge[:, :, 0] + (1 - fraction) * disc[:, :, 0])
    derivatives[:, :, 0] = -MAGNITUDE * light
    derivatives[:, :, 1] = flux * fraction * (1 - fraction) * (bulge[:, :, 0] - disc[:, :, 0])
    derivatives[:, :, 2], derivatives[:, :, 3] = flux * fraction * bulge[:, :, 1], flux * (1 - fraction) * disc[:, :, 1]
    derivatives[:, :, 4], derivatives[:, :, 5] = flux * fraction * bulge[:, :, 2], flux * (1 - fraction) * disc[:, :, 2]
    noise = variance[..., None] * PIXELS + photons[..., None] * np.maximum(light, 0)
    derivatives *= (2 / np.sqrt(noise)).astype(np.float32)[:, :, None]  # four quadrants
    each = (derivatives @ derivatives.swapaxes(2, 3)).astype(float)  # (galaxy, band, 6, 6)
    matrices = np.zeros((len(theta), len(PARAMETERS), len(PARAMETERS)))
    for band in range(len(SDSS.band_names)):
        own = [band, *range(len(SDSS.band_names), len(PARAMETERS))]
        matrices[:, np.array(own)[:, None], own] += each[:, band]
    return matrices
