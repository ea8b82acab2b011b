"""Trainings and predictions of mixtures, regressions and yes or no."""

import copy
import os
import re
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from tests.fixtures.quick_training import QUICK, draw_examples

from sdss_photoz.config import Training, check
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build
from sdss_photoz.networks.parts import dropout
from sdss_photoz.networks.parts.layers import Variant
from sdss_photoz.scores.grid import Grid
from sdss_photoz.targets.head import head_of, recorded
from sdss_photoz.targets.label import Label
from sdss_photoz.targets.mixture import Mixture
from sdss_photoz.targets.regression import Regression
from sdss_photoz.training import fit, jobs
from sdss_photoz.training.inference import predictions
from sdss_photoz.training.model import Trained, architecture, describe_model, load_models
from sdss_photoz.training.rehearsal import rehearse
from sdss_photoz.training.step import Trainer, outputs_of
from sdss_photoz.training.validation import validate

FIRST = Trained("images", 0, 0)
QUERY = {"archive": {"query": "own.sql"}}
TARGETS = {
    "classes": {},
    "mixture": {"method": "mixture", "components": 3},
    "mixture by crps": {"method": "mixture", "loss": "crps"},
    "residuals": {"method": "regression"},
    "dropout": {"method": "regression", "distribution": "dropout", "draws": 5},
    "members": {"method": "regression", "loss": "mae", "distribution": "members"},
}


def _task(target, **training):
    values = {**QUICK.model_dump(), "epochs": 1, **training}
    settings = Training(**{**values, "dropout": 0.2 if target.get("distribution") == "dropout" else 0.0})
    found = check({"target": target, "training": settings.model_dump()})
    return settings, Inputs(), head_of(found.trial_target("images"), settings)


@pytest.fixture(scope="module")
def trained(small_run, tmp_path_factory):
    """Settings, inputs and head, folder and predictions of a training of each of the targets."""
    found = {}
    for name, target in TARGETS.items():
        folder, task = tmp_path_factory.mktemp(name.replace(" ", "_")), _task(target)
        model = folder / "member-0.safetensors"
        jobs.train(*small_run, *task, "images", 0, 0, model, folder / "history.csv")
        jobs.predict(*small_run, *task, "images", 0, [model], folder / "pdfs.parquet")
        found[name] = task, folder, pd.read_parquet(folder / "pdfs.parquet")
    return found


@pytest.mark.parametrize("name", TARGETS)
def test_each_way_to_predict_gives_probabilities_of_the_bins_and_its_own_point_estimates(trained, name):
    _, _, table = trained[name]
    pdf = np.stack(table["pdf"])
    assert pdf.shape[1] == 180
    assert (pdf >= 0).all()
    assert pdf.sum(1) == pytest.approx(1, abs=1e-5)
    assert list(table) == ["object_id", "member", "pdf", *["point"] * (name != "classes")]
    if name != "classes":
        assert table["point"].dtype == np.float64
        offset = 0.02 if name == "residuals" else 0.002  # the residuals' mean may differ from 0
        assert pdf @ Grid().centres() == pytest.approx(table["point"].to_numpy(), abs=offset)


def test_the_passes_with_dropout_differ_and_a_member_has_one_point(trained):
    filled = {name: (np.stack(trained[name][2]["pdf"]) > 0).sum(1) for name in ("dropout", "members")}
    assert (filled["members"] == 1).all()
    assert filled["dropout"].max() > 1
    assert filled["dropout"].max() <= 5


@pytest.mark.parametrize("name", TARGETS)
def test_a_model_file_tells_its_head_and_what_it_was_fitted_to(trained, name):
    task, folder, _ = trained[name]
    about = describe_model(folder / "member-0.safetensors")
    expected = {key: value for key, value in TARGETS[name].items() if (key, value) != ("distribution", "residuals")}
    assert about.get("target", {}) == expected
    fitted = {"classes": None, "mixture": {"mean", "deviation", "means", "width"}}
    kept = {"mean", "deviation"} | ({"residuals"} if name == "residuals" else set())
    keys = fitted.get(name.split()[0], kept)
    assert (set(about["fitted"]) if "fitted" in about else None) == keys
    assert about.get("variant", {}) == ({"dropout": 0.2} if name == "dropout" else {})
    found = recorded(about["bins"], about.get("target", {}), about.get("fitted"))
    assert (type(found), found.record(), found.outputs) == (type(task[2]), task[2].record(), task[2].outputs)


@pytest.mark.parametrize("name", ["classes", "mixture", "residuals"])
def test_averaged_over_the_symmetries_predictions_of_a_turned_cube_are_those_of_the_cube(trained, small_run, name):
    task, folder, _ = trained[name]
    galaxies, _, store = small_run
    predictor = load_models({FIRST: folder / "member-0.safetensors"}, architecture(*task))[FIRST]
    cubes, numbers = load_cubes(store, np.arange(4)), [predictor.inputs.rows(galaxies.iloc[:4])]
    turned = np.ascontiguousarray(np.rot90(cubes, 1, (1, 2))[:, ::-1])
    one, other = (
        predictions([predictor], found, numbers, torch.device("cpu"), symmetries=True) for found in (cubes, turned)
    )
    assert other.pdf == pytest.approx(one.pdf, rel=1e-4, abs=1e-6)
    if name != "classes":
        assert other.point == pytest.approx(one.point, abs=1e-6)
        alone = predictions([predictor], turned, numbers, torch.device("cpu"))
        assert alone.point != pytest.approx(one.point, abs=1e-5)


def test_a_mixture_that_is_killed_and_resumed_gives_the_same_bytes(trained, small_run, tmp_path, monkeypatch):
    take_step, taken = fit.train_step, []

    def step_and_signal(*arguments):
        taken.append(1)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(*arguments)

    task, folder, _ = trained["mixture"]
    outputs = tmp_path / "member-0.safetensors", tmp_path / "history.csv"
    monkeypatch.setattr(fit, "train_step", step_and_signal)
    with pytest.raises(SystemExit):
        jobs.train(*small_run, *task, "images", 0, 0, *outputs)
    jobs.train(*small_run, *task, "images", 0, 0, *outputs)
    assert len(taken) == 6
    for path in outputs:
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_the_validation_loss_is_the_root_of_the_mean_square_in_the_unit_of_the_label(trained, small_run):
    task, folder, _ = trained["residuals"]
    galaxies, _, store = small_run
    chosen = galaxies[galaxies["row"] % 10 == 3]
    predictor = load_models({FIRST: folder / "member-0.safetensors"}, architecture(*task))[FIRST]
    found = predictions(
        [predictor], load_cubes(store, chosen["row"]), [predictor.inputs.rows(chosen)], torch.device("cpu")
    )
    history = pd.read_csv(folder / "history.csv")
    errors = found.point[0] - chosen["z_spec"]
    assert history["validation_loss"][0] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert 0.3 < history["train_loss"][0] / history["validation_loss"][0] < 3
    assert predictor.head.state()["residuals"] == pytest.approx(np.quantile(-errors, np.linspace(0, 1, 201)), abs=1e-8)


def test_a_yes_no_target_has_two_bins_whose_mean_is_the_probability_of_yes(small_run, tmp_path):
    galaxies, *rest = small_run
    galaxies = galaxies.assign(far=galaxies["z_spec"] > galaxies["z_spec"].median())
    found = check({**_query(tmp_path), "target": {"column": "far", "kind": "yes_no"}})
    task = QUICK.model_copy(update={"epochs": 8}), Inputs(), head_of(found.trial_target("images"), QUICK)
    model = tmp_path / "member-0.safetensors"
    jobs.train(galaxies, *rest, *task, "images", 0, 0, model, tmp_path / "history.csv")
    jobs.predict(galaxies, *rest, *task, "images", 0, [model], tmp_path / "pdfs.parquet")
    table = pd.read_parquet(tmp_path / "pdfs.parquet").merge(galaxies)
    pdf = np.stack(table["pdf"])
    assert pdf.shape == (12, 2)
    probability = pdf @ task[2].label.grid.centres()
    assert probability == pytest.approx(pdf[:, 1], abs=1e-6)
    assert probability[table["far"]].mean() > probability[~table["far"]].mean()


def _query(folder):
    (folder / "own.sql").write_text("SELECT objID FROM SpecPhotoAll")
    return {"archive": {"query": str(folder / "own.sql")}}


def _galaxies(column):
    return pd.DataFrame({"object_id": 10 + np.arange(len(column)), "far": column})


@pytest.mark.parametrize(
    ("column", "kind", "sentence"),
    [
        ([0, 1, 2, 1], "yes_no", r"1 of 4 values of far are neither 0 nor 1 \(the first is 2\)"),
        (
            [0, 1, np.nan, 1],
            "yes_no",
            r"no network can use object_id 12, whose far is not a number: leave them out by ",
        ),
        (pd.array([True, None], "boolean"), "yes_no", r"object_id 11, whose far is not a number"),
        (
            [0.1, np.nan, 0.3],
            "value",
            r"object_id 11, whose far is not a number: leave them out by trials\.NAME\.where",
        ),
        ([0.1, 2.0], "value", r"1 of 2 values of far are outside the bins' range 0\.\.1 .* widen target\.low and "),
        (["a", "b"], "value", r"target\.column is far, whose values are no numbers"),
    ],
)
def test_labels_that_nothing_can_learn_are_refused(column, kind, sentence):
    grid = Grid(-0.5, 1.5, 2) if kind == "yes_no" else Grid(0.0, 1.0, 10)
    with pytest.raises(UserError, match=sentence):
        Label("far", grid, kind).of(_galaxies(column))


def test_a_missing_column_is_refused():
    with pytest.raises(UserError, match=r"target\.column is near, but that is no column of the galaxies"):
        Label("near").of(_galaxies([0.1]))


@pytest.mark.parametrize("target", [{}, {"method": "mixture"}, {"method": "regression"}])
def test_a_column_of_one_value_is_refused_before_the_cubes_are_read(small_run, tmp_path, target, monkeypatch):
    galaxies, *rest = small_run
    monkeypatch.setattr(jobs, "load_examples", None)
    with pytest.raises(UserError, match=r"target\.column is z_spec, which is 0\.1 for all training galaxies"):
        jobs.train(galaxies.assign(z_spec=0.1), *rest, *_task(target), "images", 0, 0, tmp_path / "m", tmp_path / "h")


def test_an_own_network_without_dropout_is_refused_where_distributions_come_from_it():
    network = "tests.fixtures.plain_network:Network"
    found = check({"target": TARGETS["dropout"], "training": {"network": network, "options": {"dropout": 0.0}}})
    settings = found.trial_training("images")
    head = head_of(found.trial_target("images"), settings)
    with pytest.raises(UserError, match=r"is dropout, but tests.*:Network has no layer torch\.nn\.Dropout"):
        rehearse(settings, Inputs(), head)
    rehearse(settings.model_copy(update={"options": {"dropout": 0.1}}), Inputs(), head)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mixture", r"is not 0\.1 below the negative log-likelihood of the redshifts alone, -1\.\d+: the network has"),
        ("mixture by crps", r"loss, 0\.\d+, is not 0\.002\d below the CRPS of the redshifts alone, 0\.0[23]\d+:"),
        ("residuals", r"is not 0\.002\d below the standard deviation of the redshifts, 0\.0[45]\d+: the network has"),
        ("members", r"is not 0\.002\d below the mean distance from the median of the redshifts, 0\.0[34]\d+: the"),
    ],
)
def test_a_training_without_effect_is_told_beside_the_prior_of_its_loss(small_run, tmp_path, capsys, name, words):
    task = _task(TARGETS[name], learning_rate=1e-9)
    jobs.train(*small_run, *task, "images", 0, 0, tmp_path / "member-0.safetensors", tmp_path / "history.csv")
    assert re.search(words, capsys.readouterr().err)


def test_mixtures_that_collapse_are_refused_at_the_end_of_the_epoch(small_run, tmp_path, monkeypatch):
    start = Mixture.normals

    def narrow(head, outputs):
        return start(head, outputs - torch.tensor([0.0] * 6 + [100.0] * 3, dtype=outputs.dtype))

    monkeypatch.setattr(Mixture, "normals", narrow)
    with pytest.raises(UserError, match=r"fold 0, member 0: more than half of the mixture's weight .* of epoch 1, so"):
        jobs.train(
            *small_run, *_task({"method": "mixture", "components": 3}, learning_rate=1e-6), "images", 0, 0,
            tmp_path / "m", tmp_path / "h",
        )  # fmt: skip


def test_the_last_layer_of_a_regression_computes_in_float32_under_autocast():
    module = build("inception_small", 1, "paper", ordered=False)
    images, numbers = torch.randn(8, 64, 64, 5), torch.rand(8, 1)
    head = Regression(Label()).fitted(np.linspace(0, 0.3, 9))
    settings = Training(averaging="last", device="cpu")  # which trains a copy
    plain = outputs_of(copy.deepcopy(module), images, numbers, torch.bfloat16).detach()
    trainer = Trainer(module, settings, head, 10, torch.bfloat16)
    features = []
    trainer.form.head.register_forward_pre_hook(lambda _, given: features.append(given[0].detach()))
    found = trainer.outputs(images, numbers).detach()
    weight, bias = trainer.form.head.weight, trainer.form.head.bias
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.nn.functional.linear(features[0].float(), weight, bias))
    assert torch.equal(plain, plain.bfloat16().float())
    assert not torch.equal(found, found.bfloat16().float())
    assert trainer.form.state_dict().keys() == module.state_dict().keys()


def test_outputs_that_are_no_bins_are_not_smoothed_over_their_neighbours():
    images, numbers = torch.randn(2, 64, 64, 5), torch.rand(2, 1)
    last, expected = [], []
    for ordered in (False, True):
        network = build("inception_small", 30, "paper", ordered=ordered)
        network.head.register_forward_hook(lambda *given: last.append(given[2]))
        expected.append(network(images, numbers))
    assert torch.equal(last[0], last[1])
    assert torch.equal(expected[0], last[0])
    assert not torch.allclose(expected[1], last[1])


def test_dropout_is_active_within_a_pass_alone_and_follows_its_number():
    network = build("inception_small", 1, "paper", variant=Variant(dropout=0.5)).eval()
    images, numbers = torch.randn(2, 64, 64, 5), torch.rand(2, 1)
    with torch.no_grad():
        alone = network(images, numbers)
        passes = []
        for number in (0, 1, 0):
            with dropout.active(network, number):
                passes.append(network(images, numbers))
        assert torch.equal(passes[0], passes[2])
        assert not torch.equal(passes[0], passes[1])
        assert torch.equal(network(images, numbers), alone)
    assert dropout.has_dropout(network)
    assert not dropout.has_dropout(build("inception_small"))


def test_validation_of_a_mixture_scores_its_own_mean():
    examples = draw_examples(40, 3)
    examples.head = Mixture(Label(), 2).fitted(examples.values)
    examples.labels = examples.head.encode(examples.values)
    scores = validate(build("inception_small", 6), examples)  # outputs of 0
    point = examples.head.point(torch.zeros(1, 6)).item()
    dz = (point - examples.values) / (1 + examples.values)
    assert scores["bias"] == pytest.approx(dz.mean(), abs=1e-6)
    assert scores["at_floor"] == 0
    assert scores["validation_loss"] == pytest.approx(examples.head.prior(examples.labels.numpy()), rel=1e-6)
