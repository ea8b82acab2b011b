"""Magnitudes are measured on the pixels, with errors that are honest."""

import numpy as np
import pytest

from sdss_photoz.config import Embedded
from sdss_photoz.embedded import build, camera, photometry, render
from sdss_photoz.embedded.scene import draw_scenes
from sdss_photoz.surveys import SDSS

SKY = Embedded(seed=5, fields=2, visits=1, galaxies_per_field=250)


@pytest.fixture(scope="module")
def field():
    """One field of 250 galaxies: objects, and what each band measures on noisy and on noise-free pixels."""
    scene = draw_scenes(SKY)[0]
    strip, conditions = scene.strips[0], scene.conditions[0]
    primary = ((scene.objects["strip_index"] == 0) & (scene.objects["field_index"] == 0)).to_numpy()
    psfs = [
        {b: render.PointSpread(now[b]["fwhm"], tuple(now[b]["shear"])) for b in SDSS.band_names} for now in conditions
    ]
    shapes = build._shapes(scene, 0)
    noisy, clean, radii = {}, {}, None
    for band in "rugiz":
        light, sources = build._draw_band(scene, 0, 0, band, shapes, psfs, primary)
        image = render.expose(light, strip, 0, band, conditions, SKY.seed)
        now = conditions[0][band]
        near, wanted = build._neighbourhood(sources, primary)
        noise = camera.sky_noise(now), camera.photon_variance(now)
        noisy[band] = photometry.measure_band(image, near, wanted, band, *noise, radii)
        radii = noisy["r"]["petro_rad"] / SDSS.pixel_scale
        clean[band] = photometry.measure_band(light, near, wanted, band, *noise, radii)
    return scene.objects[primary].reset_index(drop=True), noisy, clean


@pytest.mark.parametrize("band", SDSS.band_names)
@pytest.mark.parametrize("kind", ["model", "petro"])
def test_quoted_errors_are_the_scatter_of_the_measurement(field, band, kind):
    objects, noisy, clean = field
    targets = (objects["kind"] == "target").to_numpy()
    difference = noisy[band][f"{kind}_mag"] - clean[band][f"{kind}_mag"]
    pull = (difference / noisy[band][f"{kind}_mag_err"])[targets]
    spread = 1.4826 * np.median(np.abs(pull))
    print(f"{kind} {band}: pull {spread:.3f}, mean {np.mean(np.clip(pull, -4, 4)):+.3f}")
    assert spread == pytest.approx(1, abs=0.17)  # 250 galaxies: 0.05 of sampling
    assert abs(np.mean(np.clip(pull, -4, 4))) < 0.25


def test_model_magnitudes_recover_the_light_that_was_drawn(field):
    objects, noisy, _ = field
    targets = (objects["kind"] == "target").to_numpy()
    for band, limit in zip(SDSS.band_names, (0.05, 0.02, 0.01, 0.01, 0.015), strict=True):
        true = 22.5 - 2.5 * np.log10(objects[f"flux_{band}"].to_numpy())
        suspect = build.SUSPECT_ERROR if band == "g" else 0.0  # a sky of one strip: it is the suspect one
        assert abs(np.median((noisy[band]["model_mag"] - true)[targets]) - suspect) < limit, band


def test_errors_are_of_the_size_of_the_real_catalogues(field, shared_data):
    from sdss_photoz.embedded.fit_population import read_training_table

    objects, noisy, _ = field
    targets = (objects["kind"] == "target").to_numpy()
    real = read_training_table(shared_data / "oracles/SDSS_MGS.train")
    for band in SDSS.band_names:
        ours = np.median(noisy[band]["model_mag_err"][targets])
        assert 0.6 < ours / real[f"e{band}"].median() < 1.5, band


def test_light_brings_its_own_photon_noise():
    scene = draw_scenes(SKY)[0]
    strip, now = scene.strips[0], scene.conditions[0][0]["r"]
    for level in (0.0, 0.5, 5.0):  # nanomaggies in a pixel: sky, a galaxy's outskirts, a bright core
        light = np.full(render.FRAME_SHAPE, level, dtype=np.float32)
        image = render.expose(light, strip, 0, "r", scene.conditions[0], seed=1)[:1361]
        expected = camera.sky_noise(now) ** 2 + level * now["nmgy"] / now["gain"]
        assert image.astype(float).mean() == pytest.approx(level, abs=4 * np.sqrt(expected / image.size) + 5e-4 * level)
        assert image.astype(float).var() == pytest.approx(expected, rel=0.03)


def test_stars_are_points_and_galaxies_are_not(field):
    objects, noisy, _ = field
    extent = noisy["r"]["psf_mag"] - noisy["r"]["model_mag"]
    stars, targets = (objects["kind"] == kind for kind in ("star", "target"))
    assert np.median(np.abs(extent[stars])) < 0.01
    assert np.mean(extent[targets] > 0.24) > 0.97  # the cut of the survey's target selection is 0.3


def test_petrosian_sizes_and_concentrations_follow_the_profiles(field):
    objects, noisy, _ = field
    targets = (objects["kind"] == "target").to_numpy()
    r50, r90 = noisy["r"]["petro_r50"][targets], noisy["r"]["petro_r90"][targets]
    assert 1.6 < np.median(r50) < 2.3
    concentration, fraction = r90 / r50, objects["bulge_fraction_r"][targets].to_numpy()
    assert np.median(concentration[fraction > 0.7]) > np.median(concentration[fraction < 0.2]) + 0.3
    assert 2.0 < np.median(concentration) < 3.2


def test_petrosian_magnitudes_miss_little_light(field):
    objects, noisy, _ = field
    targets = (objects["kind"] == "target").to_numpy()
    missed = (noisy["r"]["petro_mag"] - noisy["r"]["model_mag"])[targets]
    assert 0 < np.median(missed) < 0.12
    assert np.percentile(np.abs(missed), 95) < 0.3


def test_cmodel_weighs_bulge_and_disc(field):
    objects, noisy, _ = field
    targets = (objects["kind"] == "target").to_numpy()
    fraction, measured = objects["bulge_fraction_r"].to_numpy()[targets], noisy["r"]["frac_dev"][targets]
    assert np.corrcoef(fraction, measured)[0, 1] > 0.9


def test_a_growth_curve_finds_the_petrosian_radius_of_a_pure_exponential():
    """Petrosian radius and half-light radius by the profile's own formula (Graham et al. 2005, table 1)."""
    scale = 6.0
    y, x = np.mgrid[:201, :201] - np.array([99.8, 100.3])[:, None, None]
    image = np.exp(-np.hypot(x, y) / scale).astype(np.float32)
    source = photometry.Source(100.3, 99.8, (slice(0, 201), slice(0, 201)), [image], 0.0)
    growth = photometry.GrowthCurve.of(image, source)
    radius = np.linspace(0.1, 100, 4000)
    within = 1 - np.exp(-radius / scale) * (1 + radius / scale)
    ring = np.interp(1.25 * radius, radius, within) - np.interp(0.8 * radius, radius, within)
    expected = radius[np.flatnonzero((ring / (1.25**2 - 0.8**2) < 0.2 * within) & (radius > 2))[0]]
    assert growth.petrosian_radius() == pytest.approx(expected, abs=0.5)
    assert growth.radius_of(0.5, 90.0) == pytest.approx(1.678 * scale, abs=0.3)
