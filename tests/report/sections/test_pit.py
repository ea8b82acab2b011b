"""PIT is counted in 20 bins and drawn relative to flat."""

import numpy as np
import pytest
from scipy import stats
from tests.fixtures.photoz import make_photoz

from sdss_photoz.report.sections.pit import pit, pit_table


@pytest.fixture(scope="module")
def photoz():
    return make_photoz()


def test_the_band_of_flat_pit_is_two_standard_deviations_of_binomial_counts(photoz):
    table = pit_table(photoz)
    flat = stats.binom(len(photoz), 1 / 20)
    for column, value in {
        "flat": flat.mean(), "flat_low": flat.mean() - 2 * flat.std(), "flat_high": flat.mean() + 2 * flat.std()
    }.items():  # fmt: skip
        assert table[column].to_numpy() == pytest.approx(value)
    for name, column in (("ensemble", "pit"), ("member_1", "pit_member_1")):
        below = [(photoz[column] < edge).sum() for edge in table["pit_high"]]
        assert np.cumsum(table[name]).tolist() == below


def test_pit_is_drawn_relative_to_flat_with_its_band(photoz):
    table = pit_table(photoz)
    ensemble, members = pit(table).axes
    for axis, names in ((ensemble, ["ensemble"]), (members, ["member_0", "member_1"])):
        assert axis.get_xlabel() == "PIT"
        *steps, band = axis.patches
        for name, step in zip(names, steps, strict=True):
            values, edges, _ = step.get_data()
            assert values == pytest.approx(table[name] / 20)  # 400 galaxies in 20 bins
            assert edges == pytest.approx([*table["pit_low"], 1])
        ends = band.get_extents().transformed(axis.transData.inverted())
        assert (ends.y0, ends.y1) == pytest.approx((1 - 2 * (0.95 / 20) ** 0.5, 1 + 2 * (0.95 / 20) ** 0.5))
