"""A step of a training in each of its forms, taken by the package's own functions."""

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

from sdss_photoz.survey import BANDS
from sdss_photoz.training.aligned import ROW, AlignedNetwork
from sdss_photoz.training.examples import Examples
from sdss_photoz.training.layers import Convolution, Dense, DenseWithEbv, Inception, images_first, initialise
from sdss_photoz.training.networks.inception import Network
from sdss_photoz.training.order import Sequence
from sdss_photoz.training.replay import Compiler, Replay, recorder
from sdss_photoz.training.step import Descent, train_step

SCHEMA = Path(__file__).parents[1] / "config.schema.json"


class Settings(SimpleNamespace):
    """The block `training` of the configuration at its defaults, except as given; read from the configuration's schema,
    for the models need pydantic."""

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
        What the tables call it.
    arithmetic : torch.dtype
        Of convolutions and dense layers.
    channels_last : bool
        Whether images lie in memory as (y, x, band); otherwise as (band, y, x), as most programs keep them.
    row : int
        What the aligned form pads maps to multiples of; 1: parallel convolutions merged alone; 0: the plain layers.
    fourier : bool
        Whether the aligned form's 5x5 convolutions go through the Fourier transform.
    kept : bool
        Whether the process keeps the memory that a step frees; on a GPU torch always does.
    compiled, recorded : bool
        Whether kernels are compiled, and the step recorded and replayed; on a CPU neither happens.
    """

    name: str
    arithmetic: torch.dtype = torch.float32
    channels_last: bool = True
    row: int = 0
    fourier: bool = False
    kept: bool = False
    compiled: bool = False
    recorded: bool = False


PLAIN = Form("plain float32", channels_last=False)


def forms(device: torch.device, bfloat16: bool) -> list[Form]:
    """The ladder of forms of a wide network, from the plain one to the one that is trained."""
    exact = [
        PLAIN,
        Form("channels-last"),
        Form("merged 1x1 convolutions", row=1),
    ]
    if device.type == "cuda":
        exact.append(Form("padded to multiples of 8", row=ROW))
    else:
        exact.append(exact[-1]._replace(name="memory kept between steps", kept=True))
        exact.append(exact[-1]._replace(name="5x5 convolutions by Fourier transform", fourier=True))
    half = [
        Form("bfloat16 by autocast", torch.bfloat16),
        Form("bfloat16 copies of the weights", torch.bfloat16, row=ROW, kept=True),
    ]
    ladder = exact + half if bfloat16 else exact
    if device.type == "cuda":
        ladder.append(ladder[-1]._replace(name="compiled", compiled=True))
        ladder.append(ladder[-1]._replace(name="recorded and replayed", recorded=True))
    return ladder


class Steps:
    """A training step by step, in a form.

    Parameters
    ----------
    network : nn.Module
        The plain network; it stays as it is.
    examples : Examples
        Galaxies, on the device of the training.
    settings : Settings
        The block `training` of the configuration.
    count : int
        Steps of the whole training.
    form : Form
        How to compute them.

    Attributes
    ----------
    compiler : Compiler
        What compiles its functions.
    descent : Descent
        The network on its way.
    loss : Tensor
        Mean loss before the last step.
    """

    def __init__(self, network: nn.Module, examples: Examples, settings, count: int, form: Form):
        gc.collect()  # the recorded step of a training before this one may still hold the memory of its maps
        self.device, self.form = examples.device, form
        network = copy.deepcopy(network).to(self.device)
        if form.channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.compiler = compiler = Compiler(form.compiled)
        computed = AlignedNetwork(network, form.row, form.fourier) if form.row else network
        self.descent = Descent(network, settings, count, form.arithmetic, computed, compiler)
        self.read = compiler(
            partial(examples.read, augment=settings.augment, bands=self.descent.bands, dtype=self.descent.dtype)
        )
        self.replay = Replay(self._take, recorder(self.device) if form.recorded else None, compiler, form.name)
        self.loss = torch.zeros((), device=self.device)

    def _take(self, *inputs) -> None:
        cubes, *others = self.read(*inputs)
        if not self.form.channels_last:
            cubes = images_first(cubes).contiguous().permute(0, 2, 3, 1)
        self.loss.copy_(train_step(self.descent, (cubes, *others)))

    def __call__(self, *inputs) -> None:
        """Take a step with `Examples.inputs`."""
        self.replay(self.device, *inputs)


def sequence(examples: Examples, settings) -> Sequence:
    """The order of the galaxies, of the first fold and member."""
    return Sequence(len(examples), settings.batch, settings.seed, 0, 0, settings.augment, examples.cubes.chunks)


def wait(device: torch.device) -> None:
    """Let a GPU finish what it has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(action, device: torch.device, times: int = 1) -> float:
    """Time of an action done so many times, for each: processor seconds on a CPU, elapsed seconds on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait(device)
    start = clock()
    for _ in range(times):
        action()
    wait(device)
    return (clock() - start) / times


def median_seconds(action, device: torch.device, quick: bool) -> float:
    """Median of three, each long enough to be timed on a GPU, after one that is not counted; of one where quick."""
    if not quick:
        action()
    times = 10 if device.type == "cuda" and not quick else 1
    return statistics.median(seconds(action, device, times) for _ in range(1 if quick else 3))


def wide_network(narrow: bool, seed: int = 0) -> nn.Module:
    """The paper's network with fresh weights, or `NarrowNetwork`."""
    return initialise((NarrowNetwork if narrow else Network)(Settings().bins), "he", seed)


class NarrowNetwork(nn.Module):
    """A convolution, two inception blocks and three dense layers, each of the kinds that the paper's network has.

    For a CPU: it reads the inner 32 x 32 pixels, two by two. No count of its maps is a multiple of 8, so that its
    aligned form pads and merges as that of the paper's network.
    """

    wide = True

    def __init__(self, bins: int):
        super().__init__()
        self.conv0 = Convolution(len(BANDS), 12, 5)
        self.inception0 = Inception(12, 6, 10)
        self.inception1 = Inception(self.inception0.maps, 9, 14, with_5x5=False)
        self.dense0 = DenseWithEbv(4 * 4 * self.inception1.maps + 1, 90)
        self.dense1 = Dense(90, 90)
        self.dense2 = Dense(90, bins)

    def forward(self, cubes: torch.Tensor, ebv: torch.Tensor) -> torch.Tensor:
        """Logits (n, bins) for cubes (n, 64, 64, bands) and E(B-V) (n,)."""
        x = F.avg_pool2d(images_first(cubes[:, 16:48, 16:48]), 2)
        x = F.avg_pool2d(self.conv0(x), 2)
        x = F.avg_pool2d(self.inception0(x), 2)
        x = F.relu(self.dense0(self.inception1(x), ebv))
        return self.dense2(F.relu(self.dense1(x)))
