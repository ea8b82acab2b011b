"""The population of the simulated sky is as hard as the real one, and copies nobody."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import GroupKFold, KFold
from sklearn.neighbors import NearestNeighbors

from sdss_photoz.config import Embedded
from sdss_photoz.embedded import build, fit_population, population, render

COLOURS = ("u-g", "g-r", "r-i", "i-z")


def sigma_mad(values):
    return 1.4826 * np.median(np.abs(values - np.median(values)))


def features(catalog):
    colours = [catalog[f"model_mag_{c[0]}"] - catalog[f"model_mag_{c[2]}"] for c in COLOURS]
    return np.column_stack([catalog["model_mag_r"], *colours])


@pytest.fixture(scope="module")
def real(shared_data):
    paths = [shared_data / f"oracles/SDSS_MGS.{part}" for part in ("train", "test")]
    return pd.concat(map(fit_population.read_training_table, paths), ignore_index=True)


@pytest.fixture(scope="module")
def catalog():
    """12,000 galaxies of the simulated sky as bright as the survey's, with catalogue noise."""
    drawn = population.draw_catalog(12_400, seed=1)
    return drawn[drawn["model_mag_r"] < 17.77][:11_500]


def local_linear(train, z, test, neighbours=100):
    scale = train.std(axis=0)
    nearest = NearestNeighbors(n_neighbors=neighbours).fit(train / scale).kneighbors(test / scale)[1]
    predicted = np.empty(len(test))
    for k, index in enumerate(nearest):
        design = np.column_stack([np.ones(neighbours), train[index] - test[k]])
        residual = z[index] - design @ np.linalg.lstsq(design, z[index], rcond=None)[0]
        kept = np.abs(residual) < 3 * residual.std()
        predicted[k] = np.linalg.lstsq(design[kept], z[index][kept], rcond=None)[0][0]
    return predicted


def test_colours_at_one_redshift_scatter_like_those_of_real_galaxies(catalog, real):
    drawn, true = (t[t[z].between(0.09, 0.11)] for t, z in ((catalog, "z_true"), (real, "zs")))
    for column, name in enumerate(COLOURS, start=1):
        colour = features(drawn)[:, column]
        assert sigma_mad(colour) == pytest.approx(sigma_mad(true[name]), rel=0.15), name
        assert np.median(colour) == pytest.approx(np.median(true[name]), abs=0.02), name


def test_redshifts_are_distributed_like_those_of_real_galaxies(catalog, real):
    at = [5, 25, 50, 75, 95]
    assert np.percentile(catalog["z_true"], at) == pytest.approx(np.percentile(real["zs"], at), abs=0.004)


def test_local_linear_regression_scores_as_on_real_photometry(catalog):
    x, z = features(catalog), catalog["z_true"].to_numpy()
    predicted = local_linear(x[:5000], z[:5000], x[5000:9000])
    assert sigma_mad((predicted - z[5000:9000]) / (1 + z[5000:9000])) == pytest.approx(0.0125, abs=0.0015)


@pytest.mark.slow
def test_magnitudes_measured_on_frames_are_as_hard_as_real_ones(real, tmp_path, monkeypatch):
    """Of the default sky some fields, without the patch's repeats: what the whole chain's baseline will meet."""
    monkeypatch.setattr(render, "frame_bytes", lambda *_: b"")  # half of the time, and nobody reads it
    _, objects = build.make_sky(Embedded(fields=12, visits=1), tmp_path, processes=1)
    targets = objects[(objects["kind"] == "target") & ~objects["suspect"]].copy()
    for band in "ugriz":
        targets[f"model_mag_{band}"] -= targets[f"extinction_{band}"]
    targets = targets[targets["petro_mag_r"] - targets["extinction_r"] < 17.8]
    x, z = features(targets), targets["z_true"].to_numpy()
    slices = np.abs(z - 0.1) < 0.01, real["zs"].between(0.09, 0.11)
    for column, name in enumerate(COLOURS, start=1):
        scatter = sigma_mad(x[slices[0], column]) / sigma_mad(real[name][slices[1]])
        print(f"{name}: median {np.median(x[slices[0], column]):.3f}, scatter {scatter:.2f} of the real one")
        assert scatter == pytest.approx(1, abs=0.15)
        assert np.median(x[slices[0], column]) == pytest.approx(np.median(real[name][slices[1]]), abs=0.03)
    order = np.random.default_rng(0).permutation(len(z))
    train, test = order[: len(z) * 3 // 4], order[len(z) * 3 // 4 :]
    score = sigma_mad((local_linear(x[train], z[train], x[test]) - z[test]) / (1 + z[test]))
    print(f"local-linear regression with {len(train)} training galaxies: {score:.5f}")
    assert score == pytest.approx(0.0125, abs=0.0015)


def test_forest_gains_nothing_from_galaxies_with_the_same_nearest_real_galaxy(catalog, real):
    x, z = features(catalog)[:6000], catalog["z_true"].to_numpy()[:6000]
    real_x = real[["r", *COLOURS]].to_numpy()
    scale = real_x.std(axis=0)
    parent = NearestNeighbors(n_neighbors=1).fit(real_x / scale).kneighbors(x / scale)[1][:, 0]
    forest = RandomForestRegressor(60, min_samples_leaf=3, random_state=0, n_jobs=1)
    residuals = []
    for splits in (KFold(3, shuffle=True, random_state=0).split(x), GroupKFold(3).split(x, groups=parent)):
        predicted = np.empty(len(z))
        for train, test in splits:
            predicted[test] = forest.fit(x[train], z[train]).predict(x[test])
        residuals.append((predicted - z) / (1 + z))
    rng = np.random.default_rng(0)
    resamples = [rng.integers(0, len(z), len(z)) for _ in range(200)]
    difference = [sigma_mad(residuals[1][i]) - sigma_mad(residuals[0][i]) for i in resamples]
    observed = sigma_mad(residuals[1]) - sigma_mad(residuals[0])
    print(f"random {sigma_mad(residuals[0]):.5f}, by nearest real galaxy {sigma_mad(residuals[1]):.5f}")
    assert abs(observed) < 2.5 * np.std(difference)
    assert abs(observed) < 0.0008  # copies of real galaxies give 0.005


def test_no_galaxy_is_a_copy_of_a_real_one_or_of_another():
    drawn = population.draw_galaxies(5000, np.random.default_rng(3))
    values = drawn[["z_true", *(f"mag_{band}" for band in "ugriz")]].to_numpy()
    distance = NearestNeighbors(n_neighbors=2).fit(values / values.std(axis=0)).kneighbors()[0][:, 0]
    assert distance.min() > 1e-3


def test_inclination_reddens_discs_and_leaves_red_galaxies_alone():
    drawn = population.draw_galaxies(8000, np.random.default_rng(4))
    near = drawn[drawn["z_true"].between(0.05, 0.12)]
    colour, tilt = near["mag_g"] - near["mag_r"], np.log10(1 / near["disc_ab"])
    blue, red = (~near["red"]).to_numpy(), near["red"].to_numpy()
    edge_on, face_on = (tilt > 0.5).to_numpy(), (tilt < 0.15).to_numpy()
    assert colour[blue & edge_on].mean() - colour[blue & face_on].mean() > 0.025
    assert abs(colour[red & edge_on].mean() - colour[red & face_on].mean()) < 0.015


def test_bulges_are_redder_than_discs():
    drawn = population.draw_galaxies(500, np.random.default_rng(5))
    fractions = drawn[[f"bulge_fraction_{band}" for band in "ugriz"]].to_numpy()
    assert np.all(np.diff(fractions, axis=1) > 0)
    assert np.all((fractions > 0) & (fractions < 1))


def test_galactic_dust_is_patchy_and_at_most_a_fifth_of_a_magnitude():
    rng = np.random.default_rng(6)
    ebv = population.galactic_ebv(rng.uniform(0, 360, 5000), rng.uniform(-5, 60, 5000), seed=20181)
    assert 0 < ebv.min() < 0.03
    assert 0.1 < ebv.max() <= 0.2
    steps = population.galactic_ebv(150 + np.arange(200) / 3600, np.full(200, 20.0), seed=20181)
    assert np.abs(np.diff(steps)).max() < 0.002  # smooth within arcseconds


@pytest.mark.slow
def test_the_shipped_population_is_the_fit_of_the_published_table(real):
    shipped, again = json.loads(population.POPULATION.read_text(encoding="utf-8")), fit_population.fit(real)
    for key in ("weights", "means", "covariances"):
        assert np.asarray(again[key]) == pytest.approx(np.asarray(shipped[key]), rel=0.02, abs=1e-4)
