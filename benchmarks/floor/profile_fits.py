"""Fits of bulge and disc to rendered cutouts of single galaxies, to check the Fisher matrices."""

from functools import lru_cache
from typing import NamedTuple

import galsim
import numpy as np
from benchmarks.floor import fisher
from scipy.optimize import least_squares

from sdss_photoz.config import Embedded
from sdss_photoz.embedded import camera, render
from sdss_photoz.embedded.scene import draw_scenes
from sdss_photoz.surveys import CUBE, SDSS

FREE = len(fisher.PARAMETERS)  # a fit has 3 more parameters: shifts in x and y (pixels), angle (radians)
LOWEST = np.array([*[5.0] * 5, -8.0, np.log(0.05), np.log(0.05), 0.06, 0.06, -3.0, -3.0, -np.inf])
HIGHEST = np.array([*[30.0] * 5, 8.0, np.log(60), np.log(60), 1.0, 1.0, 3.0, 3.0, np.inf])
STEP = 1e-3  # of finite differences


class Cutout(NamedTuple):
    """One isolated galaxy of the simulated sky in five bands."""

    truth: np.ndarray  # parameters
    angle: float  # of the major axis, from x, radians
    centre: np.ndarray  # (band, 2): x, y of the galaxy in each image
    now: dict  # conditions by band
    size: int  # of the rendered stamps, pixels


def draw_cutouts(number: int, seed: int) -> list[Cutout]:
    """Draw galaxies, dust, positions and conditions of a simulated sky of this seed, one visit each."""
    embedded = Embedded(seed=seed, fields=3 * max(1, -(-number // 750)))
    cutouts = []
    for scene in draw_scenes(embedded):
        strip, objects = scene.strips[0], scene.objects
        targets = objects[(objects["kind"] == "target") & (objects["strip_index"] == 0)]
        flux = targets[[f"flux_{band}" for band in SDSS.band_names]].to_numpy()
        theta = fisher.parameters(targets, flux)
        places = [strip.pixels(band, targets["ra"].to_numpy(), targets["dec"].to_numpy()) for band in SDSS.band_names]
        centres = np.moveaxis(np.array(places), -1, 0) % 1 + CUBE.size // 2
        radius = np.maximum(targets["bulge_r50"], targets["disc_r50"]).to_numpy() / SDSS.pixel_scale
        for k, (field, angle) in enumerate(zip(targets["field_index"], targets["position_angle"], strict=True)):
            size = min(render.stamp_size(max(40, 8 * radius[k])), 256)
            cutouts.append(Cutout(theta[k], np.radians(angle), centres[k], scene.conditions[0][field], size))
    return [cutouts[k] for k in np.random.default_rng(seed).permutation(len(cutouts))[:number]]


@lru_cache(maxsize=64)  # a shift, and a derivative where a fit already was, need no new one
def _fourier(kind, log_r50, axis_ratio, angle, size):
    """Fourier image of a profile of unit flux."""
    profile = (galsim.DeVaucouleurs, galsim.Exponential)[kind]
    shape = profile(half_light_radius=np.exp(log_r50) / SDSS.pixel_scale * np.sqrt(axis_ratio))
    return render.fourier_image(shape.shear(q=axis_ratio, beta=angle * galsim.radians), size)


_point_spread = lru_cache(maxsize=64)(render.PointSpread)


def _profile(cutout, kind, log_r50, axis_ratio, x, y, angle):
    """Image of one profile of unit flux in each band, (band, y, x)."""
    fourier, images = _fourier(kind, log_r50, axis_ratio, angle, cutout.size), []
    for band, centre in zip(SDSS.band_names, cutout.centre, strict=True):
        psf = _point_spread(cutout.now[band]["fwhm"], tuple(cutout.now[band]["shear"])).fourier(cutout.size)
        pixels, row, column = render.stamp(fourier * psf, centre[0] + x, centre[1] + y)
        image = np.zeros((CUBE.size, CUBE.size))
        window, part = render.overlap(row, column, cutout.size, image.shape)
        image[window] = pixels[part]
        images.append(image)
    return np.array(images)


def _profiles(cutout, theta):
    return [_profile(cutout, kind, theta[6 + kind], theta[8 + kind], *theta[FREE:]) for kind in (0, 1)]


def _amounts(theta):
    """Flux of bulge and disc in each band, (2, band, 1, 1)."""
    flux = 10 ** (0.4 * (fisher.ZERO_POINTS - theta[:5]))
    share = 1 / (1 + np.exp(-theta[5] - fisher.EXCESS))
    return np.array([flux * share, flux * (1 - share)])[..., None, None]


def light(cutout: Cutout, theta: np.ndarray) -> np.ndarray:
    """Noise-free images (band, y, x) of a galaxy with these parameters, shift and angle (nanomaggies)."""
    bulge, disc = _amounts(theta)
    of_bulge, of_disc = _profiles(cutout, theta)
    return bulge * of_bulge + disc * of_disc


def derivatives(cutout: Cutout, theta: np.ndarray) -> np.ndarray:
    """Derivatives of `light` by parameters, shift and angle, (parameter, band, y, x)."""
    (bulge, disc), profiles = _amounts(theta), _profiles(cutout, theta)
    found = np.zeros((len(theta), *profiles[0].shape))
    whole = bulge * profiles[0] + disc * profiles[1]
    for band in range(len(SDSS.band_names)):
        found[band, band] = -fisher.MAGNITUDE * whole[band]
    found[5] = bulge * disc / (bulge + disc) * (profiles[0] - profiles[1])
    for column, kinds in ((6, [0]), (7, [1]), (8, [0]), (9, [1]), (10, [0, 1]), (11, [0, 1]), (12, [0, 1])):
        step = np.zeros(len(theta))
        step[column] = -STEP
        for kind in kinds:
            moved = theta + step
            image = _profile(cutout, kind, moved[6 + kind], moved[8 + kind], *moved[FREE:])
            found[column] += (bulge, disc)[kind] * (profiles[kind] - image) / STEP
    return found


def pulls(cutouts: list[Cutout], mean: np.ndarray, spread: np.ndarray, seed: int) -> np.ndarray:
    """Render each galaxy with noise, fit it, and compare the fit's error with the one that its Fisher matrix predicts.

    Parameters
    ----------
    cutouts : list of Cutout
    mean, spread : ndarray
        Of the Gaussian prior of the parameters.
    seed : int
        Of the noise.

    Returns
    -------
    ndarray (galaxy, `fisher.PARAMETERS`)
        Error of the fit of largest posterior probability over predicted error.
    """
    rng = np.random.default_rng(seed)
    falls_back = np.linalg.inv(spread)
    root = np.linalg.cholesky(falls_back).T
    nights = fisher.Nights.of([cutout.now for cutout in cutouts])
    predicted = np.linalg.inv(fisher.fisher_matrices(np.array([c.truth for c in cutouts]), nights) + falls_back)
    found = []
    for cutout, covariance in zip(cutouts, predicted, strict=True):
        truth = np.concatenate([cutout.truth, [0, 0, cutout.angle]])
        expected = light(cutout, truth).astype(np.float32)
        unit = rng.standard_normal(expected.shape, dtype=np.float32)
        seen = [render.read_out(e, n, cutout.now[b]) for e, n, b in zip(expected, unit, SDSS.band_names, strict=True)]
        variance = [fisher.pixel_variance(cutout.now[b]) for b in SDSS.band_names]
        photons = [camera.photon_variance(cutout.now[b]) for b in SDSS.band_names]
        noise = np.sqrt(np.array(variance)[:, None, None] + np.array(photons)[:, None, None] * np.maximum(expected, 0))
        fit = least_squares(
            lambda t, c=cutout, s=seen, n=noise: np.concatenate(
                [((light(c, t) - s) / n).ravel(), root @ (t[:FREE] - mean)]
            ),
            np.clip(truth, LOWEST + 1e-3, HIGHEST - 1e-3),
            jac=lambda t, c=cutout, n=noise: np.vstack(
                [(derivatives(c, t) / n).reshape(len(t), -1).T, np.pad(root, ((0, 0), (0, 3)))]
            ),
            bounds=(LOWEST, HIGHEST),
            x_scale=np.concatenate([np.sqrt(np.diag(covariance)), [0.05, 0.05, 0.05]]),
            max_nfev=12,
            ftol=1e-5,
        )
        found.append((fit.x - truth)[:FREE] / np.sqrt(np.diag(covariance)))
    return np.array(found)
