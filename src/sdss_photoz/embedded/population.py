"""The population of galaxies and stars of the simulated sky: intrinsic properties, without observational effects.

Redshift, r and colours are drawn from a Gaussian mixture fitted to real galaxies (`fit_population`); type, size, bulge,
disc and inclination from published relations for galaxies of that luminosity and colour. All distributions are
continuous: no galaxy is a copy of a real one.
"""

import json
from functools import cache

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import qmc

from sdss_photoz.embedded.camera import draw_conditions, photon_variance, sky_noise
from sdss_photoz.embedded.fit_population import EDGE, POPULATION
from sdss_photoz.files import digest
from sdss_photoz.surveys import SDSS

FAINTEST_TARGET = 18.3  # mag: some galaxies with a redshift are fainter than the survey's limit
FAINT_FRACTION = 0.12  # of the galaxies between the survey's limit and FAINTEST_TARGET that have a redshift
INCLINATION_DUST = np.array([0.0, 0.50, 0.16, 0.12, 0.05, 0.05])  # per log10(a/b): log z, r, four colours of a disc
THINNEST_DISC = 0.18  # axis ratio of a disc seen edge-on
BULGE_EXCESS = dict(
    zip(SDSS.band_names, (0.35, 0.10, 0.0, -0.04, -0.07), strict=True)
)  # bulge minus disc, mag, relative to r


@cache
def _mixture():
    """Return weights, means, Cholesky factors and strength of the inclination's reddening of each Gaussian."""
    values = json.loads(POPULATION.read_text(encoding="utf-8"))
    weights, means = np.array(values["weights"]), np.array(values["means"])
    covariances = np.array(values["covariances"])
    tilt = np.log10(1 / disc_axis_ratio((np.arange(10_000) + 0.5) / 10_000))
    late = 1 - early_type(10 ** means[:, 0], means[:, 3])
    # the scatter by inclination is subtracted from the Gaussian's covariance, which must stay positive definite
    room = 1 / np.einsum("c,kcd,d->k", INCLINATION_DUST, np.linalg.inv(covariances), INCLINATION_DUST)
    strength = np.minimum(late, np.sqrt(0.8 * room / tilt.var()))
    dust = np.outer(INCLINATION_DUST, INCLINATION_DUST) * tilt.var()
    factors = np.linalg.cholesky(covariances - strength[:, None, None] ** 2 * dust)
    return weights / weights.sum(), means, factors, strength, tilt.mean()


def disc_axis_ratio(cos_inclination):
    """Return the axis ratio of an oblate disc, from the cosine of the angle between its axis and the line of sight."""
    return np.sqrt(THINNEST_DISC**2 + (1 - THINNEST_DISC**2) * np.asarray(cos_inclination) ** 2)


def early_type(z, g_r):
    """Return the probability that a galaxy is of the red sequence, from redshift and dereddened g-r."""
    return 1 / (1 + np.exp(-(g_r - 0.66 - 1.9 * z) / 0.04))


@cache
def _distances():
    z = np.linspace(0, 2, 4001)
    rate = 1 / np.sqrt(0.3 * (1 + z) ** 3 + 0.7)
    return z, 299_792.458 / 70 * np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(z))])


def comoving_distance(z):
    """Return the comoving distance (Mpc) for H0 = 70 km/s/Mpc and matter density 0.3, flat."""
    return np.interp(z, *_distances())


def half_light_radius(z, r, early, rng):
    """Draw half-light radii (arcsec) from the size-luminosity relations of Shen et al. (2003), with their scatter."""
    distance = comoving_distance(z)
    absolute = r - 5 * np.log10(distance * (1 + z)) - 25 - z  # K correction of about one magnitude per unit z
    log_early = -0.26 * absolute - 5.06
    log_late = -0.104 * absolute + 0.25 * np.log10(1 + 10 ** (-0.4 * (absolute + 20.91))) - 1.71
    scatter = np.where(absolute < -20.9, 0.30, 0.40) / np.log(10)
    log_kpc = early * log_early + (1 - early) * log_late + scatter * rng.standard_normal(len(z))
    return np.clip(0.92 * 10**log_kpc / (distance * 1000 / (1 + z)) * 206_265, 0.25, 20)


def draw_galaxies(number: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw galaxies of the Main Galaxy Sample, a few of them fainter than its limit.

    Parameters
    ----------
    number : int
        Number of galaxies.
    rng : numpy.random.Generator
        Random generator.

    Returns
    -------
    DataFrame
        One row for each galaxy, in random order: z_true; mag_{b}, total magnitudes without Galactic extinction;
        bulge_fraction_{b}, fraction of the light in the n = 4 bulge; bulge_r50 and disc_r50 (half-light semi-major
        axes, arcsec), bulge_ab and disc_ab (axis ratios), position_angle (degrees, north to east), red (bool).
    """
    weights, means, factors, strength, mean_tilt = _mixture()
    # quasi-random draws (Sobol) keep a sky's types and redshifts near the population's; the order is shuffled last
    uniform = qmc.Sobol(8, rng=rng).random_base2(int(np.ceil(np.log2(3 * number + 200))))
    component = np.searchsorted(np.cumsum(weights)[:-1], uniform[:, 0])
    x = means[component] + np.einsum("gij,gj->gi", factors[component], ndtri(np.clip(uniform[:, 1:7], 1e-9, 1 - 1e-9)))
    disc_ab = disc_axis_ratio(uniform[:, 7])
    x += INCLINATION_DUST * (strength[component] * (np.log10(1 / disc_ab) - mean_tilt))[:, None]
    kept = (x[:, 1] <= EDGE) | ((x[:, 1] <= FAINTEST_TARGET) & (rng.uniform(size=len(x)) < FAINT_FRACTION))
    kept &= (x[:, 1] > 12.5) & (x[:, 0] > np.log10(0.005)) & (x[:, 0] < np.log10(0.4))
    chosen = rng.permutation(np.flatnonzero(kept)[:number])
    x, disc_ab = x[chosen], disc_ab[chosen]
    z, r, (u_g, g_r, r_i, i_z) = 10 ** x[:, 0], x[:, 1], x[:, 2:].T
    early = early_type(z, g_r)
    fraction = 1 / (1 + np.exp(-rng.normal(-1.7 + 2.8 * early, 0.9)))  # of the light in r in the bulge
    size = half_light_radius(z, r, early, rng)
    ratio = np.exp(rng.normal(np.log(0.55), 0.3, len(z)))  # of bulge radius to disc radius
    galaxies = pd.DataFrame({"z_true": z})
    for band, mag in zip(SDSS.band_names, (r + g_r + u_g, r + g_r, r, r - r_i, r - r_i - i_z), strict=True):
        galaxies[f"mag_{band}"] = mag
    for band, excess in BULGE_EXCESS.items():
        bulge = fraction * 10 ** (-0.4 * excess)
        galaxies[f"bulge_fraction_{band}"] = bulge / (bulge + 1 - fraction)
    galaxies["disc_r50"] = size / ratio**fraction
    galaxies["bulge_r50"] = galaxies["disc_r50"] * ratio
    galaxies["bulge_ab"] = 1 - (1 - disc_ab) * rng.uniform(0.2, 0.6, len(z))
    galaxies["disc_ab"] = disc_ab
    galaxies["position_angle"] = rng.uniform(0, 180, len(z))
    galaxies["red"] = early > 0.5
    return galaxies


def draw_faint_galaxies(number: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw background galaxies of r = 18.5 to 21.5, with the columns of `draw_galaxies`."""
    galaxies = draw_galaxies(number, rng)
    faintest, brightest = 10 ** (0.35 * 21.5), 10 ** (0.35 * 18.5)
    r = np.log10(rng.uniform(brightest, faintest, number)) / 0.35
    fainter = (r - galaxies["mag_r"]).to_numpy()
    for band in SDSS.band_names:
        galaxies[f"mag_{band}"] += fainter
    galaxies[["disc_r50", "bulge_r50"]] *= np.clip(10 ** (-0.12 * fainter), 0.1, 1)[:, None]
    galaxies["z_true"] = np.minimum(galaxies["z_true"] * 10 ** (0.1 * fainter), 0.9)
    return galaxies


def draw_stars(number: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw stars of r = 15 to 21 near the stellar locus: mag_{b} without Galactic extinction."""
    r = np.log10(rng.uniform(10 ** (0.15 * 15), 10 ** (0.15 * 21), number)) / 0.15
    g_r = np.clip(rng.choice([0.4, 0.9, 1.4], number, p=[0.45, 0.25, 0.3]) + rng.normal(0, 0.15, number), 0.15, 1.55)
    r_i = 0.4 * g_r - 0.03 + np.where(g_r > 1.2, np.abs(rng.normal(0.3, 0.3, number)), 0) + rng.normal(0, 0.03, number)
    u_g = np.clip(0.75 + 1.3 * (g_r - 0.15), 0.8, 2.6) + rng.normal(0, 0.08, number)
    i_z = 0.55 * r_i + rng.normal(0, 0.03, number)
    magnitudes = (r + g_r + u_g, r + g_r, r, r - r_i, r - r_i - i_z)
    return pd.DataFrame({f"mag_{band}": mag for band, mag in zip(SDSS.band_names, magnitudes, strict=True)})


def galactic_ebv(ra, dec, seed: int):
    """Return E(B-V) (mag) of the simulated Milky Way: patchy on scales of 10 degrees to 10 arcmin, at most 0.2."""
    rng = np.random.default_rng([seed, 411])
    ra, dec = np.radians(ra), np.radians(dec)
    position = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
    field = np.zeros(position.shape[:-1])
    for waves, amplitude in ((15, 0.5), (100, 0.3), (1000, 0.12)):  # per radian
        direction = rng.standard_normal((12, 3))
        direction *= waves * rng.uniform(0.6, 1.6, (12, 1)) / np.linalg.norm(direction, axis=1, keepdims=True)
        field += amplitude * np.sqrt(2 / 12) * np.cos(position @ direction.T + rng.uniform(0, 2 * np.pi, 12)).sum(-1)
    return np.clip(0.05 * np.exp(field), 0.008, 0.2)


def draw_catalog(number: int, seed: int) -> pd.DataFrame:
    """Draw galaxies with the noise of a catalogue, without rendering them, for tests.

    Returns
    -------
    DataFrame
        z_true, and dereddened model_mag_{b} and model_mag_err_{b}; errors are those of sky and photon noise in the
        effective area 4 pi R50^2, with seeing.
    """
    rng = np.random.default_rng([seed, 77])
    galaxies = draw_galaxies(number, rng)
    night = draw_conditions(4, 1, rng)[0]
    radius = np.hypot(np.sqrt(galaxies["disc_r50"] * galaxies["bulge_r50"]), 0.7)
    area = 4 * np.pi * (radius / SDSS.pixel_scale) ** 2
    reddening = rng.normal(0, 0.1, number) * rng.uniform(0.01, 0.12, number)  # error of the catalogued E(B-V)
    catalog = pd.DataFrame({"z_true": galaxies["z_true"]})
    for band in SDSS.band_names:
        flux = 10 ** (0.4 * (SDSS.zero_point[band] - galaxies[f"mag_{band}"]))
        error = np.sqrt(area * sky_noise(night[band]) ** 2 + flux * photon_variance(night[band]))
        noisy = np.maximum(flux + rng.standard_normal(number) * error, 0.01 * flux)
        catalog[f"model_mag_{band}"] = SDSS.zero_point[band] - 2.5 * np.log10(noisy) + reddening * SDSS.extinction[band]
        catalog[f"model_mag_err_{band}"] = 2.5 / np.log(10) * error / flux
    return catalog


@cache
def population_digest() -> str:
    """Return a digest of the population: SHA-256 of fixed draws of galaxies, dust and conditions, to 6 decimals.

    It does not depend on seed and size of a sky.
    """
    rng = np.random.default_rng(411)
    galaxies = draw_galaxies(500, rng).to_numpy(float)
    nights = [[list(now[band].values()) for band in SDSS.band_names] for now in draw_conditions(2, 8, rng)]
    dust = galactic_ebv(rng.uniform(0, 360, 500), rng.uniform(-5, 60, 500), seed=411)
    values = np.concatenate([galaxies.ravel(), dust, *(np.hstack(band) for now in nights for band in now)])
    return digest((np.round(values, 6) + 0.0).tolist())  # + 0.0 turns -0.0 into 0.0
