"""Negative controls score as the prior does, unless something tells the redshift."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic_run import make_galaxies, make_run, outputs

from sdss_photoz.config import Evaluation
from sdss_photoz.evaluation import controls
from sdss_photoz.evaluation.evaluate import evaluate
from sdss_photoz.report.controls import control_rows, control_table
from sdss_photoz.sample.footprint import sky_position
from sdss_photoz.survey import BANDS, object_id

SETTINGS = Evaluation(bootstrap=50, controls=True)
FEATURES = {
    *("run", "camcol", "field", "x", "y", "object_id", "object", "row", "catalogue"),
    *(f"{name}_{band}" for name in ("phase_x", "phase_y", "depth", "noise", "seeing") for band in BANDS),
}


def tables(count=40):
    """Galaxies at known pixels of two fields, with quality tables and fields."""
    random = np.random.default_rng(2)
    x, y, number = random.uniform(0, 2047, count), random.uniform(0, 1488, count), np.arange(count)
    fields = pd.DataFrame({"run": [752, 756], "camcol": 3, "field": 100, "node": 95.0, "incl": 10.0})
    step = 0.396 / 3600
    for term, value in zip("abcdef", ([150.0, 151.0], step, 0.0, [0.1, 0.2], 0.0, step), strict=True):
        fields[term] = value
    of = number % 2
    mu, nu = fields["a"].to_numpy()[of] + step * (y + 0.5), fields["d"].to_numpy()[of] + step * (x + 0.5)
    galaxies = make_galaxies(count)
    galaxies["ra"], galaxies["dec"] = sky_position(mu, nu, 95.0, 10.0)
    galaxies["object_id"] = object_id(fields["run"].to_numpy()[of], 3, 100, number + 1)
    galaxies["spec_id"] = random.permutation(count).astype(np.uint64) + np.uint64(2**60)
    quality = pd.DataFrame({"object_id": galaxies["object_id"]})
    for band in BANDS:
        quality[f"frames_{band}"], quality[f"sky_{band}"] = number % 3, 1.5 + of
        quality[f"seeing_{band}"] = 1.2 + 0.1 * of
    return galaxies, quality, fields, np.stack([x, y], axis=1)


def test_the_forest_knows_place_depth_noise_seeing_and_order_and_nothing_of_the_light():
    galaxies, quality, fields, pixels = tables()
    found = controls.circumstances(galaxies, quality, fields)
    assert set(found) == FEATURES
    assert found[["x", "y"]].to_numpy() == pytest.approx(pixels, abs=0.02)
    assert found[["phase_x_g", "phase_y_g"]].to_numpy() == pytest.approx((pixels + 0.5) % 1, abs=0.02)
    assert found["catalogue"].to_numpy() == pytest.approx(galaxies["spec_id"].rank())
    assert found["noise_r"][1] == pytest.approx(np.sqrt(2.5))
    assert found["noise_r"].isna().tolist() == (found["depth_r"] == 0).tolist()
    assert (np.diff(found.sort_values("object_id")["object_id"]) == 1).all()
    darker = galaxies.copy()
    light = [name for name in galaxies if name.split("_")[0] in ("model", "extinction", "ebv", "z")]
    darker[light] = 0.0
    pd.testing.assert_frame_equal(controls.circumstances(darker, quality, fields), found)


def test_published_cubes_have_fewer_circumstances():
    galaxies, quality, _, _ = tables()
    found = controls.circumstances(galaxies.drop(columns="spec_id"), quality[[f"frames_{b}" for b in BANDS]])
    assert set(found) == {"run", "camcol", "field", "object", "object_id", "row", *(f"depth_{b}" for b in BANDS)}


def scored(folder, order=None, **changes):
    """Scores of a run with the forest; `order` sorts the rows of its cubes."""
    inputs = make_run(folder, count=600)
    if order is not None:
        galaxies = pd.read_parquet(inputs["galaxies"])
        galaxies["row"] = np.argsort(np.argsort(galaxies[order]))
        galaxies.to_parquet(inputs["galaxies"], index=False)
    evaluate(**inputs, **outputs(folder), settings=SETTINGS, **changes)
    return json.loads(outputs(folder)["scores"].read_text()), pd.read_parquet(outputs(folder)["photoz"])


def test_a_forest_that_nothing_tells_the_redshift_scores_as_the_prior(tmp_path):
    found, photoz = scored(tmp_path)
    (row,) = control_table({"images": found}, {"images": "none"}).to_dict("records")
    assert row["control"] == "forest"
    assert abs(row["difference"]) < 2 * row["sigma_mad_error"]
    assert not row["better"]
    assert row["finding"] == "the prior's, within its error"
    part = photoz[photoz["has_frames"]]
    dz = (part["z_phot_prior"] - part["z_spec"]) / (1 + part["z_spec"])
    prior = 1.4826 * (dz - dz.median()).abs().median()
    assert row["prior"] == pytest.approx(prior)
    assert part.groupby("fold")["z_phot_prior"].nunique().eq(1).all()


def test_a_forest_is_flagged_where_the_order_of_the_cubes_tells_the_redshift(tmp_path):
    found, _ = scored(tmp_path, order="z_spec")
    (row,) = control_table({"images": found}, {"images": "none"}).to_dict("records")
    assert row["sigma_mad"] < 0.5 * row["prior"]
    assert row["better"]
    assert row["finding"] == "BETTER than the prior"


def test_the_prior_is_the_median_of_the_folds_training_redshifts(tmp_path):
    inputs = make_run(tmp_path, count=300)
    _, photoz = scored(tmp_path / "again", control="shuffled_labels")
    assert "z_phot_forest" not in photoz
    inputs = {name: tmp_path / "again" / path.relative_to(tmp_path) for name, path in inputs.items() if name == "folds"}
    roles = pd.read_parquet(inputs["folds"]).set_index("object_id")["role_1"]
    galaxies = pd.read_parquet(tmp_path / "again/sample/galaxies.parquet").set_index("object_id")
    used = photoz.set_index("object_id")["has_frames"]
    train = roles.index[roles.isin(["train", "validation"]) & used[roles.index]]
    expected = np.median(galaxies.loc[train, "z_spec"])
    assert photoz.loc[photoz["fold"] == 1, "z_phot_prior"].unique().tolist() == pytest.approx([expected])


def test_a_network_of_a_control_trial_that_knows_redshifts_is_flagged(tmp_path):
    found, _ = scored(tmp_path, control="target_removed")
    (row,) = control_table({"masked": found}, {"masked": "target_removed"}).to_dict("records")
    assert row["control"] == "target_removed"
    assert row["correlation"] > 0.9
    assert row["better"]


def entry(value, error):
    return {"value": value, "error": error}


def with_control(score, difference, correlation):
    """What metrics.json says of a negative control."""
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


def test_without_the_keys_nothing_of_controls_is_written(tmp_path):
    inputs = make_run(tmp_path, count=200)
    evaluate(**inputs, **outputs(tmp_path), settings=Evaluation(bootstrap=20))
    assert "controls" not in json.loads(outputs(tmp_path)["scores"].read_text())
    assert not {"z_phot_prior", "z_phot_forest"} & set(pd.read_parquet(outputs(tmp_path)["photoz"]))
