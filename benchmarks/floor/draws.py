"""Draws of the population with measurement errors from the Fisher matrix of each galaxy."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from benchmarks.floor import fisher

from sdss_photoz.embedded import camera, population
from sdss_photoz.evaluation.floor import SAMPLE
from sdss_photoz.surveys import SDSS

BATCH = 2**16  # galaxies drawn at a time
NIGHTS = 1024  # different observing conditions among them
EXTINCTION = np.array([SDSS.extinction[band] for band in SDSS.band_names])
PETROSIAN_LOSS = 0.14  # mag: flux outside the Petrosian aperture of an n = 4 bulge, measured on the default sky


class Observed(NamedTuple):
    """Galaxies of the sample and their measurements: arrays (galaxy, ...), parameters as `fisher.PARAMETERS`."""

    z: np.ndarray
    truth: np.ndarray
    estimate: np.ndarray  # truth with measurement errors
    covariance: np.ndarray  # of the measurement errors
    ebv: np.ndarray
    ebv_catalog: np.ndarray
    conditions: np.ndarray  # logarithms of each band's noise and of the mean seeing


@cache
def prior() -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the parameters in the population, the Gaussian prior of estimates."""
    theta = draw(50_000, np.random.default_rng(0))[2]
    return theta.mean(axis=0), np.cov(theta.T)


def draw(number: int, rng) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Draw galaxies at random positions on the sky; return them, their E(B-V) and their parameters."""
    galaxies = population.draw_galaxies(number, rng)
    sky = rng.uniform(0, 360, number), np.degrees(np.arcsin(rng.uniform(-1, 1, number)))
    ebv = population.galactic_ebv(*sky, seed=int(rng.integers(2**31)))
    magnitudes = galaxies[[f"mag_{band}" for band in SDSS.band_names]].to_numpy() + EXTINCTION * ebv[:, None]
    return galaxies, ebv, fisher.parameters(galaxies, 10 ** (0.4 * (fisher.ZERO_POINTS - magnitudes)))


def observe(number: int, seed) -> Observed:
    """Draw galaxies and measure them; those beyond the sample's limit in Petrosian r are dropped.

    The estimate is the maximum a posteriori under a Gaussian prior, to first order in the noise:
    truth + C (s - P^-1 (truth - mean)), where C = (F + P^-1)^-1, P is the population's covariance, and the score s is
    drawn with the Fisher matrix F as its covariance. For well-measured parameters its errors are those of F^-1.
    """
    rng = np.random.default_rng(seed)
    galaxies, ebv, truth = draw(number, rng)
    kept = galaxies["mag_r"] + PETROSIAN_LOSS * galaxies["bulge_fraction_r"] <= SAMPLE.r_max
    z, ebv, truth = galaxies["z_true"].to_numpy()[kept], ebv[kept], truth[kept]
    drawn = fisher.Nights.of([camera.draw_conditions(int(rng.integers(1, 7)), 1, rng)[0] for _ in range(NIGHTS)])
    night = rng.integers(NIGHTS, size=len(z))
    nights = fisher.Nights(*(values[night] for values in drawn))
    mean, spread = prior()
    information, precision = fisher.fisher_matrices(truth, nights), np.linalg.inv(spread)
    root = np.linalg.cholesky(information + 1e-6 * np.eye(len(mean)))
    score = np.einsum("gij,gj->gi", root, rng.standard_normal(truth.shape)) - (truth - mean) @ precision
    covariance = np.linalg.inv(information + precision)
    ebv_catalog = ebv * (1 + 0.1 * np.clip(rng.standard_normal(len(z)), -3, 3))
    conditions = np.column_stack([np.log(nights.variance), np.log(nights.fwhm).mean(axis=1)])
    estimate = truth + np.einsum("gij,gj->gi", covariance, score)
    return Observed(z, truth, estimate, covariance, ebv, ebv_catalog, conditions)


def colours(theta: np.ndarray, ebv: np.ndarray) -> np.ndarray:
    """Return r, u-g, g-r, r-i, i-z corrected for Galactic dust, (galaxy, 5)."""
    magnitudes = theta[:, : len(SDSS.band_names)] - EXTINCTION * ebv[:, None]
    return np.column_stack([magnitudes[:, 2], -np.diff(magnitudes, axis=1)])


def features(observed: Observed) -> dict[str, np.ndarray]:
    """Return the inputs of a network, float32 (galaxy, feature), for each kind of knowledge."""
    measured = colours(observed.estimate, observed.ebv_catalog)
    around = np.column_stack([observed.ebv_catalog, observed.conditions])
    found = {
        "images": np.column_stack([measured, observed.estimate[:, len(SDSS.band_names) :], around]),
        "colours": np.column_stack([measured, around]),
        "noise_free": np.column_stack(
            [colours(observed.truth, observed.ebv), observed.truth[:, len(SDSS.band_names) :]]
        ),
    }
    return {knowledge: values.astype(np.float32) for knowledge, values in found.items()}
