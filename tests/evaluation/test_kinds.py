"""Evaluation of trials that predict a value, or yes and no."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import qp
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score, root_mean_squared_error
from tests.fixtures.synthetic_run import (
    UNCOVERED,
    WITHOUT_VALUE,
    evaluate_run,
    make_other_run,
    make_run,
    outputs,
)

from sdss_photoz.config import Evaluation
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation.evaluate import evaluate

SETTINGS = Evaluation(bootstrap=30, controls=True)


@pytest.fixture(scope="module")
def value(tmp_path_factory):
    folder = tmp_path_factory.mktemp("value")
    inputs, label = make_other_run(folder, "value")
    return folder, inputs, *evaluate_run(folder, inputs, SETTINGS, label=label)


@pytest.fixture(scope="module")
def yes_no(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yes_no")
    inputs, label = make_other_run(folder, "yes_no")
    return folder, inputs, *evaluate_run(folder, inputs, SETTINGS, label=label)


def test_values_are_scored_by_their_own_residuals(value):
    *_, found, photoz = value
    scored = photoz[photoz["has_frames"] & photoz["true"].notna()]
    for method in ("network", "local_linear"):
        predicted = scored["predicted" if method == "network" else "predicted_local_linear"]
        residual = predicted - scored["true"]
        scores = found["headline"]["scores"][method]
        assert scores["rmse"]["value"] == pytest.approx(root_mean_squared_error(scored["true"], predicted))
        assert scores["sigma_mad"]["value"] == pytest.approx(stats.median_abs_deviation(residual, scale=1 / 1.4826))
        assert scores["rmse"]["error"] > 0
    assert found["headline"]["scores"]["network"]["crps"]["value"] == pytest.approx(scored["crps"].mean())
    assert "crps" not in found["headline"]["scores"]["local_linear"]
    assert (found["kind"], found["column"]) == ("value", "mass")


def test_distributions_of_values_are_those_of_redshifts_on_another_grid(value, tmp_path):
    *_, photoz = value
    inputs = make_run(tmp_path)
    _, redshifts = evaluate_run(tmp_path, inputs, Evaluation(bootstrap=20))
    assert photoz["predicted"].to_numpy() == pytest.approx(8 + 10 * redshifts["z_phot"].to_numpy())
    known = photoz["true"].notna()
    assert photoz["pit"][known].to_numpy() == pytest.approx(redshifts["pit"][known].to_numpy())
    assert photoz["crps"][known].to_numpy() == pytest.approx(10 * redshifts["crps"][known].to_numpy())
    assert photoz["width_68"].to_numpy() == pytest.approx(10 * redshifts["width_68"].to_numpy())
    assert photoz["predicted_local_linear"].corr(photoz["z_spec"]) > 0.9


def test_tables_of_another_kind_hold_no_column_of_redshifts_but_the_true_one(value, yes_no):
    for *_, photoz in (value, yes_no):
        assert [name for name in photoz if name.startswith("z_")] == ["z_spec"]
    assert not [name for name in yes_no[-1] if name.startswith(("pit", "crps", "width"))]


def test_yes_and_no_are_scored_as_probabilities(yes_no):
    *_, found, photoz = yes_no
    scored = photoz[photoz["has_frames"] & photoz["true"].notna()]
    scores = found["headline"]["scores"]["network"]
    assert scores["auc"]["value"] == pytest.approx(roc_auc_score(scored["true"], scored["predicted"]))
    assert scores["brier"]["value"] == pytest.approx(brier_score_loss(scored["true"], scored["predicted"]))
    assert photoz["predicted_local_linear"].between(0, 1).all()
    assert photoz["predicted_local_linear"].nunique() > 100
    members = photoz[["predicted_member_0", "predicted_member_1"]].mean(axis=1)
    assert photoz["predicted"].to_numpy() == pytest.approx(members.to_numpy(), abs=1e-6)


@pytest.mark.parametrize("kind", ["value", "yes_no"])
def test_galaxies_without_a_true_value_are_predicted_counted_and_not_scored(kind, request):
    *_, found, photoz = request.getfixturevalue(kind)
    missing = photoz["true"].isna()
    assert missing.sum() == len(WITHOUT_VALUE) == found["galaxies"]["without_true_value"]
    assert photoz.loc[missing, ["predicted", "predicted_local_linear"]].notna().all(axis=None)
    scored = len(photoz) - len(WITHOUT_VALUE) - len(UNCOVERED)
    assert found["galaxies"]["scored"] == found["headline"]["galaxies"] == scored
    assert sum(fold["galaxies"] for fold in found["folds"]) == scored
    assert found["galaxies"]["predicted"] == len(photoz)


def test_negative_controls_are_left_out_of_another_kind(value):
    _, _, found, photoz = value
    assert "controls" not in found
    assert not [name for name in photoz if "forest" in name or "prior" in name]


@pytest.mark.parametrize("kind", ["value", "yes_no"])
def test_ensemble_holds_the_true_and_the_predicted_values(kind, request):
    folder, *_, photoz = request.getfixturevalue(kind)
    ensemble = qp.read(str(outputs(folder)["ensemble"]))
    assert np.array_equal(ensemble.ancil["predicted"], photoz["predicted"])
    assert np.array_equal(ensemble.ancil["true"], photoz["true"], equal_nan=True)
    mean = ensemble.mean().ravel()
    assert mean == pytest.approx(photoz["predicted"].to_numpy(), abs=1e-6)


def test_own_points_of_the_members_are_averaged_in_place_of_the_mean(tmp_path, value):
    *_, means = value
    inputs, label = make_other_run(tmp_path, "value", points=True)
    _, photoz = evaluate_run(tmp_path, inputs, Evaluation(bootstrap=20), label=label)
    for name in ("predicted", "predicted_member_1"):
        assert photoz[name].to_numpy() == pytest.approx(means[name].to_numpy() + 0.5, abs=1e-5)
    table = pq.read_table(inputs["member_pdfs"][0]).to_pandas().query("member == 0").set_index("object_id")
    found = photoz.set_index("object_id").loc[table.index, "predicted_member_0"]
    assert found.to_numpy() == pytest.approx(table["point"].to_numpy(), abs=0)


def test_own_points_are_the_redshifts_of_a_redshift_trial_too(tmp_path):
    inputs, _ = make_other_run(tmp_path, "value", points=True)
    _, photoz = evaluate_run(tmp_path, inputs, Evaluation(bootstrap=20))
    assert photoz["z_phot"].median() > 8  # the points that were written are those of masses


def test_a_column_of_another_name_can_be_the_redshift(tmp_path):
    inputs, label = make_other_run(tmp_path, "value")
    galaxies = pd.read_parquet(inputs["galaxies"])
    galaxies["z_cosmos"] = galaxies["z_spec"] + 0.001
    galaxies.to_parquet(inputs["galaxies"], index=False)
    label = type(label)("z_cosmos")
    _, photoz = evaluate_run(tmp_path, inputs, Evaluation(bootstrap=20), label=label)
    expected = galaxies.set_index("object_id").loc[photoz["object_id"], "z_cosmos"]
    assert photoz["z_spec"].to_numpy() == pytest.approx(expected.to_numpy(), abs=0)


def test_a_trial_of_galaxies_of_one_kind_has_scores_that_are_not_defined(tmp_path):
    inputs, label = make_other_run(tmp_path, "yes_no")
    galaxies = pd.read_parquet(inputs["galaxies"]).assign(far=0.0)
    galaxies.to_parquet(inputs["galaxies"], index=False)
    found, _ = evaluate_run(tmp_path, inputs, Evaluation(bootstrap=20), label=label)
    assert found["headline"]["scores"]["network"]["auc"] == {"value": None, "error": None}
    assert found["headline"]["scores"]["network"]["brier"]["error"] > 0
    assert json.loads(outputs(tmp_path)["scores"].read_text())["folds"][0]["network"]["completeness"] is None


def test_a_trial_without_any_true_value_is_refused(tmp_path):
    inputs, label = make_other_run(tmp_path, "value")
    galaxies, folds = pd.read_parquet(inputs["galaxies"]), pd.read_parquet(inputs["folds"])
    tested = galaxies["object_id"].isin(folds.loc[folds["role_1"] == "test", "object_id"])
    galaxies.loc[tested, "mass"] = np.nan
    galaxies.to_parquet(inputs["galaxies"], index=False)
    inputs["member_pdfs"] = {1: inputs["member_pdfs"][1]}
    with pytest.raises(UserError, match="no test galaxy has a true value of target"):
        evaluate(**inputs, **outputs(tmp_path), settings=Evaluation(bootstrap=20), label=label)
