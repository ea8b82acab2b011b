"""A training learns, and gives the same bytes whatever interrupts it."""

import multiprocessing
import os
import re
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from tests.fixtures.quick_training import QUICK, draw_examples, task, train_and_die, train_in
from tests.training.test_tensorboard import events

from sdss_photoz.config import AT_PREDICTION, Group, Training
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.errors import UserError
from sdss_photoz.targets.classes import entropy
from sdss_photoz.training import fit, jobs
from sdss_photoz.training.data.order import Sequence
from sdss_photoz.training.inference import predict_cubes
from sdss_photoz.training.jobs import train
from sdss_photoz.training.model import Trained, architecture, describe_model, load_models

FIRST = Trained("images", 0, 0)


def _train(run, folder, settings=QUICK, member=0):
    folder.mkdir(exist_ok=True)
    outputs = folder / "member-0.safetensors", folder / "history.csv"
    train(*run, *task(settings), "images", 0, member, *outputs, scalars=folder / "tensorboard")
    return folder


def _bytes(folder):
    return [(folder / name).read_bytes() for name in ("member-0.safetensors", "history.csv")]


@pytest.fixture(scope="module")
def undisturbed(small_run, tmp_path_factory):
    """Folder of a training that nothing interrupted."""
    return _train(small_run, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def stopped_at_step_9(monkeypatch):
    """The steps taken, a list that grows; the ninth comes with SIGTERM."""
    take_step, taken = fit.train_step, []

    def step_and_signal(*arguments):
        taken.append(1)
        if len(taken) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(*arguments)

    monkeypatch.setattr(fit, "train_step", step_and_signal)
    return taken


def test_the_default_training_ends_half_a_nat_below_the_entropy_of_the_redshifts(tmp_path):
    settings = Training(device="cpu")
    training, validation = draw_examples(1000, 1, settings), draw_examples(200, 2, settings)
    outputs = tmp_path / "m.safetensors", tmp_path / "h.csv", tmp_path / ".checkpoint"
    history = fit.train_member(training, validation, settings, "images", 0, 0, *outputs)
    prior = entropy(training.labels.numpy())
    reached = history["validation_loss"].min()
    print(f"entropy {prior:.3f}, validation loss {reached:.3f} after {len(history)} epochs of {len(training)} galaxies")
    assert reached <= prior - 0.5


def test_a_training_says_its_rate_the_time_left_and_that_it_had_no_effect(small_run, tmp_path, capsys):
    _train(small_run, tmp_path, QUICK.model_copy(update={"epochs": 1, "learning_rate": 1e-9}))
    stderr = capsys.readouterr().err
    assert re.search(r"fold 0, member 0: 100%.* 96/96 \[\d\d:\d\d<\d\d:\d\d, [\d.]+galaxy/s, epoch=1, loss=", stderr)
    assert "the network has hardly learned" in stderr


def test_the_history_has_a_row_per_epoch_and_marks_the_best_by_validation(undisturbed):
    history = pd.read_csv(undisturbed / "history.csv")
    assert list(history.columns) == ["epoch", "train_loss", "validation_loss", "learning_rate", "best"]
    assert history["epoch"].tolist() == list(range(1, 13))
    assert history.loc[history["best"], "validation_loss"].tolist() == [history["validation_loss"].min()]


def test_the_written_network_is_that_of_the_best_epoch_where_later_ones_are_worse(tmp_path):
    """Redshifts that were dealt at random can only be learned by heart, so the validation loss rises again."""
    training, validation = draw_examples(96, 1), draw_examples(64, 2)
    training.labels = training.labels[torch.from_numpy(np.random.default_rng(3).permutation(96))]
    outputs = tmp_path / "member-0.safetensors", tmp_path / "history.csv", tmp_path / ".checkpoint"
    settings = QUICK.model_copy(update={"epochs": 6, "learning_rate": 1e-2})
    history = fit.train_member(training, validation, settings, "images", 0, 0, *outputs)
    best = history["validation_loss"].idxmin()
    assert history["validation_loss"].iloc[-1] > history["validation_loss"][best] + 0.1
    network = load_models({FIRST: outputs[0]}, architecture(*task(settings)))[FIRST].network
    cubes, ebv, labels = validation.batch(torch.arange(64))
    with torch.no_grad():
        found = torch.nn.functional.cross_entropy(network(cubes, ebv), labels).item()
    assert found == pytest.approx(history["validation_loss"][best], abs=0.02)
    assert describe_model(outputs[0])["epoch"] == history["epoch"][best]


def test_the_same_training_gives_the_same_bytes(small_run, undisturbed, tmp_path):
    assert _bytes(_train(small_run, tmp_path)) == _bytes(undisturbed)


def test_members_differ(small_run, undisturbed, tmp_path):
    assert _bytes(_train(small_run, tmp_path, member=1))[0] != _bytes(undisturbed)[0]


def test_a_training_killed_at_ten_random_moments_gives_the_same_bytes(tmp_path):
    """It saves after every step; each second kill comes while a checkpoint is being written."""
    settings = QUICK.model_copy(update={"checkpoint_minutes": 1e-9})
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    checkpoints, random = killed / ".member-0.checkpoint", np.random.default_rng(6)
    processes = multiprocessing.get_context("forkserver")  # imports torch once
    processes.set_forkserver_preload(["pytest", "sdss_photoz.training.fit"])
    for kill, step in enumerate(np.sort(random.choice(np.arange(1, 66), 10, replace=False))):
        within = int(random.integers(10_000, 1_000_000)) if kill % 2 else None
        words = killed, settings, step, int(random.integers(1, 16)), within
        job = processes.Process(target=train_and_die, args=words)
        job.start()
        job.join()
        assert job.exitcode == -(signal.SIGXFSZ if kill % 2 else signal.SIGKILL)
        assert not kill % 2 or list(checkpoints.glob(".step-*.part"))
    assert not (killed / "member-0.safetensors").exists()
    train_in(killed, settings)
    train_in(undisturbed)
    assert _bytes(killed) == _bytes(undisturbed)
    assert not checkpoints.exists()


def test_checkpoints_are_saved_by_minutes_also_within_an_epoch_or_at_the_end_of_each(small_run, tmp_path, monkeypatch):
    """An epoch has six steps; the clock of this test advances ten seconds with each step."""
    saved, steps = [], []
    monkeypatch.setattr(fit.Checkpoints, "save", lambda self, state: saved.append(state.step))
    monkeypatch.setattr(fit.time, "monotonic", lambda: 10.0 * len(steps))
    take_step = fit.train_step
    monkeypatch.setattr(fit, "train_step", lambda *arguments: (steps.append(1), take_step(*arguments))[1])
    for minutes, expected in ((0.5, [3, 6, 9, 12]), (1.2, [8]), (0.0, [6, 12])):
        _train(small_run, tmp_path, QUICK.model_copy(update={"epochs": 2, "checkpoint_minutes": minutes}))
        assert saved == expected
        saved.clear()


def test_sigterm_saves_and_exits_within_an_epoch_and_the_rerun_gives_the_same_bytes(
    small_run, undisturbed, tmp_path, stopped_at_step_9, capsys
):
    settings = QUICK.model_copy(update={"checkpoint_minutes": 60.0})
    with pytest.raises(SystemExit) as stopped:
        _train(small_run, tmp_path, settings)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert len(stopped_at_step_9) == 9
    assert "stopped by SIGTERM" in capsys.readouterr().err
    assert _bytes(_train(small_run, tmp_path, settings)) == _bytes(undisturbed)
    assert len(stopped_at_step_9) == 6 * 12


def test_after_a_damaged_checkpoint_the_bytes_are_the_same(small_run, undisturbed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fit, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        _train(small_run, tmp_path)
    monkeypatch.undo()
    before, newest = sorted((tmp_path / ".member-0.checkpoint").glob("step-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-100])
    assert _bytes(_train(small_run, tmp_path)) == _bytes(undisturbed)
    stderr = capsys.readouterr().err
    assert f"{newest.name} is damaged" in stderr
    assert f"going on after step {int(re.search(r'[0-9]+', before.name)[0])} of 72" in stderr


def test_checkpoints_of_other_settings_are_not_used(small_run, undisturbed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fit, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        _train(small_run, tmp_path, QUICK.model_copy(update={"learning_rate": 1e-4}))
    monkeypatch.undo()
    assert _bytes(_train(small_run, tmp_path)) == _bytes(undisturbed)
    assert "starting anew" in capsys.readouterr().err


RECIPE = {
    "pooling": "max", "activation": "prelu", "batch_norm": True, "dropout": 0.2, "schedule": "step",
    "averaging": "exponential", "averaging_share": 0.5, "label_width": 0.005, "crps_weight": 30.0,
    "sampling": "balanced", "stretch": "gamma", "regressed_point": True,
}  # fmt: skip


def test_a_training_of_another_recipe_that_is_stopped_ends_with_the_same_bytes(small_run, tmp_path, request):
    settings = QUICK.model_copy(update={"epochs": 2, **RECIPE})
    undisturbed = _bytes(_train(small_run, tmp_path / "undisturbed", settings))
    request.getfixturevalue("stopped_at_step_9")
    with pytest.raises(SystemExit):
        _train(small_run, tmp_path / "stopped", settings)
    assert _bytes(_train(small_run, tmp_path / "stopped", settings)) == undisturbed
    path = tmp_path / "stopped" / "member-0.safetensors"
    assert describe_model(path)["variant"] == {"pooling": "max", "activation": "prelu", "batch_norm": True}
    predictor = load_models({FIRST: path}, architecture(*task(settings)))[FIRST]
    assert not predictor.network.training
    assert len(predictor.point) == 180


ONE_EPOCH = QUICK.model_copy(update={"epochs": 1})


@pytest.fixture(scope="module")
def one_epoch(small_run, tmp_path_factory):
    """Folder of a training of one epoch."""
    return _train(small_run, tmp_path_factory.mktemp("one_epoch"), ONE_EPOCH)


@pytest.mark.parametrize("key", [key for key in RECIPE if key not in ("averaging_share", "regressed_point")])
def test_each_key_of_a_recipe_changes_what_is_learned(small_run, one_epoch, tmp_path, key):
    change = {key: RECIPE[key], "averaging_share": RECIPE["averaging_share"]}
    changed = _train(small_run, tmp_path, ONE_EPOCH.model_copy(update=change))
    assert _bytes(changed)[1] != _bytes(one_epoch)[1]


def test_balanced_batches_of_streamed_cubes_are_refused(small_run, tmp_path):
    settings = QUICK.model_copy(update={"residence": "streamed", "sampling": "balanced"})
    with pytest.raises(UserError, match=r"set training.sampling to all, or training.residence to device or pinned"):
        _train(small_run, tmp_path, settings)


def test_everything_that_makes_the_weights_is_in_the_digest_of_their_checkpoints(monkeypatch):
    parts = {"train": draw_examples(20, 1), "validation": draw_examples(10, 2)}
    changed = {
        "network": "inception", "bins": 90, "epochs": 13, "batch": 17, "learning_rate": 1e-3, "schedule": "step",
        "warmup": 0.2, "initialisation": "paper", "stretch": "sqrt", "augment": False, "seed": 2, "cpu_threads": 2,
        "outside_bins": "clip", "precision": "bfloat16", "pooling": "max", "activation": "prelu", "batch_norm": True,
        "dropout": 0.2, "sampling": "balanced", "averaging": "last", "averaging_share": 0.2,
        "label_width": 0.01, "crps_weight": 30.0, "regressed_point": True,
        "options": {"width": 5}, "weight_decay": 0.1, "groups": {"conv0": Group(rate=0.5)},
    }  # fmt: skip
    assert set(changed) == set(Training.what_keys()) - AT_PREDICTION

    def digest(settings=QUICK, fold=0, member=0, **others):
        run = fit._Run(*{**parts, **others}.values(), settings, fold, member, ".checkpoint", "test")
        return run.checkpoints.digest

    digests = [digest(), digest(fold=1), digest(member=1)]
    digests += [digest(QUICK.model_copy(update={key: value})) for key, value in changed.items()]
    digests += [digest(**{role: draw_examples(20, 3)}) for role in parts]
    for place, name, value in (
        (fit.training, "VERSION", -1),
        (fit.torch, "__version__", "0.0"),
        (fit, "compute_dtype", lambda *_: torch.float64),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, value)
            digests.append(digest())
    assert len(set(digests)) == len(digests)
    assert digest(QUICK.model_copy(update={"device": "auto", "checkpoint_minutes": 1.0})) == digests[0]


def test_the_digest_of_checkpoints_is_that_of_the_versions_which_had_a_key_for_the_optimizer(monkeypatch):
    monkeypatch.setattr(fit.files, "digest", lambda value: value)
    run = fit._Run(draw_examples(20, 1), draw_examples(10, 2), QUICK, 0, 0, ".checkpoint", "test")
    assert run.checkpoints.digest[0]["optimizer"] == "adam"


def test_keys_that_change_no_result_keep_the_checkpoints(small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fit, "save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        _train(small_run, tmp_path)
    monkeypatch.undo()
    _train(small_run, tmp_path, QUICK.model_copy(update={"checkpoint_minutes": 1.0}))
    stderr = capsys.readouterr().err
    assert "starting anew" not in stderr
    assert "going on after step 72 of 72" in stderr


def test_a_loss_that_is_no_number_names_its_step_the_galaxies_and_the_remedy(tmp_path):
    training, validation = draw_examples(64, 1), draw_examples(16, 2)
    training.numbers[40] = float("inf")
    outputs = tmp_path / "m.safetensors", tmp_path / "h.csv", tmp_path / ".c"
    sequence = Sequence(64, QUICK.batch, QUICK.seed, 0, 0)
    step = next(step for step in range(4) if 40 in sequence.batch(step)[0])
    galaxies = ", ".join(map(str, training.object_id[sequence.batch(step)[0]]))
    named = rf"epoch 1, step {step + 1}, of the galaxies with object_id {galaxies}: lower training.learning_rate"
    with pytest.raises(UserError, match=f"the loss is not a number in {named}"):
        fit.train_member(training, validation, QUICK, "images", 0, 0, *outputs)
    assert not (tmp_path / "m.safetensors").exists()


def test_pinned_memory_gives_the_bytes_of_resident_cubes(small_run, undisturbed, tmp_path):
    settings = QUICK.model_copy(update={"residence": "pinned"})
    assert _bytes(_train(small_run, tmp_path, settings)) == _bytes(undisturbed)


def test_a_streamed_training_that_is_stopped_ends_with_the_bytes_of_one_that_is_not(
    small_run, tmp_path, stopped_at_step_9
):
    settings = QUICK.model_copy(update={"residence": "streamed", "scratch": str(tmp_path / "scratch")})
    with pytest.raises(SystemExit):
        _train(small_run, tmp_path / "stopped", settings)
    stopped = _bytes(_train(small_run, tmp_path / "stopped", settings))
    assert len(stopped_at_step_9) == 6 * 12
    assert stopped == _bytes(_train(small_run, tmp_path / "undisturbed", settings))
    assert len(list((tmp_path / "scratch").glob("*.npy"))) == 1


def test_a_training_can_be_watched_and_shows_each_epoch_once(undisturbed):
    (path,) = (undisturbed / "tensorboard").iterdir()
    shown = [event for event in events(path) if event.step]
    history = pd.read_csv(undisturbed / "history.csv")
    assert [event.step for event in shown] == history["epoch"].tolist()
    values = [{value.tag: value.simple_value for value in event.summary.value} for event in shown]
    assert [value["loss/validation"] for value in values] == pytest.approx(history["validation_loss"].tolist())
    assert values[-1]["training/seconds_left"] == 0
    assert all(value["training/galaxies_per_second"] > 0 and 0 < value["validation/sigma_mad"] < 1 for value in values)


def test_sigma_mad_and_bias_are_those_of_the_written_networks_distributions(small_run, tmp_path):
    galaxies, _, store = small_run
    folder = _train(small_run, tmp_path, QUICK.model_copy(update={"epochs": 1}))
    (path,) = (folder / "tensorboard").iterdir()
    shown = {value.tag: value.simple_value for value in events(path)[-1].summary.value}
    chosen = galaxies[galaxies["row"] % 10 == 3]
    predictor = load_models({FIRST: folder / "member-0.safetensors"}, architecture(*task()))[FIRST]
    numbers = predictor.inputs.rows(chosen)
    (pdf,) = predict_cubes([predictor], load_cubes(store, chosen["row"]), [numbers], torch.device("cpu"))
    z = chosen["z_spec"].to_numpy()
    dz = (pdf @ ((np.arange(180) + 0.5) / 450) - z) / (1 + z)
    assert shown["validation/bias"] == pytest.approx(dz.mean(), abs=1e-6)
    assert shown["validation/sigma_mad"] == pytest.approx(1.4826 * np.median(abs(dz - np.median(dz))), abs=1e-6)


@pytest.mark.parametrize(
    ("residence", "batch", "remedy"),
    [
        ("device", 16, "set training.residence to pinned, which frees 8,847,360 bytes, or lower .* from 16 to 8"),
        ("pinned", 16, "lower training.batch from 16 to 8"),
        ("pinned", 1, "use a GPU with more memory"),
    ],
)  # fmt: skip
def test_a_full_gpu_says_which_setting_to_lower_and_by_how_much(
    small_run, tmp_path, monkeypatch, residence, batch, remedy
):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fit, "train_step", full)
    settings = QUICK.model_copy(update={"residence": residence, "batch": batch})
    with pytest.raises(UserError, match=f"fold 0, member 0: the GPU's memory is full .*: {remedy}\\.$"):
        _train(small_run, tmp_path, settings)


def test_fewer_galaxies_than_a_batch_are_refused_before_any_cube_is_read(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "load_examples", lambda *_, **__: pytest.fail("cubes were read"))
    with pytest.raises(UserError, match=r"96 training galaxies, fewer than training\.batch, 128: .* to at most 96"):
        _train(small_run, tmp_path, QUICK.model_copy(update={"batch": 128}))


def test_redshifts_outside_the_bins_are_refused_or_clipped_as_the_configuration_says(small_run, tmp_path, capsys):
    galaxies, folds, store = small_run
    beyond = galaxies.assign(z_spec=galaxies["z_spec"].where(galaxies["row"] != 4, 0.5))
    settings = QUICK.model_copy(update={"epochs": 1})
    with pytest.raises(UserError, match=r"1 of 96 redshifts are outside .* or set training.outside_bins to clip"):
        _train((beyond, folds, store), tmp_path, settings)
    _train((beyond, folds, store), tmp_path, settings.model_copy(update={"outside_bins": "clip"}))
    assert "1 of 96 redshifts are outside the bins' range 0..0.4: they count in" in capsys.readouterr().err
