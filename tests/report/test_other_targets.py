"""The report of a run whose trials predict a value, yes and no, and redshifts."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve
from tests.fixtures.synthetic_run import evaluate_run, make_other_run, make_run, outputs

from sdss_photoz.config import Evaluation, check
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.report.page import write_report
from sdss_photoz.report.score_text import OTHER_SCORES
from sdss_photoz.report.section import TrialFiles
from sdss_photoz.report.sections.headline import verdict

TRIALS = {
    "value": {"target": {"column": "mass", "low": 8, "high": 12}, "where": "mass > 0"},
    "yes_no": {"target": {"column": "far", "kind": "yes_no"}},
}


def write(folder, kinds):
    """Write the report of a run with a trial of each kind; return the page."""
    trials, inputs = {}, None
    for kind in kinds:
        place = folder / f"run-{kind}"
        own, label = (make_run(place), None) if kind == "redshift" else make_other_run(place, kind)
        evaluate_run(place, own, Evaluation(bootstrap=30), **({} if label is None else {"label": label}))
        made = outputs(place)
        histories = sorted((place / "training/images").glob("fold-*/member-*.history.csv"))
        trials[kind] = TrialFiles(made["photoz"], made["ensemble"], made["scores"], histories)
        inputs = own
    galaxies = pd.read_parquet(inputs["galaxies"])
    counts = folder / "counts.csv"
    counts.write_text("cut,galaxies,removed\nquery,600,0\n")
    create_store(folder / "cubes.zarr", galaxies, 1)
    flux = np.random.default_rng(1).normal(0, 1, (len(galaxies), 64, 64, 5)).astype(np.float32)
    write_shard(folder / "cubes.zarr", 0, flux, np.ones((len(galaxies), 5), dtype=np.uint16))
    config = {
        "archive": {"query": "own.sql"},  # which returns mass and far
        "report": {"examples": 3},
        "trials": {kind: TRIALS.get(kind, {}) for kind in kinds},
    }
    write_report(
        page=folder / "index.html", tables=folder / "tables", figures=folder / "figures", galaxies=inputs["galaxies"],
        counts=counts, store=folder / "cubes.zarr", trials=trials, config=check(config),
    )  # fmt: skip
    return (folder / "index.html").read_text()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    return folder, write(folder, ["value", "yes_no"])


def found(folder, kind):
    photoz = pd.read_parquet(outputs(folder / f"run-{kind}")["photoz"])
    scored = photoz[photoz["has_frames"] & photoz["true"].notna()]
    return json.loads(outputs(folder / f"run-{kind}")["scores"].read_text()), scored


def test_each_kind_has_the_figures_that_apply_to_it(report):
    folder, page = report
    made = sorted(path.stem for path in (folder / "figures").glob("*-*.png"))
    assert made == [
        "value-examples", "value-pit", "value-residual_histogram", "value-residuals", "value-training",
        "value-true_predicted",
        "yes_no-completeness_purity", "yes_no-reliability", "yes_no-roc", "yes_no-training",
    ]  # fmt: skip
    assert all((folder / f"tables/{name}.csv").is_file() for name in made)
    assert page.count("<img") == len(made) + 1  # and the sky


def test_scores_stand_in_the_tables_with_their_errors(report):
    folder, page = report
    for kind, score, heading in (("value", "rmse", "RMSE"), ("yes_no", "auc", "AUC")):
        entry = found(folder, kind)[0]["headline"]["scores"]["network"][score]
        assert f"<td>{entry['value']:.4f} ± {entry['error']:.4f}</td>" in page
        assert f'<th scope="col">{heading}</th>' in page
    table = pd.read_csv(folder / "tables/scores.csv").set_index(["trial", "method", "score"])
    auc = found(folder, "yes_no")[0]["headline"]["scores"]["network"]["auc"]["value"]
    assert table.loc[("yes_no", "network", "auc"), "value"] == auc


@pytest.mark.parametrize(
    ("difference", "finding"), [(0.04, "better"), (-0.04, "worse"), (0.01, "cannot be told apart")]
)
def test_a_higher_area_under_the_curve_is_the_better_one(difference, finding):
    entry = lambda value: {"auc": {"value": value, "error": 0.01}}  # noqa: E731
    compared = {"galaxies": 90, "scores": {"network": entry(0.9 + difference), "local_linear": entry(0.9)}}
    compared["differences"] = {"network - local_linear": entry(difference)}
    sentence = verdict(compared, "local_linear", "auc", OTHER_SCORES["yes_no"], higher=True)
    assert sentence.endswith(f"{finding}.")
    assert f"AUC of the network is {0.9 + difference:.4f} ± 0.0100" in sentence


def test_captions_and_credits_name_the_column_and_no_redshift(report):
    _, page = report
    trials = page[page.index("<h2>Trial") : page.index("<h2>Sample")]
    assert "predicted &minus; true <code>mass</code>" in " ".join(trials.split())
    assert "Solid: the true value. Dotted: the prediction." in " ".join(trials.split())
    assert "all that are <code>far</code>" in " ".join(trials.split())
    assert "Pasquet" not in page
    assert "to predictions of <code>mass</code>, <code>far</code> with their" in page


def test_a_run_may_mix_redshifts_and_other_targets(tmp_path):
    page = write(tmp_path, ["redshift", "value"])
    assert "to photometric redshifts and predictions of <code>mass</code> with their" in page
    assert "Pasquet" in page
    assert "Solid: spectroscopic redshift. Dotted: photometric redshift." in " ".join(page.split())
    figures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {"redshift-redshifts", "value-true_predicted"} <= figures
    alone = write(tmp_path / "alone", ["redshift"])
    assert "to photometric redshifts with their" in alone
    headline = lambda text: re.search(r"<h2>Trial <code>redshift.*?</table>", text, re.DOTALL)[0]  # noqa: E731
    assert headline(page) == headline(alone)


def test_density_counts_each_galaxy_once_and_the_running_median_is_numpys(report):
    folder, _ = report
    table, (_, scored) = pd.read_csv(folder / "tables/value-true_predicted.csv"), found(folder, "value")
    for method, column in (("network", "predicted"), ("local-linear regression", "predicted_local_linear")):
        part = table[table["method"] == method]
        assert part.loc[part["part"].isin(["panel", "cell"]), "galaxies"].sum() == len(scored)
        row = part[part["part"] == "running"].iloc[3]
        inside = scored[scored["true"].between(row["true_low"], row["true_high"], inclusive="left")]
        assert row["median"] == pytest.approx(np.median(inside[column]))
    cell = table[(table["part"] == "cell") & (table["method"] == "network")].iloc[10]
    inside = scored["true"].between(cell["true_low"], cell["true_high"], inclusive="left")
    inside &= scored["predicted"].between(cell["predicted_low"], cell["predicted_high"], inclusive="left")
    assert inside.sum() == cell["galaxies"]


def test_histogram_and_residuals_are_those_of_the_scored_galaxies(report):
    folder, _ = report
    _, scored = found(folder, "value")
    residual = scored["predicted"] - scored["true"]
    histogram = pd.read_csv(folder / "tables/value-residual_histogram.csv").query("method == 'network'")
    assert histogram["galaxies"].sum() == len(scored)
    row = histogram.iloc[25]
    assert row["galaxies"] == np.sum((residual >= row["low"]) & (residual < row["high"]))
    row = pd.read_csv(folder / "tables/value-residuals.csv").query("method == 'network'").iloc[4]
    inside = residual[scored["true"].between(row["true_low"], row["true_high"], inclusive="left")]
    assert [row["low"], row["median"], row["high"]] == pytest.approx(np.quantile(inside, (0.16, 0.5, 0.84)).tolist())


def test_curves_of_yes_and_no_are_those_of_scikit_learn(report):
    folder, _ = report
    _, scored = found(folder, "yes_no")
    yes, probability = scored["true"] > 0.5, scored["predicted"]
    curve = pd.read_csv(folder / "tables/yes_no-roc.csv").query("method == 'network'")
    expected = roc_curve(yes, probability, drop_intermediate=False)
    assert curve["completeness"].to_numpy() == pytest.approx(expected[1])
    assert np.trapezoid(curve["completeness"], curve["false_positive_rate"]) == pytest.approx(
        roc_auc_score(yes, probability)
    )
    half = pd.read_csv(folder / "tables/yes_no-completeness_purity.csv").query("method == 'network'").iloc[50]
    assert half["threshold"] == 0.5
    assert half["completeness"] == np.sum(yes & (probability >= 0.5)) / yes.sum()
    calibration = pd.read_csv(folder / "tables/yes_no-reliability.csv").query("method == 'network'")
    assert calibration["galaxies"].sum() == len(scored)
    assert calibration["yes"].iloc[-1] == pytest.approx(yes[probability >= 0.9].mean())


def test_all_yes_has_a_report_too(tmp_path):
    """Curves that are not defined are drawn empty, and the sentence says why there is no score."""
    inputs, label = make_other_run(tmp_path, "yes_no")
    galaxies = pd.read_parquet(inputs["galaxies"]).assign(far=1.0)
    galaxies.to_parquet(inputs["galaxies"], index=False)
    evaluate_run(tmp_path, inputs, Evaluation(bootstrap=20), label=label)
    made = outputs(tmp_path)
    create_store(tmp_path / "cubes.zarr", galaxies, 1)
    (tmp_path / "counts.csv").write_text("cut,galaxies,removed\nquery,600,0\n")
    write_report(
        page=tmp_path / "index.html", tables=tmp_path / "tables", figures=tmp_path / "figures",
        galaxies=inputs["galaxies"], counts=tmp_path / "counts.csv", store=tmp_path / "cubes.zarr",
        trials={"yes_no": TrialFiles(made["photoz"], made["ensemble"], made["scores"], [])},
        config=check(
            {
                "archive": {"query": "own.sql"},
                "report": {"examples": 0},
                "trials": {"yes_no": TRIALS["yes_no"]},
            }
        ),
    )  # fmt: skip
    assert "AUC of the network is –" in (tmp_path / "index.html").read_text()
