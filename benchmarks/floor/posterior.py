"""Joint density of redshift and observables in the simulated population, for the best possible estimator.

Each factor is the density of one draw of `population.draw_galaxies`. Densities are not normalised.
"""

from functools import cache

import numpy as np

from sdss_photoz.cubes.jit import cached_njit
from sdss_photoz.embedded import population
from sdss_photoz.embedded.fit_population import EDGE
from sdss_photoz.scores.grid import Grid

TEN = np.log(10)
BINS = 180  # of redshift, between 0 and 0.4
REACH = 5.0  # standard deviations at which a Gaussian is cut off
DIM = 12.0  # e-folds below the strongest Gaussian at which others are neglected


@cache
def _gaussians():
    """Return the terms of the mixture conditioned on r and colours.

    For each Gaussian: logarithm of its weight, means, reddening by inclination, inverse Cholesky factor of r and
    colours, and slope and scatter of log10 z at given r and colours.
    """
    weights, means, factors, strength, mean_tilt = population._mixture()
    covariances = factors @ factors.transpose(0, 2, 1)
    inner = np.linalg.cholesky(covariances[:, 1:, 1:])
    slope = np.linalg.solve(covariances[:, 1:, 1:], covariances[:, 1:, :1])[..., 0]
    scatter = np.sqrt(covariances[:, 0, 0] - np.einsum("kc,kc->k", covariances[:, 0, 1:], slope))
    log_weight = np.log(weights) - np.log(np.diagonal(inner, axis1=1, axis2=2)).sum(axis=1)
    return log_weight, means, strength, mean_tilt, np.linalg.inv(inner), slope, scatter


def redshift_densities(colours: np.ndarray, shapes: np.ndarray, shapes_count: bool = True, parts: int = 4):
    """Compute the joint density of redshift and observables, given the axis ratio of the disc.

    Parameters
    ----------
    colours : ndarray (galaxy, 5)
        Total r, u-g, g-r, r-i, i-z, corrected for dust.
    shapes : ndarray (galaxy, 4)
        Logit of the bulge fraction in r, natural logarithms of the half-light radii of bulge and disc
        (arcsec), axis ratio of the disc: as in `fisher.PARAMETERS`.
    shapes_count : bool
        Whether the density is that of colours, bulge and radii, or of colours alone.
    parts : int
        Points in each bin at which the density is evaluated.

    Returns
    -------
    densities : ndarray (galaxy, `BINS`), float32
        Sum over the points of each bin of redshift, relative to the largest point.
    log_scale : ndarray (galaxy,)
        Logarithm of the density at the largest point; minus infinity for galaxies outside the population.
    """
    colours, shapes = np.ascontiguousarray(colours, float), np.ascontiguousarray(shapes, float)
    densities, scale = np.zeros((len(colours), BINS), np.float32), np.empty(len(colours))
    z = (np.arange(BINS * parts) + 0.5) * (Grid().high / BINS / parts)
    distance = population.comoving_distance(z)
    modulus, log_kpc_per_arcsec = 5 * np.log10(distance * (1 + z)) + 25, np.log(distance * 1000 / (1 + z) / 206_265)
    known = z, np.log10(z), modulus, log_kpc_per_arcsec, population.INCLINATION_DUST, *_gaussians()
    _densities(colours, shapes, *known, shapes_count, densities, scale)
    r = colours[:, 0]
    scale[(r > population.FAINTEST_TARGET) | (r <= 12.5)] = -np.inf
    scale[r > EDGE] += np.log(population.FAINT_FRACTION)
    if shapes_count:
        scale -= ((shapes[:, 1] - shapes[:, 2] - np.log(0.55)) / 0.3) ** 2 / 2
    return densities, scale


@cached_njit
def _densities(
    colours, shapes, z, log_z, modulus, log_kpc_per_arcsec, dust,
    log_weight, means, strength, mean_tilt, inverse, slope, scatter,
    shapes_count, densities, scale,
):  # fmt: skip
    count, points, parts = len(log_weight), len(z), len(z) // densities.shape[1]
    weight, centre, density = np.empty(count), np.empty(count), np.empty(points)
    off, offset = np.empty(5), np.empty(5)
    for galaxy in range(len(colours)):
        tilt = -np.log10(shapes[galaxy, 3]) - mean_tilt
        strongest = -np.inf
        for k in range(count):
            for c in range(5):
                off[c] = colours[galaxy, c] - means[k, 1 + c] - dust[1 + c] * strength[k] * tilt
            square, centre[k] = 0.0, means[k, 0] + dust[0] * strength[k] * tilt
            for c in range(5):
                centre[k] += slope[k, c] * off[c]
                offset[c] = 0.0
                for d in range(c + 1):
                    offset[c] += inverse[k, c, d] * off[d]
                square += offset[c] ** 2
            weight[k] = log_weight[k] - square / 2 - np.log(scatter[k])
            strongest = max(strongest, weight[k])
        density[:] = 0
        for k in range(count):
            if weight[k] < strongest - DIM:
                continue
            height = np.exp(weight[k] - strongest)
            low = np.searchsorted(log_z, centre[k] - REACH * scatter[k])
            high = np.searchsorted(log_z, centre[k] + REACH * scatter[k])
            for i in range(low, high):
                density[i] += height * np.exp(-(((log_z[i] - centre[k]) / scatter[k]) ** 2) / 2)
        largest = 0.0
        bulge = shapes[galaxy, 0]
        log_size = shapes[galaxy, 2] + (shapes[galaxy, 1] - shapes[galaxy, 2]) / (1 + np.exp(-bulge))
        for i in range(points):
            if density[i] == 0 or z[i] < 0.005:
                density[i] = 0
                continue
            density[i] /= z[i]
            if shapes_count:
                early = 1 / (1 + np.exp(-(colours[galaxy, 2] - 0.66 - 1.9 * z[i]) / 0.04))
                absolute = colours[galaxy, 0] - modulus[i] - z[i]
                bright = np.log(1 + np.exp(-0.4 * TEN * (absolute + 20.91))) / TEN
                log_kpc = early * (-0.26 * absolute - 5.06) + (1 - early) * (-0.104 * absolute + 0.25 * bright - 1.71)
                mean = np.log(0.92) + TEN * log_kpc - log_kpc_per_arcsec[i]
                width = 0.30 if absolute < -20.9 else 0.40
                square = ((log_size - mean) / width) ** 2 + ((bulge + 1.7 - 2.8 * early) / 0.9) ** 2
                density[i] *= np.exp(-square / 2) / width
            largest = max(largest, density[i])
        scale[galaxy] = strongest + np.log(largest) if largest > 0 else -np.inf
        if largest > 0:
            for i in range(points):
                densities[galaxy, i // parts] += density[i] / largest
