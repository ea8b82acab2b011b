"""Negative controls are scored beside the prior, on the same galaxies and resamples of the sky."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.fixtures.synthetic_run import evaluate_run, make_run

from sdss_photoz.config import Evaluation

SETTINGS = Evaluation(bootstrap=50, controls=True)


def sigma_mad(table, column):
    dz = (table[column] - table["z_spec"]) / (1 + table["z_spec"])
    return stats.median_abs_deviation(dz, scale=1 / 1.4826)


def test_a_forest_and_the_prior_have_the_scores_of_their_redshifts(tmp_path):
    scores, photoz = evaluate_run(tmp_path, make_run(tmp_path), SETTINGS)
    scored = photoz[photoz["has_frames"]]
    found = scores["controls"]
    assert found["galaxies"] == len(scored)
    values = {name: found["scores"][name]["sigma_mad"]["value"] for name in ("control", "prior")}
    assert values["control"] == pytest.approx(sigma_mad(scored, "z_phot_forest"))
    assert values["prior"] == pytest.approx(sigma_mad(scored, "z_phot_prior"))
    difference = found["differences"]["control - prior"]["sigma_mad"]
    assert difference["value"] == pytest.approx(values["control"] - values["prior"])
    expected = stats.spearmanr(scored["z_phot_forest"], scored["z_spec"]).statistic
    assert found["correlation"]["value"] == pytest.approx(expected)
    assert scored.groupby("fold")["z_phot_prior"].nunique().eq(1).all()


def test_the_prior_is_the_median_of_the_folds_training_redshifts(tmp_path):
    inputs = make_run(tmp_path, count=300)
    _, photoz = evaluate_run(tmp_path, inputs, SETTINGS, control="shuffled_labels")
    assert "z_phot_forest" not in photoz
    roles = pd.read_parquet(inputs["folds"]).set_index("object_id")["role_1"]
    galaxies = pd.read_parquet(inputs["galaxies"]).set_index("object_id")
    used = photoz.set_index("object_id")["has_frames"]
    train = roles.index[roles.isin(["train", "validation"]) & used[roles.index]]
    expected = np.median(galaxies.loc[train, "z_spec"])
    assert photoz.loc[photoz["fold"] == 1, "z_phot_prior"].unique().tolist() == pytest.approx([expected])


def test_without_the_keys_nothing_of_controls_is_written(tmp_path):
    inputs = make_run(tmp_path, count=200)
    scores, photoz = evaluate_run(tmp_path, inputs, Evaluation(bootstrap=20))
    assert "controls" not in scores
    assert not {"z_phot_prior", "z_phot_forest"} & set(photoz)
