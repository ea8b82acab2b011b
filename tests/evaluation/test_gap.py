"""How much of the gap to the floor is closed, with an error over fields, and how calibrated the distributions are."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sdss_photoz.config import Evaluation
from sdss_photoz.evaluation.gap import MAX_KS_ENSEMBLE, calibration, field_numbers, gap_closed
from sdss_photoz.surveys.sdss import object_id

SETTINGS = Evaluation(bootstrap=100)


def scored(fields=40, each=100, network=0.012, regression=0.015, width=1.0, seed=0, repeats=1):
    """Galaxies of many fields with Gaussian residuals; PIT of distributions wider than these by a factor."""
    random = np.random.default_rng(seed)
    count = fields * each
    table = pd.DataFrame({"object_id": object_id(1000 + np.arange(count) // each, 3, 100, np.arange(count) % each)})
    table = pd.concat([table.assign(repeat=repeat) for repeat in range(repeats)], ignore_index=True)
    table["z_spec"] = 0.1
    common = random.standard_normal(len(table))
    for column, sigma in (("z_phot", network), ("z_phot_local_linear", regression)):
        own = 0.6 * common + 0.8 * random.standard_normal(len(table))
        table[column] = 0.1 + 1.1 * sigma * own
    error = random.standard_normal(len(table))
    table["pit"] = norm.cdf(error / width)
    table["pit_member_0"], table["pit_member_1"] = norm.cdf(error), norm.cdf(error / 0.8)
    return table


def test_the_fraction_of_the_gap_is_that_of_the_scores():
    found = gap_closed(scored(), {"value": 0.011, "error": 0.0}, SETTINGS)
    assert found["value"] == pytest.approx(0.75, abs=3 * found["error"])
    assert 0.01 < found["error"] < 0.15


def test_the_error_is_the_scatter_of_other_skies_and_holds_the_floors():
    floor = {"value": 0.011, "error": 0.0}
    fractions = [gap_closed(scored(seed=seed), floor, Evaluation(bootstrap=20))["value"] for seed in range(60)]
    alone = gap_closed(scored(), floor, SETTINGS)["error"]
    assert alone == pytest.approx(np.std(fractions, ddof=1), rel=0.35)
    both = gap_closed(scored(), floor | {"error": 0.001}, SETTINGS)
    assert both["error"] == pytest.approx(np.hypot(alone, both["value"] * 0.001 / 0.004), rel=0.1)


def test_fields_are_those_that_the_object_ids_name():
    assert np.bincount(field_numbers(scored(fields=7, each=30))).tolist() == [30] * 7
    assert gap_closed(scored(fields=1), {"value": 0.011, "error": 0.0}, SETTINGS)["error"] is None
    alone = calibration(scored(fields=1), SETTINGS)
    assert alone["error"].isna().all()


def test_a_galaxy_predicted_twice_does_not_count_as_two():
    floor = {"value": 0.011, "error": 0.0}
    once, twice = (gap_closed(scored(repeats=repeats), floor, SETTINGS)["error"] for repeats in (1, 2))
    assert 0.5 * once < twice < once


def test_where_regression_is_no_worse_than_the_floor_there_is_no_gap():
    assert gap_closed(scored(), {"value": 0.02, "error": 0.0}, SETTINGS) == {"value": None, "error": None}


@pytest.mark.parametrize(
    ("width", "passed", "sign"), [(1.0, True, 0), (1.05, True, -1), (1.4, False, -1), (0.95, False, 1)]
)
def test_an_ensemble_passes_near_uniform_pit_and_with_distributions_not_too_narrow(width, passed, sign):
    table = calibration(scored(fields=100, each=200, width=width), SETTINGS).set_index("method")
    ensemble = table.loc["network"]
    assert ensemble["at_most"] == MAX_KS_ENSEMBLE
    assert ensemble["passed"] == passed
    assert np.sign(ensemble["dispersion"]) * (abs(ensemble["dispersion"]) > 3 * ensemble["error"]) == sign
    assert table["passed"][["member_0", "member_1"]].tolist() == [True, False]
    assert table["ks"]["member_0"] < 0.015 < table["ks"]["member_1"]
