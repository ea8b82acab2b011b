"""What one trial's evaluation writes."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import qp
from scipy import stats
from tests.fixtures.synthetic_run import PARTIAL, UNCOVERED, UNKNOWN_TO_ARCHIVE, make_run, outputs

from sdss_photoz.config import Evaluation
from sdss_photoz.cubes.stack import median_stack
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation.evaluate import evaluate
from sdss_photoz.scores import pdfs

SETTINGS = Evaluation(bootstrap=50)


def paper_scores(table, column):
    """Scores of Pasquet et al. 2018, section 4, of the redshifts in a column."""
    dz = ((table[column] - table["z_spec"]) / (1 + table["z_spec"])).to_numpy()
    scatter = stats.median_abs_deviation(dz, scale=1 / 1.4826)
    return {"bias": dz.mean(), "sigma_mad": scatter, "outliers": np.mean(abs(dz) > 0.05)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    inputs = make_run(folder)
    evaluate(**inputs, **outputs(folder), settings=SETTINGS)
    return folder, inputs, pd.read_parquet(outputs(folder)["photoz"]), json.loads(outputs(folder)["scores"].read_text())


def test_every_galaxy_is_predicted_once_by_the_fold_that_did_not_see_it(run):
    _, inputs, photoz, _ = run
    folds = pd.read_parquet(inputs["folds"]).set_index("object_id")
    assert photoz["object_id"].is_unique
    assert set(photoz["object_id"]) == set(folds.index)
    assert (folds.loc[photoz["object_id"], "fold"].to_numpy() == photoz["fold"]).all()


def test_each_member_is_matched_to_its_galaxy_whatever_the_order_of_rows(run):
    _, inputs, photoz, _ = run
    table = pq.read_table(inputs["member_pdfs"][1]).to_pandas().query("member == 1").sample(30, random_state=1)
    expected = np.stack(table["pdf"]).astype(float) @ ((np.arange(180) + 0.5) * 0.4 / 180)
    found = photoz.set_index("object_id").loc[table["object_id"], "z_phot_member_1"]
    assert found.to_numpy() == pytest.approx(expected, abs=1e-7)


def test_headline_is_the_score_of_the_averaged_distributions(run):
    _, _, photoz, scores = run
    scored = photoz[photoz["has_frames"]]
    expected = paper_scores(scored, "z_phot") | {"crps": scored["crps"].mean()}
    found = scores["headline"]["scores"]["network"]
    assert {key: found[key]["value"] for key in found} == pytest.approx(expected)
    assert all(found[key]["error"] > 0 for key in ("bias", "sigma_mad", "crps"))


def test_averaging_two_independent_members_beats_either(run):
    *_, scores = run
    single = [member["sigma_mad"] for member in scores["members"]]
    assert scores["headline"]["scores"]["network"]["sigma_mad"]["value"] < 0.85 * min(single)
    assert scores["scatter"]["members"]["sigma_mad"] == pytest.approx(np.std(single, ddof=1))


def test_scatter_over_folds_stands_beside_the_errors_for_network_and_baseline(run):
    *_, scores = run
    for method in ("network", "local_linear"):
        each = [fold[method]["bias"] for fold in scores["folds"]]
        assert len(each) == 3
        assert scores["scatter"]["folds"][method]["bias"] == pytest.approx(np.std(each, ddof=1))


def test_galaxies_without_a_frame_are_predicted_flagged_counted_and_not_scored(run):
    _, _, photoz, scores = run
    assert (~photoz["has_frames"]).sum() == len(UNCOVERED)
    assert photoz.loc[~photoz["has_frames"], ["z_phot", "z_phot_local_linear"]].notna().all(axis=None)
    counts = scores["galaxies"]
    assert counts["without_frame"] == len(UNCOVERED)
    assert counts["partial"] == len(PARTIAL)
    assert counts["predicted"] == len(photoz) == counts["scored"] + counts["without_frame"]
    assert scores["headline"]["galaxies"] == counts["scored"]


def test_galaxies_without_a_frame_do_not_train_the_baseline(tmp_path):
    inputs = make_run(tmp_path)
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    before = pd.read_parquet(outputs(tmp_path)["photoz"])
    galaxies = pd.read_parquet(inputs["galaxies"])
    galaxies.loc[galaxies["row"].isin(UNCOVERED), "z_spec"] = 0.399
    galaxies.to_parquet(inputs["galaxies"], index=False)
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    after = pd.read_parquet(outputs(tmp_path)["photoz"])
    assert before["z_phot_local_linear"].equals(after["z_phot_local_linear"])


def test_redshifts_of_a_folds_test_galaxies_do_not_train_its_baseline(tmp_path):
    inputs = make_run(tmp_path)
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    before = pd.read_parquet(outputs(tmp_path)["photoz"])
    galaxies, folds = pd.read_parquet(inputs["galaxies"]), pd.read_parquet(inputs["folds"])
    tested = galaxies["object_id"].isin(folds.loc[folds["role_1"] == "test", "object_id"])
    galaxies.loc[tested, "z_spec"] = 0.399
    galaxies.to_parquet(inputs["galaxies"], index=False)
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    after = pd.read_parquet(outputs(tmp_path)["photoz"])
    same = before["z_phot_local_linear"] == after["z_phot_local_linear"]
    assert same[before["fold"] == 1].all()
    assert not same[before["fold"] != 1].any()  # those that they do train


@pytest.mark.parametrize("pixels", [0, 1, 64 * 64])
def test_network_by_depth_and_scores_by_coverage_mean_the_same_galaxies(pixels):
    layer = np.full(64 * 64, np.nan, np.float32)
    layer[:pixels] = 1
    _, depth, covered = median_stack(layer.reshape(1, 64, 64))
    assert (depth > 0) == (covered / layer.size > 0) == (pixels > 0)


def test_archive_is_compared_on_the_galaxies_that_it_knows(run):
    *_, scores = run
    part = scores["with_archive"]
    assert part["galaxies"] == scores["galaxies"]["scored"] - len(UNKNOWN_TO_ARCHIVE)
    assert set(part["scores"]) == {"network", "local_linear", "archive"}
    difference = part["differences"]["network - archive"]["sigma_mad"]
    values = {name: part["scores"][name]["sigma_mad"] for name in ("network", "archive")}
    assert difference["value"] == pytest.approx(values["network"]["value"] - values["archive"]["value"])


def test_folds_that_were_not_tested_leave_their_galaxies_out(run, tmp_path):
    _, _, whole, _ = run
    inputs = make_run(tmp_path, repeats=2)
    inputs["member_pdfs"] = {number: inputs["member_pdfs"][number] for number in (1, 1 + inputs["fold_count"])}
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    photoz = pd.read_parquet(outputs(tmp_path)["photoz"])
    expected = set(whole.loc[whole["fold"] == 1, "object_id"])
    for repeat in (0, 1):
        assert set(photoz.loc[(photoz["fold"] == 1) & (photoz["repeat"] == repeat), "object_id"]) == expected
    assert len(photoz) == 2 * len(expected)


def test_a_regressed_point_estimate_is_scored_beside_the_mean(tmp_path):
    inputs = make_run(tmp_path)
    for path in inputs["member_pdfs"].values():
        table = pq.read_table(path)
        values = pdfs.point_estimate(np.stack(table["pdf"].to_pandas())) + 0.01 * table["member"].to_numpy()
        pq.write_table(table.append_column("z_regressed", [values]), path)
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    photoz = pd.read_parquet(outputs(tmp_path)["photoz"])
    assert photoz["z_phot_regressed"].to_numpy() == pytest.approx(photoz["z_phot"].to_numpy() + 0.005, abs=1e-7)
    headline = json.loads(outputs(tmp_path)["scores"].read_text())["headline"]
    scored = photoz[photoz["has_frames"]]
    expected = paper_scores(scored, "z_phot_regressed")
    found = headline["scores"]["regressed"]
    assert {key: found[key]["value"] for key in found} == pytest.approx(expected)
    assert headline["differences"]["regressed - network"]["bias"]["value"] == pytest.approx(
        found["bias"]["value"] - headline["scores"]["network"]["bias"]["value"]
    )


def test_without_redshifts_in_the_archive_the_rest_stands(tmp_path):
    inputs = make_run(tmp_path)
    pd.read_parquet(inputs["galaxies"]).drop(columns="z_archive").to_parquet(inputs["galaxies"], index=False)
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    scores = json.loads(outputs(tmp_path)["scores"].read_text())
    assert scores["with_archive"] is None
    assert scores["headline"]["scores"]["network"]["sigma_mad"]["value"] > 0


def test_qp_reads_the_ensemble_with_the_same_redshifts(run):
    folder, _, photoz, _ = run
    ensemble = qp.read(str(outputs(folder)["ensemble"]))
    assert ensemble.ancil["object_id"].tolist() == photoz["object_id"].tolist()
    assert ensemble.mean()[:, 0] == pytest.approx(photoz["z_phot"].to_numpy(), abs=1e-9)
    assert ensemble.cdf(photoz["z_spec"].to_numpy()[:, None])[:, 0] == pytest.approx(photoz["pit"].to_numpy(), abs=1e-9)


def test_repeats_are_scored_on_their_own_and_not_pooled(tmp_path):
    inputs = make_run(tmp_path, count=300, repeats=2)
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    photoz = pd.read_parquet(outputs(tmp_path)["photoz"])
    scores = json.loads(outputs(tmp_path)["scores"].read_text())
    assert photoz.groupby("repeat")["object_id"].nunique().tolist() == [300, 300]
    assert [(fold["repeat"], fold["fold"]) for fold in scores["folds"]] == [(r, f) for r in (0, 1) for f in (0, 1, 2)]
    assert scores["galaxies"]["predicted"] == 300
    scored = photoz[photoz["has_frames"]]

    def mean_of_repeats(column):
        parts = [part for _, part in scored.groupby("repeat")]
        return np.mean([paper_scores(part, column)["sigma_mad"] for part in parts])

    assert scores["headline"]["scores"]["network"]["sigma_mad"]["value"] == pytest.approx(mean_of_repeats("z_phot"))
    assert scores["members"][1]["sigma_mad"] == pytest.approx(mean_of_repeats("z_phot_member_1"))


def test_same_inputs_give_the_same_bytes(run, tmp_path):
    folder, inputs, *_ = run
    evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)
    for name, path in outputs(tmp_path).items():
        assert path.read_bytes() == outputs(folder)[name].read_bytes(), name
    assert not list(tmp_path.rglob("*.part*"))


def test_distributions_that_miss_a_test_galaxy_are_refused(tmp_path):
    inputs = make_run(tmp_path, count=200)
    path = inputs["member_pdfs"][2]
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(UserError, match=r"fold-2/pdfs.parquet holds .* predict the fold again"):
        evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)


@pytest.mark.parametrize("name", ["training/images/fold-1/pdfs.parquet", "cubes/quality-0.parquet"])
@pytest.mark.parametrize("left", [0, 200])
def test_a_table_that_is_empty_or_cut_short_is_named(tmp_path, name, left):
    inputs, path = make_run(tmp_path, count=200), tmp_path / name
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(
        UserError, match=rf"^{path} cannot be read \([^\n]*\): delete it and run again, which makes it anew.$"
    ):
        evaluate(**inputs, **outputs(tmp_path), settings=SETTINGS)


def test_cubes_of_another_sample_are_refused(tmp_path):
    inputs = make_run(tmp_path, count=200)
    with pytest.raises(UserError, match="no quality table of the cubes holds object"):
        evaluate(**{**inputs, "quality": inputs["quality"][:1]}, **outputs(tmp_path), settings=SETTINGS)
