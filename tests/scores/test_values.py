"""Scores of predicted values, and their running median."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import root_mean_squared_error

from sdss_photoz.scores import metrics, values


@pytest.fixture(scope="module")
def galaxies():
    random = np.random.default_rng(5)
    true = random.uniform(8, 12, 5000)
    return true, true + 0.1 + 0.2 * random.standard_t(4, 5000)


def test_scores_are_those_of_scipy_and_scikit_learn(galaxies):
    true, predicted = galaxies
    residual = predicted - true
    found = values.scores(residual)
    scatter = stats.median_abs_deviation(residual, scale=1 / 1.4826)
    assert found == pytest.approx(
        {
            "bias": residual.mean(),
            "median": stats.scoreatpercentile(residual, 50),
            "rmse": root_mean_squared_error(true, predicted),
            "sigma_mad": scatter,
            "outliers": np.mean(abs(residual - np.median(residual)) > 3 * scatter),
        }
    )
    assert values.scores(residual, np.full(5000, 0.25))["crps"] == 0.25


def test_outliers_of_a_gaussian_are_its_tails_whatever_its_unit():
    residual = np.random.default_rng(6).normal(40, 100, 200_000)
    assert values.scores(residual)["outliers"] == pytest.approx(2 * stats.norm.sf(3), rel=0.1)


def test_running_quantiles_are_those_of_scipys_binned_statistic(galaxies):
    true, predicted = galaxies
    found = values.running(true, predicted)
    edges = np.append(found["true_low"], found["true_high"].iloc[-1])
    assert [edges[0], edges[-1]] == [true.min(), true.max()]
    for column, fraction in {"median": 0.5, "low": 0.16, "high": 0.84}.items():
        quantile = lambda part, fraction=fraction: np.quantile(part, fraction)  # noqa: E731
        expected = stats.binned_statistic(true, predicted, quantile, bins=edges).statistic
        assert found[column].to_numpy() == pytest.approx(expected)
    assert found["galaxies"].sum() == 5000


def test_intervals_with_few_galaxies_are_left_out_and_so_are_galaxies_beyond_the_range():
    true = np.array([0.0] * 9 + [0.5] * 10 + [1.0] * 12 + [7.0])
    found = values.running(true, true, high=1.0)
    assert found["galaxies"].tolist() == [10, 12]
    assert found["median"].tolist() == [0.5, 1.0]
    assert len(values.running([3.0] * 20, [4.0] * 20)) == 1
    assert values.running([], []).empty


def test_errors_of_values_are_those_of_independent_galaxies():
    residual = np.random.default_rng(7).normal(0, 0.3, 2000)
    compared = metrics.compare({"a": {"residual": residual}}, np.arange(2000), score=values.scores, resamples=500)
    found = compared["scores"]["a"]
    assert found["rmse"]["error"] == pytest.approx(0.3 / np.sqrt(2 * 2000), rel=0.15)
    assert found["bias"]["error"] == pytest.approx(0.3 / np.sqrt(2000), rel=0.15)
