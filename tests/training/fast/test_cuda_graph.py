"""A step that is captured as a CUDA graph, or compiled, gives the result of the eager step."""

import copy
import inspect
import os
import types
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from tests.fixtures.quick_training import task
from tests.fixtures.synthetic_galaxies import NarrowNetwork, draw_population, render
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_galaxies import classes  # of benchmarks/, on pytest's path

from sdss_photoz.config import Group, Training
from sdss_photoz.device import cpu_threads
from sdss_photoz.networks import variant
from sdss_photoz.training import fit
from sdss_photoz.training.data.examples import gather
from sdss_photoz.training.data.residence import Pinned
from sdss_photoz.training.fast import aligned, cuda_graph
from sdss_photoz.training.fast.cuda_graph import CapturedStep, Compiler, CudaGraph, cache_kernels
from sdss_photoz.training.step import Trainer, train_step

CPU = torch.device("cpu")
GRAPH = torch.cuda.graph
SETTINGS = Training(epochs=5, batch=10, schedule="step", learning_rate=2e-3, device="cpu", checkpoint_minutes=60.0)


class Tape(TorchDispatchMode):
    """Stands in for a CUDA graph: records the operations of a function and repeats them on the same tensors.

    So it repeats, as a GPU does, every number that Python put into an operation. Unlike a GPU it does the step while
    it captures; the first replay therefore does nothing.
    """

    def __init__(self):
        super().__init__()
        self.operations, self.replays = [], 0

    def run(self, function):
        function()

    def capture(self, function):
        with self:
            function()
        return self._replay

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        for tag in (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape):
            assert tag not in operation.tags, f"{operation} waits for the device"
        result = operation(*arguments, **(options or {}))
        self.operations.append((operation, arguments, options or {}, result))
        return result

    @torch.no_grad()
    def _replay(self):
        self.replays += 1
        if self.replays == 1:
            return
        for operation, arguments, options, result in self.operations:
            again = operation(*arguments, **options)
            for place, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(place, torch.Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


@pytest.fixture(scope="module")
def galaxies():
    """Examples to train on and to validate with."""
    parts = []
    for count, seed in ((48, 1), (12, 2)):
        population = draw_population(count, seed)
        table = pd.DataFrame({"object_id": np.arange(count), "z_spec": population["z"], "ebv": population["ebv"]})
        parts.append(gather(table, iter([render(population, seed).numpy()]), *task()[1:], CPU))
    return parts


def _run(galaxies, folder, stop_at=()):
    """Train, resuming after each stop; return the run, and its history and tensors."""
    for stop in (*stop_at, None):
        run = fit._Run(*galaxies, SETTINGS, 0, 0, folder, "test")
        try:
            run.go(lambda run=run, stop=stop: run.state.step == stop)
        except SystemExit:
            continue
    rows = [[row[name] for name in fit.HISTORY] for row in run.state.history]
    return run, [rows, run.trainer.tensors(), run.best]


def _same(ours, theirs):
    rows, *tensors = zip(ours, theirs, strict=True)
    assert rows[0] == rows[1]
    for one, other in tensors:
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def eager(galaxies, tmp_path_factory):
    """History and tensors of a training whose steps run eagerly."""
    return _run(galaxies, tmp_path_factory.mktemp("eager"))[1]


@pytest.mark.parametrize("residence", ["device", "pinned"])
def test_replayed_steps_give_the_bits_of_eager_steps_over_epochs_the_drop_of_the_rate_and_a_resume(
    galaxies, eager, tmp_path, monkeypatch, residence
):
    if residence == "pinned":
        train = copy.copy(galaxies[0])
        train.cubes = Pinned(train.cubes.cubes, np.arange(len(train)), CPU)
        galaxies = train, galaxies[1]
    monkeypatch.setattr(fit._Run, "_galaxies_per_second_at_the_ceiling", lambda run: 1e6)
    tapes = []
    monkeypatch.setattr(fit, "make_graph", lambda device: tapes.append(Tape()) or tapes[-1])
    run, left = _run(galaxies, tmp_path, stop_at=(7,))
    assert [tape.replays for tape in tapes] == [7 - 3, 24 - 7 - 3]
    assert [row[3] for row in left[0]] == [2e-3, 2e-3, 4e-4, 4e-4, 4e-4]
    assert run.trainer.step == 24
    assert run.first == 7 + 4  # the speed is measured from the capture of the second run on
    for row in run.state.history:
        assert row["share_of_ceiling"] == pytest.approx(row["galaxies_per_second"] / 1e6)
    _same(left, eager)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"label_width": 0.03, "crps_weight": 1.0},
        {"averaging": "exponential", "batch_norm": True, "dropout": 0.2},
        {"weight_decay": 0.1, "groups": {"conv0": Group(rate=0.5), "dense1": Group(weight_decay=0.0)}},
    ],
    ids=["paper", "soft labels and CRPS", "averaged", "grouped"],
)
def test_the_aligned_forms_step_is_replayed_bit_for_bit(dtype, recipe):
    settings = SETTINGS.model_copy(update={"bins": 7, **recipe})
    narrow_network = NarrowNetwork(variant(settings))
    for parameter in narrow_network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))

    def steps(graph):
        trainer = Trainer(copy.deepcopy(narrow_network), settings, classes(settings), 8, dtype)
        step = CapturedStep(lambda *batch: train_step(trainer, batch), graph, Compiler(False), "test")
        generator = torch.Generator().manual_seed(1)
        for _ in range(8):
            cubes = torch.randn(6, 16, 16, 5, generator=generator)
            step(CPU, cubes, torch.rand(6, 1, generator=generator), torch.randint(0, 7, (6,), generator=generator))
        return trainer.tensors()

    tape = Tape()
    with cpu_threads(1):  # the work is too small to be shared
        replayed, expected = steps(tape), steps(None)
    assert tape.replays == 5
    assert all(torch.equal(value, expected[name]) for name, value in replayed.items())


def test_a_step_that_cannot_be_captured_runs_eagerly_with_one_message(capsys):
    class Broken(Tape):
        def capture(self, function):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    taken = []
    step = CapturedStep(lambda value: taken.append(value.item()), Broken(), Compiler(False), "fold 0")
    for number in range(6):
        step(CPU, torch.tensor(number))
    assert taken == list(range(6))
    stderr = capsys.readouterr().err
    assert stderr == (
        "fold 0: a step cannot be captured on this GPU (operation not permitted when stream is capturing): it runs "
        "slower without\n"
    )


@pytest.mark.parametrize("graph", [Tape, lambda: None], ids=["captured", "not captured"])
def test_if_the_compiler_fails_steps_run_uncompiled_with_one_message(monkeypatch, capsys, graph):
    def broken(function, **_):
        def call(*_):
            raise ImportError("no compiler here")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    compiler, total = Compiler(True), torch.zeros(())
    double = compiler(lambda value: 2 * value)
    step = CapturedStep(lambda value: total.add_(double(value)), graph(), compiler, "fold 0")
    for number in range(6):
        step(CPU, torch.tensor(float(number)))
    assert total == 30
    assert capsys.readouterr().err.count("a step cannot be compiled on this GPU (no compiler here)") == 1


def test_more_recipes_compile_in_one_process_than_pytorch_allows_of_one_function(monkeypatch):
    class Recipe:
        def __init__(self, power):
            self.power = power

        def loss(self, x):
            return x**self.power

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    powers, x = range(1, 2 * torch._dynamo.config.recompile_limit), torch.full((), 2.0)
    assert [Compiler(True)(Recipe(power).loss)(x) for power in powers] == [2.0**power for power in powers]


def test_a_full_memory_is_no_reason_to_go_on_without_the_compiler():
    def full(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        CapturedStep(full, Tape(), Compiler(True), "fold 0")(CPU, torch.zeros(()))


def test_reading_a_batch_and_its_loss_compile_whole_and_give_the_same_losses(galaxies, narrow_network, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(aligned, "prelu", F.prelu)  # as on a GPU: nothing compiles the CPU's
    train, _ = galaxies
    losses = []
    for compiler in (Compiler(False), Compiler(True)):
        settings = SETTINGS.model_copy(update={"bins": 7, "label_width": 0.03, "crps_weight": 1.0})
        trainer = Trainer(
            copy.deepcopy(narrow_network), settings, classes(settings), 4, torch.bfloat16, compiler=compiler
        )
        read = compiler(partial(train.read, channels=trainer.channels, dtype=trainer.image_dtype))
        index = torch.stack([torch.arange(6), torch.arange(6)])
        found = []
        for _ in range(4):
            cubes, ebv, labels = read(index)
            found.append(train_step(trainer, (cubes[:, 24:40, 24:40], ebv, labels % 7)).item())
        losses.append(found)
        assert cubes.shape[-1] == 8
        assert cubes.dtype == torch.bfloat16
        assert compiler.on == (len(losses) == 2)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_kernels_are_kept_where_all_jobs_of_a_run_find_them_unless_the_user_has_chosen_a_place(tmp_path, monkeypatch):
    places = ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS")
    for name in places:
        monkeypatch.setenv(name, "the user's")
    cache_kernels(tmp_path)
    assert [os.environ[name] for name in places] == ["the user's"] * 2
    for name in places:
        monkeypatch.delenv(name)
    cache_kernels(tmp_path)
    assert [os.environ[name] for name in places] == [str(tmp_path / "kernels"), "4"]


class _FakeStream:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")


class _FakeCuda:
    """Streams and graphs that write down what is asked of them, in order."""

    def __init__(self, fails):
        self.log, self.fails = [], fails
        self.now = _FakeStream("compute", self.log)

    def Stream(self, device):
        return _FakeStream("side", self.log)

    def current_stream(self, device):
        return self.now

    @contextmanager
    def stream(self, stream):
        before, self.now = self.now, stream
        try:
            yield
        finally:
            self.now = before

    def CUDAGraph(self):
        return types.SimpleNamespace(replay=lambda: self.log.append(f"replay on {self.now.name}"))

    @contextmanager
    def graph(self, *arguments, **options):
        inspect.signature(GRAPH).bind(*arguments, **options)
        self.log.append(f"capture on {options['stream'].name}")
        yield
        if self.fails:
            raise RuntimeError("capture failed")


@pytest.mark.parametrize("fails", [False, True])
def test_a_gpus_steps_run_on_the_stream_of_the_capture_and_are_replayed_after_what_was_asked_before(monkeypatch, fails):
    cuda = _FakeCuda(fails)
    monkeypatch.setattr(cuda_graph.torch, "cuda", cuda)
    steps = CapturedStep(
        lambda value: cuda.log.append(f"step on {cuda.now.name}"), CudaGraph(CPU), Compiler(False), "fold 0"
    )
    for _ in range(5):
        steps(CPU, torch.zeros(()))
    eager = ["side waits for compute", "step on side", "compute waits for side"]
    recording = ["capture on side", "step on side"]
    then = 2 * eager if fails else 2 * ["replay on compute"]
    assert cuda.log == [*3 * eager, *recording, *then]
    assert cuda.now.name == "compute"
