"""Galaxies as the pixels show them: draws of the population, each measured with the errors of its own Fisher matrix."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz.embedded import camera, fisher, population
from sdss_photoz.evaluation.floor import SAMPLE
from sdss_photoz.survey import BANDS, EXTINCTION_PER_EBV

DRAWN = 2**16  # galaxies at once
NIGHTS = 1024  # different ones among them
EXTINCTION = np.array([EXTINCTION_PER_EBV[band] for band in BANDS])
PETROSIAN_LOSS = 0.14  # mag: what the Petrosian magnitude of an n = 4 bulge misses, as measured on the default sky


class Seen(NamedTuple):
    """Galaxies of the sample, and what their images say: arrays (galaxy, ...), parameters as `fisher.PARAMETERS`."""

    z: np.ndarray
    truth: np.ndarray
    estimate: np.ndarray  # with the errors that the pixels leave
    covariance: np.ndarray  # of the estimate's errors
    ebv: np.ndarray
    ebv_catalog: np.ndarray
    conditions: np.ndarray  # logarithms of each band's noise and of the mean seeing: an image shows them


@cache
def prior() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the parameters in the population: an estimate falls back on them."""
    theta = draw(50_000, np.random.default_rng(0))[2]
    return theta.mean(axis=0), np.cov(theta.T)


def draw(number: int, rng) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Galaxies, Galactic reddening and parameters, in any part of the sky."""
    galaxies = population.draw_galaxies(number, rng)
    sky = rng.uniform(0, 360, number), np.degrees(np.arcsin(rng.uniform(-1, 1, number)))
    ebv = population.galactic_ebv(*sky, seed=int(rng.integers(2**31)))
    magnitudes = galaxies[[f"mag_{band}" for band in BANDS]].to_numpy() + EXTINCTION * ebv[:, None]
    return galaxies, ebv, fisher.parameters(galaxies, 10 ** (0.4 * (22.5 - magnitudes)))


def see(number: int, seed) -> Seen:
    """Draw galaxies and measure them; those beyond the sample's limit in Petrosian r are left out.

    The estimate is that of largest posterior probability under a Gaussian prior, to first order in the noise: the
    truth + C (s - P^-1 (truth - mean)), where C = (F + P^-1)^-1, P is the population's covariance, and the score s is
    drawn with the Fisher matrix F as its covariance. Where the pixels determine a parameter, that is the truth with the
    errors of F^-1.
    """
    rng = np.random.default_rng(seed)
    galaxies, ebv, truth = draw(number, rng)
    kept = galaxies["mag_r"] + PETROSIAN_LOSS * galaxies["bulge_share_r"] <= SAMPLE.r_max
    z, ebv, truth = galaxies["z_true"].to_numpy()[kept], ebv[kept], truth[kept]
    drawn = fisher.Nights.of([camera.draw_conditions(int(rng.integers(1, 7)), 1, rng)[0] for _ in range(NIGHTS)])
    night = rng.integers(NIGHTS, size=len(z))
    nights = fisher.Nights(*(values[night] for values in drawn))
    mean, spread = prior()
    information, falls_back = fisher.fisher_matrices(truth, nights), np.linalg.inv(spread)
    root = np.linalg.cholesky(information + 1e-6 * np.eye(len(mean)))
    score = np.einsum("gij,gj->gi", root, rng.standard_normal(truth.shape)) - (truth - mean) @ falls_back
    covariance = np.linalg.inv(information + falls_back)
    ebv_catalog = ebv * (1 + 0.1 * np.clip(rng.standard_normal(len(z)), -3, 3))
    conditions = np.column_stack([np.log(nights.variance), np.log(nights.fwhm).mean(axis=1)])
    estimate = truth + np.einsum("gij,gj->gi", covariance, score)
    return Seen(z, truth, estimate, covariance, ebv, ebv_catalog, conditions)


def colours(theta: np.ndarray, ebv: np.ndarray) -> np.ndarray:
    """r and u-g, g-r, r-i, i-z without Galactic dust, (galaxy, 5)."""
    magnitudes = theta[:, : len(BANDS)] - EXTINCTION * ebv[:, None]
    return np.column_stack([magnitudes[:, 2], -np.diff(magnitudes, axis=1)])


def features(seen: Seen) -> dict[str, np.ndarray]:
    """What a network is told of each galaxy, float32 (galaxy, feature), for each kind of knowledge."""
    measured = colours(seen.estimate, seen.ebv_catalog)
    around = np.column_stack([seen.ebv_catalog, seen.conditions])
    found = {
        "images": np.column_stack([measured, seen.estimate[:, len(BANDS) :], around]),
        "colours": np.column_stack([measured, around]),
        "noise_free": np.column_stack([colours(seen.truth, seen.ebv), seen.truth[:, len(BANDS) :]]),
    }
    return {knowledge: values.astype(np.float32) for knowledge, values in found.items()}
