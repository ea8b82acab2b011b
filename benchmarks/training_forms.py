"""A training step in each of its forms, by the package's own functions."""

import copy
import gc
import json
import statistics
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks.inception import Network
from sdss_photoz.networks.parts.layers import (
    Convolution,
    Dense,
    DenseWithNumbers,
    Inception,
    channels_first,
    initialise,
)
from sdss_photoz.surveys import SDSS
from sdss_photoz.training.data.examples import Examples
from sdss_photoz.training.data.order import Sequence
from sdss_photoz.training.fast.aligned import MULTIPLE, AlignedNetwork
from sdss_photoz.training.fast.cuda_graph import CapturedStep, Compiler, make_graph
from sdss_photoz.training.step import Trainer, train_step

SCHEMA = Path(__file__).parents[1] / "config.schema.json"


class Settings(SimpleNamespace):
    """The block `training` of the configuration, at its defaults but for the changes, read from the schema: the models
    of the configuration need pydantic."""

    def __init__(self, **changes):
        self.keys = json.loads(SCHEMA.read_text())["$defs"]["Training"]["properties"]
        unknown = changes.keys() - self.keys.keys()
        if unknown:
            raise TypeError(f"the block training has no {', '.join(sorted(unknown))}")
        super().__init__(**{key: words["default"] for key, words in self.keys.items()} | changes)

    def what_keys(self) -> list[str]:
        """Names of the keys that enter results."""
        return [key for key, words in self.keys.items() if words["kind"] == "what"]


class Form(NamedTuple):
    """How a step is computed.

    Attributes
    ----------
    name : str
        Name in the tables.
    dtype : torch.dtype
        Dtype of convolutions and dense layers.
    channels_last : bool
        Whether images are channels-last in memory.
    multiple : int
        Numbers of channels are padded to multiples of it; 1: convolutions are merged only; 0: the plain layers.
    fourier : bool
        Whether the aligned form's 5x5 convolutions use the Fourier transform.
    kept : bool
        Whether malloc reuses the memory that a step frees (`device.keep_freed_memory`); not on a GPU.
    compiled, captured : bool
        Whether kernels are compiled, and the step is captured as a CUDA graph; not on a CPU.
    """

    name: str
    dtype: torch.dtype = torch.float32
    channels_last: bool = True
    multiple: int = 0
    fourier: bool = False
    kept: bool = False
    compiled: bool = False
    captured: bool = False


PLAIN = Form("plain float32", channels_last=False)


def forms(device: torch.device, bfloat16: bool) -> list[Form]:
    """The forms of a wide network, from the plain one to the one that is trained, one optimization more each."""
    exact = [
        PLAIN,
        Form("channels-last"),
        Form("merged 1x1 convolutions", multiple=1),
    ]
    if device.type == "cuda":
        exact.append(Form("padded to multiples of 8", multiple=MULTIPLE))
    else:
        exact.append(exact[-1]._replace(name="memory kept between steps", kept=True))
        exact.append(exact[-1]._replace(name="5x5 convolutions by Fourier transform", fourier=True))
    half = [
        Form("bfloat16 by autocast", torch.bfloat16),
        Form("bfloat16 copies of the weights", torch.bfloat16, multiple=MULTIPLE, kept=True),
    ]
    ladder = exact + half if bfloat16 else exact
    if device.type == "cuda":
        ladder.append(ladder[-1]._replace(name="compiled", compiled=True))
        ladder.append(ladder[-1]._replace(name="captured as a CUDA graph", captured=True))
    return ladder


class Steps:
    """A training, step by step, in one form.

    Parameters
    ----------
    network : nn.Module
        The plain network; it is not modified.
    examples : Examples
        Galaxies, on the device of the training.
    settings : Settings
        The block `training` of the configuration.
    count : int
        Number of steps of the training.
    form : Form
        How to compute the steps.

    Attributes
    ----------
    compiler : Compiler
        Compiles the functions.
    trainer : Trainer
        The network with its optimizer.
    loss : Tensor
        Mean loss before the last step.
    """

    def __init__(self, network: nn.Module, examples: Examples, settings, count: int, form: Form):
        gc.collect()  # the CUDA graph of an earlier training may still hold the memory of its activations
        self.device, self.form = examples.device, form
        network = copy.deepcopy(network).to(self.device)
        if form.channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.compiler = compiler = Compiler(form.compiled)
        computed = AlignedNetwork(network, form.multiple, form.fourier) if form.multiple else network
        self.trainer = Trainer(network, settings, examples.head, count, form.dtype, computed, compiler)
        self.read = compiler(
            partial(
                examples.read, augment=settings.augment, channels=self.trainer.channels, dtype=self.trainer.image_dtype
            )
        )
        self.step = CapturedStep(
            self._train_step, make_graph(self.device) if form.captured else None, compiler, form.name
        )
        self.loss = torch.zeros((), device=self.device)

    def _train_step(self, *inputs) -> None:
        cubes, *others = self.read(*inputs)
        if not self.form.channels_last:
            cubes = channels_first(cubes).contiguous().permute(0, 2, 3, 1)
        self.loss.copy_(train_step(self.trainer, (cubes, *others)))

    def __call__(self, *inputs) -> None:
        """Take a step with `Examples.batches`."""
        self.step(self.device, *inputs)


def sequence(examples: Examples, settings) -> Sequence:
    """The order of the galaxies, of the first fold and member."""
    return Sequence(len(examples), settings.batch, settings.seed, 0, 0, settings.augment, examples.cubes.chunks)


def wait(device: torch.device) -> None:
    """Synchronise with the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(action, device: torch.device, times: int = 1) -> float:
    """Mean time of an action over `times` repetitions: CPU time on a CPU, elapsed time on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait(device)
    start = clock()
    for _ in range(times):
        action()
    wait(device)
    return (clock() - start) / times


def median_seconds(action, device: torch.device, quick: bool) -> float:
    """Median of three measurements after a warm-up, each long enough for the clock on a GPU; of one if `quick`."""
    if not quick:
        action()
    times = 10 if device.type == "cuda" and not quick else 1
    return statistics.median(seconds(action, device, times) for _ in range(1 if quick else 3))


def wide_network(narrow: bool, seed: int = 0) -> nn.Module:
    """The paper's network with fresh weights, or `NarrowNetwork`."""
    return initialise(NarrowNetwork() if narrow else Network(Inputs(), Settings().bins), "he", seed)


class NarrowNetwork(nn.Module):
    """A convolution, two inception blocks and three dense layers, each of the kinds that the paper's network has.

    For a CPU: it reads the inner 32 x 32 pixels, averaged over 2 x 2. No number of its channels is a multiple of 8, so
    that its aligned form pads and merges as that of the paper's network does.
    """

    wide = True

    def __init__(self, bins: int = 180):
        super().__init__()
        self.conv0 = Convolution(len(SDSS.band_names), 12, 5)
        self.inception0 = Inception(12, 6, 10)
        self.inception1 = Inception(self.inception0.channels, 9, 14, with_5x5=False)
        self.dense0 = DenseWithNumbers(4 * 4 * self.inception1.channels, 1, 90)
        self.dense1 = Dense(90, 90)
        self.dense2 = Dense(90, bins)

    @property
    def head(self) -> Dense:
        """The last layer."""
        return self.dense2

    def forward(self, cubes: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Logits (n, bins) for cubes (n, 64, 64, bands) and E(B-V) (n, 1)."""
        x = F.avg_pool2d(channels_first(cubes[:, 16:48, 16:48]), 2)
        x = F.avg_pool2d(self.conv0(x), 2)
        x = F.avg_pool2d(self.inception0(x), 2)
        x = F.relu(self.dense0(self.inception1(x), numbers))
        return self.dense2(F.relu(self.dense1(x)))
