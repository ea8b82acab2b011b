"""The simulated survey's geometry is the real one's, and where a galaxy stands says nothing about its redshift."""

import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.wcs import WCS
from scipy.spatial import cKDTree
from scipy.stats import kruskal, ks_2samp, spearmanr

from sdss_photoz.config import Embedded
from sdss_photoz.embedded import astrometry, camera
from sdss_photoz.embedded.scene import draw_scenes
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE


@pytest.fixture(scope="module")
def scenes():
    """The default sky, before it is rendered."""
    return draw_scenes(Embedded())


@pytest.fixture(scope="module")
def targets(scenes):
    tables = [scene.objects.assign(scene=number) for number, scene in enumerate(scenes)]
    table = pd.concat(tables, ignore_index=True)
    return table[table["kind"] == "target"].reset_index(drop=True)


def header_wcs(strip, number, band):
    wcs = WCS(naxis=2)
    keys = astrometry.tangent_wcs(strip, number, band)
    wcs.wcs.ctype, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [1025, 745]
    wcs.wcs.crval = [keys["CRVAL1"], keys["CRVAL2"]]
    wcs.wcs.cd = [[keys["CD1_1"], keys["CD1_2"]], [keys["CD2_1"], keys["CD2_2"]]]
    return wcs


def test_headers_tell_the_same_positions_as_the_great_circle_terms(scenes):
    x, y = np.meshgrid(np.linspace(0, 2047, 13), np.linspace(0, 1488, 11))
    worst = 0.0
    for scene in scenes:
        for strip in scene.strips:
            for band in SDSS.band_names:
                ra, dec = strip.sky(band, x, y)
                seen = header_wcs(strip, 0, band).wcs_world2pix(ra.ravel(), dec.ravel(), 0)
                worst = max(worst, np.abs(seen[0] - x.ravel()).max(), np.abs(seen[1] - y.ravel()).max())
    print(f"largest difference {worst:.3f} pixel")
    assert worst < 0.1


def test_great_circle_formula_agrees_with_real_frames(shared_data):
    from astropy.io import fits

    x, y = np.meshgrid(np.linspace(0, 2047, 5), np.linspace(0, 1488, 5))
    for path in sorted((shared_data / "sas").rglob("frame-u-*.bz2")):
        with fits.open(path) as hdus, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            term, wcs = hdus[3].data[0], WCS(hdus[0].header)
        strip = astrometry.Strip(
            0, 0, 0, 1, 0, "N", float(term["NODE"]), float(term["INCL"]), 0.0, {"u": tuple(term[c] for c in "ABCDEF")}
        )
        seen = wcs.wcs_world2pix(*(v.ravel() for v in strip.sky("u", x, y)), 0)
        assert np.abs(seen[0] - x.ravel()).max() < 0.1
        assert np.abs(seen[1] - y.ravel()).max() < 0.1


def test_pixels_and_sky_are_inverse(scenes):
    strip = scenes[0].strips[0]
    x, y = np.random.default_rng(0).uniform(0, 1400, (2, 100))
    assert np.allclose(strip.pixels("g", *strip.sky("g", x, y)), (x, y), atol=1e-5)


def test_bands_of_a_field_point_a_few_arcsec_apart(scenes):
    for scene in scenes:
        for strip in scene.strips:
            centre = np.array([strip.sky(band, *astrometry.REFERENCE_PIXEL) for band in SDSS.band_names])
            shift = (centre - centre[2]) * [np.cos(np.radians(centre[2, 1])), 1] * 3600
            distance = np.hypot(*shift.T)
            assert 0.1 < distance.max() < 8


def test_the_patch_has_swapped_axes_and_strips_are_rotated(scenes):
    for strip in scenes[-1].strips:
        keys = astrometry.tangent_wcs(strip, 0, "r")
        assert abs(keys["CD1_1"]) < 1e-6 < 1e-4 < abs(keys["CD1_2"])
    angles = []
    for scene in scenes[:-1]:
        keys = astrometry.tangent_wcs(scene.strips[0], 0, "r")
        angles.append(np.degrees(np.arctan2(keys["CD1_1"], keys["CD1_2"])))
    assert np.ptp(angles) > 20


def test_runs_see_the_patch_from_slightly_different_pointings(scenes):
    patch = scenes[-1]
    assert len(patch.strips) == 6
    assert len({strip.run for strip in patch.strips}) == 6
    centre = np.array([strip.sky("r", *astrometry.REFERENCE_PIXEL) for strip in patch.strips])
    assert 5 < np.ptp(centre[:, 0]) * 3600 / SDSS.pixel_scale < 150


def test_one_strip_has_a_wrong_zero_point_in_one_band(scenes):
    suspect = [strip.suspect for scene in scenes for strip in scene.strips]
    assert [name for name in suspect if name is not None] == ["g"]


def test_places_of_the_sky_lie_apart(scenes):
    centres = [scene.strips[0].sky("r", 1000, 700) for scene in scenes]
    ra, dec = np.radians(centres).T
    vector = np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    apart = np.degrees(cKDTree(vector).query(vector, 2)[0][:, 1])
    assert apart.min() > 0.5


def test_three_per_cent_of_targets_have_another_within_17_arcsec(targets):
    near, total = 0, 0
    for _, group in targets.groupby("scene"):
        distance = cKDTree(group[["x", "y"]]).query(group[["x", "y"]], 2)[0][:, 1]
        near, total = near + np.count_nonzero(distance * SDSS.pixel_scale < 17), total + len(group)
    assert 0.02 < near / total < 0.05


def test_some_targets_stand_at_the_edges_of_frames(targets):
    assert 10 < np.count_nonzero((targets["x"] < 32) | (targets["x"] > FRAME_SHAPE[1] - 33)) < 0.05 * len(targets)


def test_density_is_the_configured_one_in_every_field(scenes):
    for scene in scenes:
        objects = scene.objects[scene.objects["kind"] == "target"]
        area = FRAME_SHAPE[1] * FIELD_ROWS
        box = np.ptp(objects["x"]) * np.ptp(objects["y"])
        assert len(objects) / box * area == pytest.approx(250, rel=0.08)


@pytest.mark.parametrize("cheat", ["x", "y", "order", "phase_x", "phase_y", "neighbours", "place", "ebv", "angle"])
def test_redshift_cannot_be_read_from(cheat, targets):
    density = np.empty(len(targets))
    for _, group in targets.groupby("scene"):
        tree = cKDTree(group[["x", "y"]])
        density[group.index] = [len(found) for found in tree.query_ball_point(group[["x", "y"]], 150)]
    values = {
        "x": targets["x"], "y": targets["y"], "order": targets.index, "phase_x": targets["x"] % 1,
        "phase_y": targets["y"] % 1, "neighbours": density, "place": targets["scene"], "ebv": targets["ebv"],
        "angle": targets["position_angle"],
    }  # fmt: skip
    assert spearmanr(values[cheat], targets["z_true"]).pvalue > 1e-3


@pytest.mark.parametrize("band", SDSS.band_names)
@pytest.mark.parametrize("quantity", ["noise", "fwhm", "sky"])
def test_redshift_cannot_be_read_from_the_conditions_of_a_frame(quantity, band, scenes, targets):
    known = targets[targets["strip_index"] >= 0]
    value = {}
    for number, scene in enumerate(scenes):
        for index, conditions in enumerate(scene.conditions):
            for block, now in enumerate(conditions):
                noise = camera.sky_noise(now[band])
                value[number, index, block] = noise if quantity == "noise" else now[band][quantity]
    places = zip(known["scene"], known["strip_index"], known["field_index"], strict=True)
    assert spearmanr([value[place] for place in places], known["z_true"]).pvalue > 1e-3


def test_redshifts_are_alike_in_every_field_and_at_every_depth(targets):
    known = targets[targets["strip_index"] >= 0]
    by_field = [group["z_true"] for _, group in known.groupby(["scene", "strip_index", "field_index"])]
    assert len(by_field) > 20
    assert kruskal(*[z for z in by_field if len(z) > 5]).pvalue > 1e-3
    patch = targets["scene"] == targets["scene"].max()
    assert ks_2samp(targets["z_true"][patch], targets["z_true"][~patch]).pvalue > 1e-3


@pytest.mark.parametrize("quantity", ["fwhm", "sky"])
def test_seeing_and_sky_differ_by_frame_and_band(quantity, scenes):
    runs = [conditions for scene in scenes for conditions in scene.conditions]
    values = np.log(
        [[now[band][quantity] for band in SDSS.band_names] for now in (conditions[0] for conditions in runs)]
    )
    assert (values.std(axis=0) > 0.04).all()  # from run to run
    assert (np.delete(values - values[:, 2:3], 2, axis=1).std(axis=0) > 0.01).all()  # the bands not all alike
    along = [np.diff(np.log([now["r"][quantity] for now in conditions])) for conditions in runs]
    assert 0.01 < np.concatenate(along).std() < 0.05  # from field to field of one run


def test_dust_acts_on_the_light_and_the_catalogue_knows_it_to_a_tenth(targets):
    ratio = targets["ebv_catalog"] / targets["ebv"]
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ratio.std() == pytest.approx(0.1, rel=0.1)
    assert abs(spearmanr(ratio, targets["ebv"]).statistic) < 4 / np.sqrt(len(targets))
    for band, coefficient in {"u": 4.239, "g": 3.303, "r": 2.285, "i": 1.698, "z": 1.263}.items():
        lost = 22.5 - 2.5 * np.log10(targets[f"flux_{band}"]) - targets[f"mag_{band}"]
        assert np.allclose(lost, coefficient * targets["ebv"], atol=1e-9)


def test_sub_pixel_phases_are_uniform(targets):
    counts = np.histogram(targets["x"] % 1, bins=10, range=(0, 1))[0]
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 27.9  # chi-square, 9 degrees, 0.1 %
