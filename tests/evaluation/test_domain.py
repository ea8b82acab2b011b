"""The training domain, measured on cubes."""

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.evaluation import domain
from sdss_photoz.surveys import SDSS, PixelGrid

FLUX = np.array([2.0, 8.0, 20.0, 30.0, 40.0])  # nanomaggies in ugriz


def cubes_of(flux, shape=None):
    """Cubes with all flux in the four pixels of the centre."""
    cubes = np.zeros((len(flux), 64, 64, 5), np.float32)
    cubes[:, 31:33, 31:33] = np.asarray(flux)[:, None, None] / 4
    return cubes


def test_fluxes_are_summed_over_the_aperture_alone_and_dereddened():
    cubes = cubes_of([FLUX, FLUX])
    cubes[:, 31, 50] = 100  # 7 arcsec off the centre
    measured = domain.measure(cubes, np.array([0, 0.3]), np.ones((2, 5)))
    assert measured["flux_r"][0] == pytest.approx(20, rel=1e-6)
    assert measured["u_over_r"][0] == pytest.approx(0.1, rel=1e-6)
    assert measured["z_over_r"][0] == pytest.approx(2, rel=1e-6)
    brighter = -2.5 * np.log10(measured["flux_r"][1] / 20)
    assert brighter == pytest.approx(-0.3 * SDSS.extinction["r"])
    assert measured["u_over_r"][1] > measured["u_over_r"][0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store and a table of 300 galaxies; one without a frame in the i band is bluer than all others."""
    random = np.random.default_rng(5)
    galaxies = pd.DataFrame({"object_id": np.arange(300), "ra": np.linspace(1, 2, 300), "dec": 0.0, "row": range(300)})
    galaxies["ebv"], galaxies["dered_petro_r"] = random.uniform(0, 0.1, 300), random.uniform(14, 17.8, 300)
    flux = FLUX * random.uniform(1, 2, (300, 5))
    flux[7, 0], depth = 1000, np.ones((300, 5), np.uint16)
    depth[7, 3], depth[5:8, 2] = 0, 3
    store = tmp_path_factory.mktemp("store") / "cubes.zarr"
    create_store(store, galaxies, 1)
    write_shard(store, 0, cubes_of(flux), depth)
    return store, galaxies, flux, depth


def test_limits_are_percentiles_of_the_training_galaxies_with_all_frames(trained):
    store, galaxies, flux, _ = trained
    limits = domain.training_limits(galaxies, store)
    rest = np.arange(300) != 7
    assert limits["ebv"].tolist() == pytest.approx(np.percentile(galaxies["ebv"][rest], [0.1, 99.9]))
    red = flux[:, 2] * 10 ** (0.4 * SDSS.extinction["r"] * galaxies["ebv"])
    assert limits["flux_r"].tolist() == pytest.approx(np.percentile(red[rest], [0.1, 99.9]), rel=1e-5)
    assert limits["u_over_r"]["high"] < 2
    assert limits["depth_i"].tolist() == [1, 1]


def test_each_flag_is_of_its_own_quantity(trained):
    store, galaxies, *_ = trained
    limits = domain.training_limits(galaxies, store)
    flux = np.array([FLUX, FLUX, FLUX, FLUX, FLUX, 0 * FLUX]) * 1.5
    flux[1] *= 100
    flux[2, 0] *= 30
    ebv, depth = np.array([0.05, 0.05, 0.05, 0.5, 0.05, 0.05]), np.ones((6, 5))
    depth[4, 1] = 2
    found = domain.outside(domain.measure(cubes_of(flux), ebv, depth), limits)
    wrong = {1: ["outside_r"], 2: ["outside_colour"], 3: ["outside_ebv"], 4: ["outside_depth"]}
    assert not found.loc[0].any()
    for row in (2, 4):
        assert found.columns[found.loc[row]].tolist() == wrong[row]
    assert found.loc[1, "outside_r"]
    assert not found.loc[1, "outside_colour"]
    assert found.loc[3, "outside_ebv"]
    assert not found.loc[3, "outside_depth"]
    assert found.loc[5, ["outside_r", "outside_colour"]].all()  # no flux, so no ratios


def test_a_petrosian_magnitude_decides_where_it_is_known(trained):
    store, galaxies, *_ = trained
    limits = domain.training_limits(galaxies, store)
    measured = domain.measure(cubes_of(np.array([FLUX] * 3) * 1.5), np.full(3, 0.05), np.ones((3, 5)))
    found = domain.outside(measured, limits, [16.0, 20.0, np.nan])
    assert found["outside_r"].tolist() == [False, True, False]
    without = limits.drop(columns=domain.PETROSIAN)
    assert not domain.outside(measured, without, [16.0, 20.0, np.nan])["outside_r"].any()


def test_of_many_galaxies_whole_chunks_all_over_the_store_are_measured(trained, monkeypatch):
    store, galaxies, *_ = trained
    seen = []
    monkeypatch.setattr(domain, "MEASURED", 200)
    monkeypatch.setattr(domain, "measure", lambda cubes, *_: seen.append(len(cubes)) or pd.DataFrame(
        dict.fromkeys(["flux_r", "g_over_r"], np.ones(len(cubes)))
    ))  # fmt: skip
    domain.training_limits(galaxies, store)
    assert sum(seen) == 127 + 44  # the first and the third chunk, but for the galaxy that lacks a frame


def test_who_trains_or_validates_in_some_fold_is_training_data():
    galaxies = pd.DataFrame({"object_id": [1, 2, 3, 4], "row": [3, 2, 1, 0]})
    folds = pd.DataFrame({"object_id": [1, 2, 3, 4], "role_0": ["test", "train", "none", "test"]})
    folds["role_1"] = ["validation", "test", "none", "test"]
    assert domain.training_galaxies(galaxies, folds)["object_id"].tolist() == [2, 1]


def test_quantities_follow_pixels_and_bands():
    """A source of 2 nanomaggies a square arcsec: its flux within 3 arcsec is that of the disc, in any pixels."""
    for grid in (PixelGrid(64, 0.396, tuple("griz")), PixelGrid(91, 0.2, ("g", "i"))):
        cubes = np.full((1, *grid.shape), 2 * grid.pixel_scale**2)
        found = domain.measure(cubes, np.zeros(1), np.ones((1, len(grid.bands))), grid)
        assert found[f"flux_{grid.main_band}"][0] == pytest.approx(2 * np.pi * 3**2, rel=0.02)
        others = [band for band in grid.bands if band != grid.main_band]
        ratios = [f"{band}_over_{grid.main_band}" for band in others]
        assert list(found) == [f"flux_{grid.main_band}", *ratios, "ebv", *(f"depth_{band}" for band in grid.bands)]
        limits = pd.DataFrame([found.iloc[0] - 0.1, found.iloc[0] + 0.1], index=["low", "high"])
        assert not domain.outside(found, limits).any(axis=None)
        for name, flag in ((ratios[0], "outside_colour"), (f"depth_{others[0]}", "outside_depth")):
            flags = domain.outside(found.assign(**{name: found[name] + 1}), limits)
            assert flags.columns[flags.iloc[0]].tolist() == [flag]
