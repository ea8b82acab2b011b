"""Residuals are the median and scaled MAD of each bin, drawn with the errors of the table."""

import numpy as np
import pytest
from scipy import stats
from tests.fixtures.photoz import make_photoz

from sdss_photoz.report.labels import DRAWN
from sdss_photoz.report.sections.residuals import residual_curves, residual_table


@pytest.fixture(scope="module")
def photoz():
    return make_photoz()


def segments(container):
    """Lower and upper ends (point, 2) of the error bars that `errorbar` drew."""
    (bars,) = container.lines[2]
    return np.array([segment[:, 1] for segment in bars.get_segments()])


def test_residuals_are_the_median_and_scaled_mad_of_each_bin_with_the_errors_of_a_gaussian_sample(photoz):
    table = residual_table(photoz)
    for row in table.itertuples():
        column = {label: column for column, (label, _) in DRAWN.items()}[row.method]
        part = photoz[(photoz["z_spec"] >= row.z_low) & (photoz["z_spec"] < row.z_high)].dropna(subset=[column])
        dz = (part[column] - part["z_spec"]) / (1 + part["z_spec"])
        assert row.galaxies == len(dz) >= 20
        assert row.median_dz == pytest.approx(np.median(dz))
        assert row.sigma_mad == pytest.approx(stats.median_abs_deviation(dz, scale=1 / 1.4826))
    random = np.random.default_rng(1).normal(0, 1, (4000, 100))
    scaled = table["galaxies"] ** 0.5 / table["sigma_mad"] / 10  # to samples of 100 with sigma 1
    for column, drawn in (
        ("median_dz_error", np.median(random, axis=1)),
        ("sigma_mad_error", stats.median_abs_deviation(random, axis=1, scale=1 / 1.4826)),
    ):
        assert (table[column] * scaled).to_numpy() == pytest.approx(np.std(drawn), rel=0.05)


def test_residual_curves_are_drawn_at_their_bins_with_the_errors_of_the_table(photoz):
    table = residual_table(photoz)
    left, right = residual_curves(table).axes
    for axis, column, word in ((left, "median_dz", "median"), (right, "sigma_mad", "sigma")):
        assert axis.get_xlabel() == "spectroscopic redshift"
        assert word in axis.get_ylabel()
        for container, (_, part) in zip(axis.containers, table.groupby("method", sort=False), strict=True):
            x, y = container.lines[0].get_data()
            assert x == pytest.approx(part["z_low"] + 0.01)
            assert y == pytest.approx(part[column])
            expected = np.stack(
                [part[column] - part[f"{column}_error"], part[column] + part[f"{column}_error"]], axis=1
            )
            assert segments(container) == pytest.approx(expected)
    labels = [container.get_label() for container in left.containers]
    assert labels == table["method"].unique().tolist()
