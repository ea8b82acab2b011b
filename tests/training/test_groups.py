"""Layers with a learning rate and a weight decay of their own, and frozen ones, beside torch's AdamW."""

import copy
import multiprocessing
import signal

import pytest
import torch
from tests.fixtures.plain_network import Network
from tests.fixtures.quick_training import QUICK, draw_examples, task, train_and_die, train_in
from tests.training.test_step import make_batch

from sdss_photoz.config import check
from sdss_photoz.errors import UserError
from sdss_photoz.networks import build
from sdss_photoz.targets.classes import Classes
from sdss_photoz.training import fit, jobs
from sdss_photoz.training.adam import Adam, Pace
from sdss_photoz.training.fast.aligned import AlignedNetwork, NotAligned
from sdss_photoz.training.groups import grouped
from sdss_photoz.training.rehearsal import rehearse
from sdss_photoz.training.step import Trainer, learning_rate, train_step

PATH = "tests.fixtures.plain_network:Network"
OWN = {"network": PATH, "epochs": 2, "batch": 16, "device": "cpu", "checkpoint_minutes": 1e-9}
GROUPS = {"body": {"rate": 0.1, "weight_decay": 0.03}, "inner.bias": {"rate": 2.0}, "body.1": {}}


def training(**keys):
    return check({"training": keys}).training


def apart(network, groups, others):
    """Groups of parameters for torch's optimizer: (rate, decay) by name of a layer, and those of the others."""
    found = {kind: [] for kind in (*groups, None)}
    for name, parameter in network.named_parameters():
        found[next((group for group in groups if f"{name}.".startswith(f"{group}.")), None)].append(parameter)
    return [(parameters, *groups.get(group, others)) for group, parameters in found.items()]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("schedule", ["one_cycle", "step"])
def test_steps_are_those_of_torchs_adamw_with_the_same_groups(narrow_network, wide, schedule):
    settings = training(
        weight_decay=0.2,
        schedule=schedule,
        groups={
            "conv0": {"rate": 0.3, "weight_decay": 0.0},
            "inception2": {"rate": 3.0},
            "dense1": {"weight_decay": 5},
        },
    )
    ours, theirs = (copy.deepcopy(narrow_network).double() for _ in range(2))
    ours.wide = wide
    batch = make_batch(dtype=torch.float64)
    trainer = Trainer(ours, settings, Classes(), 6, torch.float64)
    assert trainer.aligned == wide
    groups = {"conv0": (0.3, 0.0), "inception2": (3.0, 0.2), "dense1": (1.0, 5.0)}
    parts = apart(theirs, groups, (1.0, 0.2))
    assert all(parameters for parameters, *_ in parts)
    reference = torch.optim.AdamW([{"params": p, "weight_decay": decay} for p, _, decay in parts], foreach=False)
    for step in range(6):
        rate = learning_rate(settings, torch.tensor(step), 6).item()
        for group, (_, factor, _) in zip(reference.param_groups, parts, strict=True):
            group["lr"] = factor * rate
        reference.zero_grad()
        Classes().loss(theirs(*batch[:2]), batch[2]).backward()
        reference.step()
        train_step(trainer, batch)
    found = trainer.trained_network().state_dict()
    for name, value in theirs.state_dict().items():
        assert torch.allclose(found[name], value, rtol=0, atol=1e-12), name


def test_the_optimizer_of_groups_is_torchs_also_from_a_state_in_the_middle(narrow_network):
    ours, theirs = (copy.deepcopy(narrow_network).double() for _ in range(2))
    rate, groups = torch.zeros((), dtype=torch.float64), {"conv0": (0.5, 0.1), "dense2": (2.0, 0.0)}
    paces = {
        name: Pace(*groups.get(name.partition(".")[0], (1.0, 0.04))) for name, _ in narrow_network.named_parameters()
    }
    optimizer, parts = Adam(dict(ours.named_parameters()), rate, paces), apart(theirs, groups, (1.0, 0.04))
    reference = torch.optim.AdamW([{"params": p, "weight_decay": decay} for p, _, decay in parts], foreach=False)
    for step in range(6):
        rate.fill_(0.01 / (step + 1))
        for group, (_, factor, _) in zip(reference.param_groups, parts, strict=True):
            group["lr"] = factor * rate.item()
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        optimizer.step()
        reference.step()
        if step == 2:
            remembered, optimizer = optimizer.moments, Adam(dict(ours.named_parameters()), rate, paces)
            optimizer.load(remembered, 3)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_without_groups_a_step_is_one_call_of_adams_kernel_at_the_rate_itself(narrow_network, monkeypatch):
    called = []
    monkeypatch.setattr(torch, "_fused_adam_", lambda *given, **keys: called.append((len(given[0]), keys["lr"])))
    monkeypatch.setattr(torch, "_fused_adamw_", None)
    for settings in (training(), training(groups={"conv0": {}})):
        trainer = Trainer(copy.deepcopy(narrow_network), settings, Classes(), 4, torch.float32)
        train_step(trainer, make_batch())
        ((count, rate),) = called
        assert count == len(list(trainer.form.parameters()))
        assert rate is trainer.rate
        called.clear()


def test_one_tensor_of_two_groups_is_trained_in_the_plain_form_and_the_log_says_so(narrow_network, caplog):
    caplog.set_level("INFO")
    narrow_network.wide = True
    settings = training(groups={"inception1.into_3x3": {"rate": 0.5}})
    assert not Trainer(narrow_network, settings, Classes(), 4, torch.float32).aligned
    assert "trained in its plain form" in caplog.text
    assert "one tensor holds inception1." in caplog.text
    aligned = AlignedNetwork(narrow_network)
    with pytest.raises(NotAligned, match="of different groups"):
        aligned.by_tensor({"inception0.into_5x5.weight": 1, "inception0.into_3x3.weight": 2})
    assert aligned.by_tensor({"inception0.branch_5x5.weight": 1, "inception0.branch_3x3.weight": 2}) == {
        "network.inception0.branch_5x5.weight": 1,
        "network.inception0.branch_3x3.weight": 2,
    }
    alike = {layer: {"rate": 0.5} for layer in ("into_3x3", "into_5x5", "into_pool", "branch_1x1")}
    settings = training(groups={f"inception1.{layer}": group for layer, group in alike.items()})
    assert Trainer(narrow_network, settings, Classes(), 4, torch.float32).aligned


def test_a_frozen_layer_stays_as_it_was_drawn_and_the_others_learn(tmp_path):
    settings = training(**OWN, groups={"body.1": {"frozen": True}, "inner": {"rate": 0.5}}, weight_decay=0.1)
    run = fit._Run(draw_examples(32, 1), draw_examples(10, 2), settings, 0, 0, tmp_path / "c", "test")
    drawn = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.go(lambda: False)
    for name, value in run.network.named_parameters():
        assert torch.equal(value, drawn[name]) == name.startswith("body.1."), name


def test_groups_of_the_class_hold_and_those_of_the_configuration_go_before_them(monkeypatch):
    monkeypatch.setattr(Network, "groups", GROUPS | {"head": {"frozen": True}}, raising=False)
    paces = grouped(build(PATH), training(network=PATH, weight_decay=0.5))
    assert paces["body.5.weight"] == paces["body.2.bias"] == Pace(0.1, 0.03)
    assert paces["inner.bias"] == Pace(2.0, 0.5)
    assert paces["inner.weight"] == Pace(1.0, 0.5)
    assert "head.weight" not in paces
    changed = {"head": {"rate": 7.0}, "body": {}, "body.5": {"rate": 3.0}}
    paces = grouped(build(PATH), training(network=PATH, groups=changed))
    assert paces["head.bias"] == Pace(7.0, 0.0)
    assert paces["body.5.weight"] == Pace(3.0, 0.0)
    assert paces["body.1.weight"] == Pace()


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"dens0": {"rate": 2.0}}, r"training.groups names 'dens0', but .* has no such layer .* body, inner, head"),
        ({"inne": {}}, "names 'inne'"),
        ({"body.9": {"rate": 2.0}}, "names 'body.9'"),
        ({name: {"frozen": True} for name in ("body", "inner", "head")}, "has no parameters that are trained"),
    ],
)
def test_a_name_that_no_layer_has_is_refused_before_cubes_are_read(groups, said):
    with pytest.raises(UserError, match=said):
        rehearse(*task(training(network=PATH, groups=groups)))


def test_the_librarys_networks_are_rehearsed_where_groups_are_given(monkeypatch, small_run, tmp_path):
    settings = training(groups={"conv9": {"rate": 0.5}})
    outputs = tmp_path / "member-0.safetensors", tmp_path / "history.csv"
    with pytest.raises(UserError, match="'conv9', but inception_small has no such layer"):
        jobs.train(*small_run, *task(settings), "images", 0, 0, *outputs)
    for network in ("inception", "inception_small"):
        rehearse(*task(training(network=network, groups={"conv0": {"rate": 0.5}, "dense1": {"frozen": True}})))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "groups is 3, but must be a mapping of layers"),
        ({"body": {"rat": 1.0}}, "groups.body.rat is not a key .*did you mean 'rate'"),
        ({"bod": {"rate": 2.0}}, "Network.groups names 'bod', but"),
        ({"inner.weight": {"rate": 2.0}}, "parameter inner.weight in two groups, inner.weight and inner"),
    ],
)
def test_an_attribute_groups_that_is_none_is_refused(monkeypatch, given, said):
    monkeypatch.setattr(Network, "groups", given, raising=False)
    with pytest.raises(UserError, match=said):
        rehearse(*task(training(network=PATH, groups={"inner": {"rate": 0.5}})))


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"body": {"rate": 2.0}, "body.1": {"rate": 3.0}}, "apart, and body holds body.1"),
        ({"body": {"rate": 0.0}}, "training.groups.body.rate is 0.0, but must be greater than 0"),
        ({"body": {"weight_decay": -1.0}}, "training.groups.body.weight_decay is -1.0"),
        ({"body": {"rate": 2.0, "frozen": True}}, "without rate and weight_decay where it is frozen"),
        ({"body": {"lr": 2.0}}, "training.groups.body.lr is not a key of the configuration"),
    ],
)
def test_groups_that_cannot_be_are_refused_by_the_configuration(groups, said):
    with pytest.raises(UserError, match=said):
        training(groups=groups)


def test_a_training_of_groups_that_is_killed_and_resumed_ends_with_the_same_bytes(tmp_path):
    settings = training(**OWN, groups=GROUPS, weight_decay=0.01, averaging="exponential")
    killed, undisturbed, plain = (tmp_path / name for name in ("killed", "undisturbed", "plain"))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["pytest", "sdss_photoz.training.fit"])
    job = processes.Process(target=train_and_die, args=(killed, settings, 8, 1))
    job.start()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    train_in(killed, settings)
    train_in(undisturbed, settings)
    train_in(plain, settings.model_copy(update={"groups": {}}))
    files = [(folder / "member-0.safetensors").read_bytes() for folder in (killed, undisturbed, plain)]
    assert files[0] == files[1] != files[2]


def test_checkpoints_of_other_groups_are_set_aside_and_those_from_before_there_were_groups_are_not(
    tmp_path, monkeypatch
):
    parts, digested = (draw_examples(32, 1), draw_examples(10, 2)), []
    monkeypatch.setattr(fit.files, "digest", lambda found: digested.append(found[0]) or "x")
    for settings in (QUICK, training(groups={"conv0": {"rate": 0.5}}), training(weight_decay=0.1)):
        fit._Run(*parts, settings, 0, 0, tmp_path / "c", "test")
    first, *others = [{key: found.get(key) for key in ("groups", "weight_decay", "options")} for found in digested]
    assert not {"groups", "weight_decay", "options"} & digested[0].keys()
    assert others == [
        first | {"groups": {"conv0": {"rate": 0.5}}},
        first | {"weight_decay": 0.1},
    ]
