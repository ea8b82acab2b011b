"""Scores of probabilities of yes and no."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, precision_score, recall_score, roc_auc_score, roc_curve

from sdss_photoz.scores import metrics, yes_no


@pytest.fixture(scope="module", params=[2, 6], ids=["with ties", "almost without ties"])
def galaxies(request):
    random = np.random.default_rng(8)
    probability = np.round(random.beta(1, 2, 3000), request.param)
    return probability, random.uniform(size=3000) < probability**1.5


def test_scores_are_those_of_scikit_learn(galaxies):
    probability, yes = galaxies
    assert yes_no.scores(probability, yes) == pytest.approx(
        {
            "auc": roc_auc_score(yes, probability),
            "completeness": recall_score(yes, probability >= 0.5),
            "purity": precision_score(yes, probability >= 0.5),
            "brier": brier_score_loss(yes, probability),
        }
    )


def test_curve_is_that_of_scikit_learn_and_its_area_is_the_score(galaxies):
    probability, yes = galaxies
    found = yes_no.selection(probability, yes)
    false_positive, true_positive, threshold = roc_curve(yes, probability, drop_intermediate=False)
    assert found["false_positive_rate"].to_numpy() == pytest.approx(false_positive)
    assert found["completeness"].to_numpy() == pytest.approx(true_positive)
    assert found["threshold"].to_numpy() == pytest.approx(threshold)
    area = np.trapezoid(found["completeness"], found["false_positive_rate"])
    assert area == pytest.approx(yes_no.auc(probability, yes))


def test_completeness_and_purity_at_each_threshold_are_scikit_learns(galaxies):
    probability, yes = galaxies
    table = yes_no.selection(probability, yes).iloc[1:]
    given = yes_no.selection(probability, yes, [0.0, 0.333, 1.1])
    assert given["selected"].tolist() == [3000, np.sum(probability >= 0.333), 0]
    for row in pd.concat([table.iloc[:: len(table) // 7], given[:2]]).itertuples():
        taken = probability >= row.threshold
        assert row.selected == taken.sum()
        assert row.completeness == pytest.approx(recall_score(yes, taken))
        assert row.purity == pytest.approx(precision_score(yes, taken))


def test_reliability_is_scikit_learns_calibration_curve():
    random = np.random.default_rng(9)
    probability = random.uniform(size=4000)
    yes = random.uniform(size=4000) < probability**2
    found = yes_no.reliability(probability, yes)
    fraction, mean = calibration_curve(yes, probability, n_bins=10)
    assert found["yes"].to_numpy() == pytest.approx(fraction)
    assert found["probability"].to_numpy() == pytest.approx(mean)
    assert found["galaxies"].sum() == 4000


def test_calibrated_probabilities_lie_within_their_errors():
    random = np.random.default_rng(10)
    off = []
    for _ in range(200):
        probability = random.uniform(size=500)
        found = yes_no.reliability(probability, random.uniform(size=500) < probability)
        off.append((found["yes"] - found["probability"]) / found["error"])
    assert np.std(off) == pytest.approx(1, abs=0.05)


def test_probabilities_of_0_and_1_lie_in_the_first_and_last_interval():
    found = yes_no.reliability([0.0, 1.0, 1.0], [False, True, False])
    assert found["galaxies"].tolist() == [1] + [0] * 8 + [2]
    assert found["yes"].dropna().tolist() == [0, 0.5]


def test_what_is_not_defined_is_none_and_its_error_is_of_the_resamples_where_it_is():
    probability = np.array([0.2, 0.3, 0.4, 0.9])
    cells = np.arange(4)
    never = metrics.compare({"a": {"probability": probability, "yes": np.zeros(4, bool)}}, cells, score=yes_no.scores)
    assert never["scores"]["a"]["auc"] == {"value": None, "error": None}
    once = metrics.compare(
        {"a": {"probability": probability, "yes": np.array([False, True, False, True])}}, cells, score=yes_no.scores
    )
    assert once["scores"]["a"]["auc"]["value"] == 0.75
    assert 0 < once["scores"]["a"]["auc"]["error"] < 1
