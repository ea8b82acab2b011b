"""A CPU plays a GPU: every network and recipe goes through all that only a GPU runs, but for the card's own kernels.

The code asks `device.on_gpu` alone; here it says yes to a CPU. What remains of CUDA is replaced: memory, streams and
events by calls that do nothing, the recorder of steps by a tape, the compiler's back end by PyTorch's own operations.
"""

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Literal, get_args, get_origin

import pandas as pd
import pytest
import torch
from test_replay import Tape
from test_watch import events

from sdss_photoz.config import Training
from sdss_photoz.training import ceiling, device, jobs, replay
from sdss_photoz.training.networks import names

RECIPES = {
    "documented": {},
    "the paper's": {
        "stretch": "none", "initialisation": "paper", "schedule": "step", "activation": "prelu", "augment": False,
        "precision": "float32",
    },
    "wide": {
        "pooling": "max", "activation": "relu", "batch_norm": True, "dropout": 0.2, "optimizer": "muon",
        "averaging": "exponential", "stretch": "sqrt", "precision": "bfloat16", "symmetry_averaging": True,
    },
    "schedule-free": {
        "schedule": "free", "label_width": 0.03, "crps_weight": 1.0, "stretch": "gamma", "sampling": "balanced",
        "outside_bins": "clip",
    },
    "averaged": {"averaging": "last", "optimizer": "muon", "regressed_point": True},
}  # fmt: skip
EVERY = [pytest.param(name, recipe, id=f"{name}, {key}") for name in names() for key, recipe in RECIPES.items()]


def test_the_recipes_take_every_choice_of_the_configuration():
    recipes = [Training(**recipe) for recipe in RECIPES.values()]
    for key in Training.what_keys():
        field = Training.model_fields[key]
        kinds = [field.annotation, *get_args(field.annotation)]
        choices = {choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)}
        choices |= {True, False} if field.annotation is bool else set()
        taken = {getattr(recipe, key) for recipe in recipes}
        if key == "network":
            assert choices == set(names())
        else:
            assert choices <= taken, key
            assert field.default != 0 or key == "seed" or any(taken), f"{key} is never on"


class _Stream:
    """A stream or an event that never waits."""

    def __init__(self, *_):
        pass

    wait_stream = wait_event = synchronize = record = lambda self, *_: None


@pytest.fixture
def card(monkeypatch):
    """Let a CPU be taken for a GPU; the tapes on which steps are recorded."""
    tapes = []
    monkeypatch.setattr(device, "GPU", "cpu")
    cuda = {
        "Stream": _Stream, "Event": _Stream, "current_stream": _Stream, "stream": lambda _: nullcontext(),
        "device": lambda _: nullcontext(), "set_device": lambda _: None, "synchronize": lambda _: None,
        "mem_get_info": lambda _: (10**9, 10**9), "is_bf16_supported": lambda **_: True,
    }  # fmt: skip
    for name, stand_in in cuda.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **options: empty(*size, **options))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(replay, "Graph", lambda _: tapes.append(Tape()) or tapes[-1])
    monkeypatch.setattr(ceiling, "ON_GPU", (64, 1))

    @contextmanager
    def claim(*_):
        yield torch.device("cpu")

    monkeypatch.setattr(jobs, "claim", claim)
    return tapes


@pytest.mark.parametrize(("network", "recipe"), EVERY)
def test_every_network_and_recipe_trains_and_predicts_the_way_of_a_gpu(
    smallest_run, card, tmp_path, capsys, network, recipe
):
    settings = Training(network=network, epochs=1, batch=4, **recipe)
    galaxies, folds, store = smallest_run
    model = tmp_path / "member-0.safetensors"
    scalars = tmp_path / "tensorboard"
    jobs.train(galaxies, folds, store, settings, "images", 0, 0, model, tmp_path / "history.csv", scalars=scalars)
    jobs.predict(galaxies, folds, store, settings, "images", 0, [model], tmp_path / "pdfs.parquet")
    assert [tape.replays for tape in card] == [3]
    said = capsys.readouterr().err
    for failed in ("cannot be compiled", "cannot be recorded", "goes on without"):
        assert failed not in said
    (epoch,) = [event for path in scalars.iterdir() for event in events(path) if event.step]
    assert any(value.tag == "training/share_of_ceiling" for value in epoch.summary.value)
    assert len(pd.read_parquet(tmp_path / "pdfs.parquet")) == 3
