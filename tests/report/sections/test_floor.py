"""What the page says of a trial beside the floor."""

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.report.sections.floor import calibration_verdict, gap_verdict

FLOOR = {"value": 0.0110, "error": 0.0001}


def comparison(galaxies):
    return {"galaxies": galaxies, "scores": {"local_linear": {"sigma_mad": {"value": 0.0130, "error": 0.0002}}}}


@pytest.mark.parametrize(
    ("value", "galaxies", "words"),
    [
        (0.75, 30_000, "At least 70 % are asked: pass."),
        (0.65, 30_000, "At least 70 % are asked: fail."),
        (0.65, 900, "such as config/embedded-large.yaml; this one has 900."),
    ],
)
def test_the_gap_is_judged_where_a_run_has_enough_galaxies(value, galaxies, words):
    sentence = gap_verdict({"value": value, "error": 0.05}, FLOOR, comparison(galaxies))
    assert f"closes {100 * value:.1f} ± 5.0 % of the gap" in sentence
    assert "regression (0.01300 ± 0.00020) and the floor (0.01100 ± 0.00010)" in sentence
    assert sentence.endswith(words)


def test_where_the_regression_is_at_the_floor_there_is_no_gap():
    assert gap_verdict({"value": None, "error": None}, FLOOR, comparison(900)).startswith("There is no gap")


@pytest.mark.parametrize(
    ("dispersion", "error", "words"),
    [
        (0.01, 0.02, "neither too wide nor too narrow (variance of PIT +1.0 ± 2.0 % off)"),
        (0.05, 0.02, "too narrow (variance of PIT +5.0 ± 2.0 % off)"),
        (-0.05, 0.02, "too wide (variance of PIT −5.0 ± 2.0 % off)"),
        (0.05, np.nan, "neither too wide nor too narrow (variance of PIT +5.0 % off)"),
    ],
)
def test_the_width_of_distributions_is_told_beyond_twice_its_error(dispersion, error, words):
    table = pd.DataFrame({"method": ["network", "member_0"], "ks": [0.01, 0.02], "passed": [True, False]})
    sentences = calibration_verdict(table.assign(dispersion=dispersion, error=error), 900)
    assert f"its distributions are {words}" in sentences
    assert "pass" not in sentences
    assert "ensemble 0.0100 (pass)" in calibration_verdict(table.assign(dispersion=dispersion, error=error), 30_000)
