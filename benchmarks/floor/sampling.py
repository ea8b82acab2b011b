"""The best possible estimator: the posterior of redshift in the known population, by importance sampling."""

import numpy as np
from benchmarks.floor.draws import Observed, colours, prior
from benchmarks.floor.posterior import BINS, redshift_densities

from sdss_photoz.embedded.population import THINNEST_DISC, disc_axis_ratio
from sdss_photoz.progress import progress

SHAPES = [5, 6, 7, 9]  # indices of the parameters that `redshift_densities` takes
AXIS_RATIOS = [8, 9]  # with a Gaussian density: they have little information on dust and none on redshift
BLOCK = 256  # galaxies at once


def noise_free(observed: Observed) -> np.ndarray:
    """Compute posterior probabilities (galaxy, bin) with all parameters known."""
    densities, _ = redshift_densities(colours(observed.truth, observed.ebv), observed.truth[:, SHAPES])
    return densities / densities.sum(axis=1, keepdims=True)


def sampled(observed: Observed, samples: int, shapes_count: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute posterior probabilities from estimates of all parameters, or of the total fluxes alone.

    Samples are drawn from the product of likelihood and Gaussian prior; their weight is the population's density over
    that of the Gaussian prior.

    Parameters
    ----------
    observed : Observed
    samples : int
        Number of samples per galaxy.
    shapes_count : bool
        Whether bulge, sizes and axis ratios are measured; if not, the disc's inclination is drawn at random.
    seed : int

    Returns
    -------
    ndarray (2, galaxy, bin), float32
        From half of the samples, and from all.
    ndarray (galaxy,)
        Effective sample size.
    """
    rng = np.random.default_rng(seed)
    known = slice(None) if shapes_count else slice(5)
    mean, spread = prior()
    precision = np.linalg.inv(spread[known, known])
    of_ratios = np.linalg.inv(spread[np.ix_(AXIS_RATIOS, AXIS_RATIOS)])
    result, effective = np.empty((2, len(observed.z), BINS), np.float32), np.empty(len(observed.z))
    blocks = range(0, len(observed.z), BLOCK)
    for first in progress(blocks, total=len(blocks), unit="block", label="posteriors"):
        block = slice(first, first + BLOCK)
        roots = np.linalg.cholesky(observed.covariance[block])
        theta = np.einsum("gij,gsj->gsi", roots, rng.standard_normal((len(roots), samples, len(mean))))
        theta = (theta + observed.estimate[block, None]).reshape(-1, len(mean))
        error = 1 + 0.1 * np.clip(rng.standard_normal((len(roots), samples)), -3, 3)
        shapes = theta[:, SHAPES]
        if not shapes_count:
            shapes[:, 3] = disc_axis_ratio(rng.uniform(size=len(shapes)))
        shapes[:, 3] = np.clip(shapes[:, 3], THINNEST_DISC, 1)
        ebv = observed.ebv_catalog[block, None] / error
        densities, weight = redshift_densities(colours(theta, ebv.ravel()), shapes, shapes_count, parts=2)
        off = theta - mean
        weight += np.einsum("ni,ij,nj->n", off[:, known], precision, off[:, known]) / 2
        if shapes_count:
            weight -= np.einsum("ni,ij,nj->n", off[:, AXIS_RATIOS], of_ratios, off[:, AXIS_RATIOS]) / 2
        weight, densities = weight.reshape(-1, samples), densities.reshape(-1, samples, BINS)
        weight = np.exp(weight - weight.max(axis=1, keepdims=True)).astype(np.float32)
        for k, number in enumerate((samples // 2, samples)):
            total = np.einsum("gs,gsb->gb", weight[:, :number], densities[:, :number]) + np.float32(1e-30)
            result[k, block] = total / total.sum(axis=1, keepdims=True)
        weight *= densities.sum(axis=2)
        effective[block] = weight.sum(axis=1) ** 2 / (weight**2).sum(axis=1)
    return result, effective
