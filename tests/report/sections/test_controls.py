"""A negative control is flagged where it knows more than the prior."""

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.synthetic_run import evaluate_run, make_run

from sdss_photoz.config import Evaluation
from sdss_photoz.report.sections.controls import control_rows, control_table, controls, with_networks

SETTINGS = Evaluation(bootstrap=50, controls=True)


def test_a_forest_that_nothing_tells_the_redshift_scores_as_the_prior(tmp_path):
    found, _ = evaluate_run(tmp_path, make_run(tmp_path), SETTINGS)
    (row,) = control_table({"images": found}, {"images": "none"}).to_dict("records")
    assert row["control"] == "forest"
    assert row["prior"] == found["controls"]["scores"]["prior"]["sigma_mad"]["value"]
    assert abs(row["difference"]) < 2 * row["sigma_mad_error"]
    assert not row["better"]
    assert row["finding"] == "the prior's, within its error"


def test_a_forest_is_flagged_where_the_order_of_the_cubes_tells_the_redshift(tmp_path):
    inputs = make_run(tmp_path)
    galaxies = pd.read_parquet(inputs["galaxies"])
    galaxies["row"] = np.argsort(np.argsort(galaxies["z_spec"]))
    galaxies.to_parquet(inputs["galaxies"], index=False)
    found, _ = evaluate_run(tmp_path, inputs, SETTINGS)
    (row,) = control_table({"images": found}, {"images": "none"}).to_dict("records")
    assert row["sigma_mad"] < 0.5 * row["prior"]
    assert row["better"]
    assert row["finding"] == "BETTER than the prior"


def test_a_network_of_a_control_trial_that_knows_redshifts_is_flagged(tmp_path):
    found, _ = evaluate_run(tmp_path, make_run(tmp_path), SETTINGS, control="target_removed")
    (row,) = control_table({"masked": found}, {"masked": "target_removed"}).to_dict("records")
    assert row["control"] == "target_removed"
    assert row["correlation"] > 0.9
    assert row["better"]


def entry(value, error):
    return {"value": value, "error": error}


def with_control(score, difference, correlation):
    """metrics.json of a trial with a negative control of these scores."""
    scores = {"control": {"sigma_mad": score}, "prior": {"sigma_mad": entry(0.045, score["error"])}}
    differences = {"control - prior": {"sigma_mad": difference}}
    return {
        "controls": {"galaxies": 900, "scores": scores, "differences": differences, "correlation": correlation}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("score", "difference", "correlation", "better"),
    [
        (entry(0.0400, 0.001), entry(-0.0050, 0.0004), entry(0.0, 0.02), True),  # beyond its error
        (entry(0.0442, 0.001), entry(-0.0008, 0.0002), entry(0.1, 0.02), True),  # it follows the redshifts
        (entry(0.0442, 0.001), entry(-0.0008, 0.0002), entry(0.01, 0.02), False),  # a lower constant
        (entry(0.0490, 0.001), entry(0.0040, 0.0002), entry(0.1, 0.02), False),
        (entry(0.0400, None), entry(-0.005, None), entry(0.9, None), False),
    ],
)
def test_a_control_is_better_beyond_its_error_or_where_it_follows_the_redshifts(score, difference, correlation, better):
    found = with_control(score, difference, correlation)
    table = control_table({"a": found, "b": {}}, {"a": "target_removed", "b": "none"})
    assert table["better"].tolist() == [better]


def test_networks_that_see_galaxies_follow_redshift_by_chance_so_that_alone_is_no_flag():
    found = with_control(entry(0.0442, 0.001), entry(-0.0008, 0.0002), entry(0.1, 0.02))
    tables = {kind: control_table({"a": found}, {"a": kind}) for kind in ("none", "target_removed", "shuffled_labels")}
    assert {kind: table["better"].item() for kind, table in tables.items()} == {
        "none": True, "target_removed": True, "shuffled_labels": False
    }  # fmt: skip
    assert control_rows(tables["shuffled_labels"])[0][-2:] == ["–", "the prior's, within its error"]


def test_controls_are_drawn_beside_the_prior_and_the_networks_that_see_galaxies():
    score = lambda value, error: {"sigma_mad": {"value": value, "error": error}}  # noqa: E731
    control = {"galaxies": 300, "scores": {"control": score(0.044, 0.002), "prior": score(0.045, 0.001)}}
    control |= {"differences": {"control - prior": score(-0.001, 0.001)}, "correlation": {"value": 0.1, "error": 0.1}}
    headline = {"galaxies": 300, "scores": {"network": score(0.012, 0.0005)}}
    found, kinds = {"images": {"headline": headline, "controls": control}}, {"images": "none"}
    table = with_networks(control_table(found, kinds), found, kinds)
    (axis,) = controls(table).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == table["label"].tolist()
    assert axis.get_yticks().tolist() == [0, -1]
    for container, row in zip(axis.containers, table.itertuples(), strict=True):
        assert container.lines[0].get_xdata().tolist() == [row.sigma_mad]
        (segment,) = container.lines[2][0].get_segments()
        assert segment[:, 0] == pytest.approx(
            [row.sigma_mad - row.sigma_mad_error, row.sigma_mad + row.sigma_mad_error]
        )
    band = axis.collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1) == pytest.approx((0.044, 0.046))
    assert 0.045 in [line.get_xdata()[0] for line in axis.lines]
