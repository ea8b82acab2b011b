"""The best estimator itself: the posterior distribution of redshift in the known population, by importance sampling."""

import numpy as np
from floor_draws import Seen, colours, prior

from sdss_photoz.embedded.population import THINNEST_DISC, disc_axis_ratio
from sdss_photoz.embedded.posterior import BINS, redshift_densities
from sdss_photoz.progress import progress

SHAPES = [5, 6, 7, 9]  # of the parameters: those whose density `redshift_densities` takes
AXIS_RATIOS = [8, 9]  # their own density is left Gaussian: the disc's says a little of dust, neither more of redshift
BLOCK = 256  # galaxies at once


def noise_free(seen: Seen) -> np.ndarray:
    """Posterior probabilities (galaxy, bin) where all parameters are known."""
    densities, _ = redshift_densities(colours(seen.truth, seen.ebv), seen.truth[:, SHAPES])
    return densities / densities.sum(axis=1, keepdims=True)


def sampled(seen: Seen, samples: int, shapes_count: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Posterior probabilities from estimates of all parameters, or of the total fluxes alone.

    The likelihood and the Gaussian prior make a Gaussian, which is sampled; a sample's weight is the population's
    density over that of the Gaussian prior.

    Parameters
    ----------
    seen : Seen
    samples : int
        For each galaxy.
    shapes_count : bool
        Whether bulge, sizes and axis ratios are measured; else the disc's axis ratio is any.
    seed : int

    Returns
    -------
    ndarray (2, galaxy, bin), float32
        From half of the samples, and from all.
    ndarray (galaxy,)
        How many samples of equal weight they are worth.
    """
    rng = np.random.default_rng(seed)
    known = slice(None) if shapes_count else slice(5)
    mean, spread = prior()
    falls_back = np.linalg.inv(spread[known, known])
    of_ratios = np.linalg.inv(spread[np.ix_(AXIS_RATIOS, AXIS_RATIOS)])
    result, worth = np.empty((2, len(seen.z), BINS), np.float32), np.empty(len(seen.z))
    blocks = range(0, len(seen.z), BLOCK)
    for first in progress(blocks, total=len(blocks), unit="block", label="posteriors"):
        block = slice(first, first + BLOCK)
        roots = np.linalg.cholesky(seen.covariance[block])
        theta = np.einsum("gij,gsj->gsi", roots, rng.standard_normal((len(roots), samples, len(mean))))
        theta = (theta + seen.estimate[block, None]).reshape(-1, len(mean))
        error = 1 + 0.1 * np.clip(rng.standard_normal((len(roots), samples)), -3, 3)
        shapes = theta[:, SHAPES]
        if not shapes_count:
            shapes[:, 3] = disc_axis_ratio(rng.uniform(size=len(shapes)))
        shapes[:, 3] = np.clip(shapes[:, 3], THINNEST_DISC, 1)
        ebv = seen.ebv_catalog[block, None] / error
        densities, weight = redshift_densities(colours(theta, ebv.ravel()), shapes, shapes_count, parts=2)
        off = theta - mean
        weight += np.einsum("ni,ij,nj->n", off[:, known], falls_back, off[:, known]) / 2
        if shapes_count:
            weight -= np.einsum("ni,ij,nj->n", off[:, AXIS_RATIOS], of_ratios, off[:, AXIS_RATIOS]) / 2
        weight, densities = weight.reshape(-1, samples), densities.reshape(-1, samples, BINS)
        weight = np.exp(weight - weight.max(axis=1, keepdims=True)).astype(np.float32)
        for k, number in enumerate((samples // 2, samples)):
            total = np.einsum("gs,gsb->gb", weight[:, :number], densities[:, :number]) + np.float32(1e-30)
            result[k, block] = total / total.sum(axis=1, keepdims=True)
        weight *= densities.sum(axis=2)
        worth[block] = weight.sum(axis=1) ** 2 / (weight**2).sum(axis=1)
    return result, worth
