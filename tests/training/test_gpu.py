"""A CPU takes the code paths of a GPU, but for its kernels, with every network and recipe.

All code calls `device.on_gpu`, which here returns True for a CPU. The rest of CUDA is replaced: memory, streams and
events by calls that do nothing, the CUDA graph of a step by a tape, the compiler's back end by PyTorch's operations.
"""

import errno
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Literal, get_args, get_origin

import pyarrow.parquet as pq
import pytest
import torch
from tests.fixtures.quick_training import task
from tests.training.fast.test_cuda_graph import Tape
from tests.training.test_heads import TARGETS
from tests.training.test_tensorboard import events
from torch.utils._python_dispatch import _get_current_dispatch_mode as is_taped

from sdss_photoz import device
from sdss_photoz.config import Training, check
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import names
from sdss_photoz.targets.head import head_of
from sdss_photoz.training import fit, jobs
from sdss_photoz.training.fast import ceiling, cuda_graph
from sdss_photoz.training.tensorboard import Scalars

RECIPES = {
    "documented": {},
    "the paper's": {
        "stretch": "none", "initialisation": "paper", "schedule": "step", "activation": "prelu", "augment": False,
        "precision": "float32",
    },
    "wide": {
        "pooling": "max", "activation": "relu", "batch_norm": True, "dropout": 0.2,
        "averaging": "exponential", "stretch": "sqrt", "precision": "bfloat16", "symmetry_averaging": True,
    },
    "spread labels": {
        "label_width": 0.03, "crps_weight": 1.0, "stretch": "gamma", "sampling": "balanced",
        "outside_bins": "clip",
    },
    "averaged": {"averaging": "last", "regressed_point": True},
    "grouped": {"weight_decay": 0.05, "groups": {"conv0": {"rate": 0.5, "weight_decay": 0.0}, "dense1": {"rate": 2.0}}},
}  # fmt: skip
EVERY = [pytest.param(name, recipe, id=f"{name}, {key}") for name in names() for key, recipe in RECIPES.items()]


def test_the_recipes_take_every_choice_of_the_configuration():
    recipes = [Training(**recipe) for recipe in RECIPES.values()]
    for key in set(Training.what_keys()) - {"network", "options"}:  # each recipe is of every network
        field = Training.model_fields[key]
        kinds = [field.annotation, *get_args(field.annotation)]
        choices = {choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)}
        choices |= {True, False} if field.annotation is bool else set()
        taken = [getattr(recipe, key) for recipe in recipes]
        assert all(choice in taken for choice in choices), key
        assert field.default != 0 or key == "seed" or any(taken), f"{key} is never on"


class _Stream:
    """A stream or an event that never waits."""

    def __init__(self, *_):
        pass

    wait_stream = wait_event = synchronize = record = lambda self, *_: None


@pytest.fixture
def card(monkeypatch):
    """Let a CPU be taken for a GPU; the tapes that stand in for CUDA graphs."""
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
    compiler = partial(torch.compile, backend="eager")

    def compiled(function, **options):
        fast = compiler(function, **options)
        return lambda *inputs: (function if is_taped() else fast)(*inputs)  # no tape can listen to what is compiled

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(cuda_graph, "CudaGraph", lambda _: tapes.append(Tape()) or tapes[-1])
    monkeypatch.setattr(ceiling, "GPU_SIZE", (64, 1))

    @contextmanager
    def claim(*_):
        yield torch.device("cpu")

    monkeypatch.setattr(jobs, "claim", claim)
    return tapes


def _train(run, folder, **choices) -> Training:
    """Train for six steps."""
    settings, (galaxies, folds, store) = Training(epochs=1, batch=2, **choices), run
    outputs = folder / "member-0.safetensors", folder / "history.csv"
    jobs.train(galaxies, folds, store, *task(settings), "images", 0, 0, *outputs, scalars=folder / "tensorboard")
    return settings


def _all_went_well(stderr: str, folder, tapes: list) -> bool:
    """Whether steps were compiled and captured, and the fraction of the ceiling measured."""
    failed = [
        failure for failure in ("cannot be compiled", "cannot be captured", "goes on without") if failure in stderr
    ]
    assert not failed, stderr
    _, epoch = (event for path in (folder / "tensorboard").iterdir() for event in events(path))
    measured = "training/share_of_ceiling" in [value.tag for value in epoch.summary.value]
    return measured and [tape.replays for tape in tapes] == [3]


@pytest.mark.parametrize(("network", "recipe"), EVERY)
def test_every_network_and_recipe_trains_and_predicts_the_way_of_a_gpu(
    smallest_run, card, tmp_path, capsys, network, recipe
):
    settings = _train(smallest_run, tmp_path, network=network, **recipe)
    assert _all_went_well(capsys.readouterr().err, tmp_path, card)
    jobs.predict(
        *smallest_run, *task(settings), "images", 0, [tmp_path / "member-0.safetensors"], tmp_path / "pdfs.parquet"
    )
    assert pq.read_metadata(tmp_path / "pdfs.parquet").num_rows == 1


@pytest.mark.parametrize("network", ["inception_small", "tests.fixtures.plain_network:Network"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_way_to_predict_trains_and_predicts_the_way_of_a_gpu(
    smallest_run, card, tmp_path, capsys, target, network
):
    choices = {"epochs": 1, "batch": 2, "network": network, "precision": "bfloat16"}
    choices |= {"dropout": 0.2} if TARGETS[target].get("distribution") == "dropout" and ":" not in network else {}
    found, model = check({"target": TARGETS[target], "training": choices}), tmp_path / "member-0.safetensors"
    settings = found.trial_training("images")
    this = settings, Inputs(), head_of(found.trial_target("images"), settings)
    jobs.train(*smallest_run, *this, "images", 0, 0, model, tmp_path / "history.csv", scalars=tmp_path / "tensorboard")
    assert _all_went_well(capsys.readouterr().err, tmp_path, card)
    jobs.predict(*smallest_run, *this, "images", 0, [model], tmp_path / "pdfs.parquet")
    assert ("point" in pq.read_schema(tmp_path / "pdfs.parquet").names) == (target != "classes")


@pytest.mark.parametrize("residence", ["device", "pinned", "streamed"])
def test_wherever_the_cubes_stay_a_deterministic_training_goes_the_way_of_a_gpu(
    smallest_run, card, tmp_path, capsys, residence
):
    _train(smallest_run, tmp_path, residence=residence, deterministic=True)
    assert _all_went_well(capsys.readouterr().err, tmp_path, card)


@pytest.mark.parametrize("scalars", ["__init__", "add"])
def test_a_training_of_which_nothing_can_be_measured_ends_with_the_same_bytes_and_says_so(
    smallest_run, card, tmp_path, capsys, monkeypatch, scalars
):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 256.00 MiB")

    def closed(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    bytes_left = []
    for place in (tmp_path / "sound", tmp_path / "failing"):
        place.mkdir()
        _train(smallest_run, place)
        bytes_left.append([(place / name).read_bytes() for name in ("member-0.safetensors", "history.csv")])
        stderr = capsys.readouterr().err
        monkeypatch.setattr(fit, "matmul_ceiling", full)
        monkeypatch.setattr(Scalars, scalars, closed)
    assert bytes_left[0] == bytes_left[1]
    for line in (
        "images, fold 0, member 0: goes on without the share of the GPU's ceiling (CUDA out of memory.)\n",
        "images, fold 0, member 0: goes on without TensorBoard's scalars ([Errno 28] No space left on device)\n",
    ):
        assert stderr.count(line) == 1
