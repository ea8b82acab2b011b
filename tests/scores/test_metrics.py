"""Scores, their errors and their differences."""

import numpy as np
import pytest

from sdss_photoz.errors import UserError
from sdss_photoz.scores import metrics
from sdss_photoz.scores.residuals import residuals, sigma_mad


def test_scores_follow_the_papers_definitions():
    z_spec = np.array([0.1, 0.1, 0.1, 0.1, 0.1])
    dz = np.array([-0.02, 0.0, 0.01, 0.03, 0.06])
    found = metrics.scores(residuals(z_spec + dz * 1.1, z_spec))
    assert found["bias"] == pytest.approx(0.016)
    assert found["sigma_mad"] == pytest.approx(1.4826 * 0.02)  # median 0.01; deviations 0, 0.01, 0.02, 0.03, 0.05
    assert found["outliers"] == pytest.approx(0.2)


def test_sigma_mad_of_a_gaussian_is_its_sigma_and_does_not_see_bias_or_outliers():
    dz = np.random.default_rng(3).normal(0.02, 0.01, 200_000)
    dz[:200] = 0.3
    assert sigma_mad(dz) == pytest.approx(0.01, rel=0.01)


def test_bootstrap_error_of_independent_galaxies_is_that_of_the_mean():
    dz = np.random.default_rng(4).normal(0, 0.01, 2000)
    found = metrics.compare({"a": {"dz": dz}}, np.arange(2000), resamples=1000)["scores"]["a"]
    assert found["bias"]["error"] == pytest.approx(0.01 / np.sqrt(2000), rel=0.1)
    assert found["sigma_mad"]["error"] == pytest.approx(1.166 * 0.01 / np.sqrt(2000), rel=0.15)  # of a Gaussian's MAD


def test_galaxies_that_share_a_cells_offset_do_not_count_as_independent():
    random = np.random.default_rng(5)
    cells = np.repeat(np.arange(100), 50)
    dz = random.normal(0, 0.01, 100)[cells] + random.normal(0, 0.001, 5000)
    by_cell = metrics.compare({"a": {"dz": dz}}, cells, resamples=500)["scores"]["a"]["bias"]["error"]
    by_galaxy = metrics.compare({"a": {"dz": dz}}, np.arange(5000), resamples=500)["scores"]["a"]["bias"]["error"]
    assert by_cell == pytest.approx(0.01 / np.sqrt(100), rel=0.15)
    assert by_galaxy < 0.2 * by_cell


def test_differences_are_paired_on_the_same_resamples():
    random = np.random.default_rng(6)
    dz = random.normal(0, 0.01, 3000)
    methods = {"a": {"dz": dz + 0.001}, "b": {"dz": dz}}
    found = metrics.compare(methods, np.arange(3000), pairs=[("a", "b")])["differences"]["a - b"]
    assert found["bias"]["value"] == pytest.approx(0.001)
    assert found["bias"]["error"] < 1e-12  # unpaired it would be 0.00026
    assert found["sigma_mad"]["value"] == pytest.approx(0, abs=1e-15)


def test_same_seed_same_errors_and_another_seed_others():
    dz = np.random.default_rng(7).normal(0, 0.01, 500)
    errors = [
        metrics.compare({"a": {"dz": dz}}, np.arange(500) // 10, seed=seed)["scores"]["a"]["bias"]["error"]
        for seed in (1, 1, 2)
    ]
    assert errors[0] == errors[1] != errors[2]


def test_a_single_cell_has_no_error():
    found = metrics.compare({"a": {"dz": np.zeros(10)}}, np.zeros(10, dtype=int))["scores"]["a"]
    assert found["bias"]["error"] is None


def test_a_galaxy_predicted_in_two_repeats_counts_once():
    dz = np.random.default_rng(8).normal(0, 0.01, 800)
    once = metrics.compare({"a": {"dz": dz}}, np.arange(800), resamples=400)["scores"]["a"]
    twice = metrics.compare(
        {"a": {"dz": np.tile(dz, 2)}}, np.tile(np.arange(800), 2), repeat=np.repeat([0, 1], 800), resamples=400
    )["scores"]["a"]
    for key in once:
        assert twice[key]["value"] == pytest.approx(once[key]["value"])
        assert twice[key]["error"] == pytest.approx(once[key]["error"])


def test_score_of_repeats_is_the_mean_of_their_scores_and_not_that_of_the_pool():
    dz = np.concatenate([np.full(50, -0.01), np.full(100, 0.02)])
    found = metrics.compare(
        {"a": {"dz": dz}}, np.arange(150), repeat=np.repeat([0, 1], [50, 100]), resamples=20
    )["scores"]["a"]  # fmt: skip
    assert found["bias"]["value"] == pytest.approx(0.005)
    assert found["sigma_mad"]["value"] == 0


def test_sky_cells_follow_the_position_and_not_the_order():
    random = np.random.default_rng(9)
    ra, dec = random.uniform(0, 360, 500), random.uniform(-20, 20, 500)
    order = random.permutation(500)
    cells, shuffled = metrics.sky_cells(ra, dec, 16), metrics.sky_cells(ra[order], dec[order], 16)
    assert np.array_equal(cells[order], shuffled)
    assert metrics.sky_cells([10.0, 10.0, 190.0], [0.0, 0.01, 0.0], 64).tolist() == [0, 0, 1]


@pytest.mark.parametrize("nside", [0, 3, 100])
def test_sky_cells_that_healpix_does_not_know_are_refused(nside):
    with pytest.raises(UserError, match=f"is {nside}, but must be a power of two"):
        metrics.sky_cells([10.0, 190.0], [0.0, 0.0], nside)
