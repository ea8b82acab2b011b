"""Memory and time that trainings and predictions request of a scheduler, without importing torch.

They follow from the number of galaxies, the network and the residence of the cubes. Each further attempt of a job
requests more; a training resumes from its checkpoint.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sdss_photoz.inputs.inputs import DEFAULT, Inputs
from sdss_photoz.sample.chunks import INNER_CHUNK
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.training.data.order import GROUP_CHUNKS

if TYPE_CHECKING:  # the benchmark of training runs without pydantic
    from sdss_photoz.config import Training


def float16_cube_bytes(grid: PixelGrid = CUBE) -> int:
    """Bytes of a cube in float16."""
    return 2 * math.prod(grid.shape)


class Cost(NamedTuple):
    """Cost of a network, per galaxy but for its weights.

    Attributes
    ----------
    training_flop : float
        Floating-point operations of a training step, forward and backward.
    prediction_flop : float
        Floating-point operations of a prediction.
    training_seconds, prediction_seconds : float
        Time on one core of an AMD EPYC, measured by ``benchmarks/training.py``.
    activations : float
        Bytes of the activations in float32: the increase of a training's peak memory with the batch.
    weights : int
        Bytes of all weights.
    """

    training_flop: float
    prediction_flop: float
    training_seconds: float
    prediction_seconds: float
    activations: float
    weights: int


COSTS = {
    "inception": Cost(4.56e9, 1.52e9, 0.055, 0.022, 16e6, 27_596_372 * 4),
    "inception_small": Cost(19.2e6, 8.0e6, 0.00085, 0.00048, 0.6e6, 203_204 * 4),
}

LIBRARIES = {"cpu": 0.6e9, "cuda": 2.5e9}  # bytes of the libraries; an estimate for CUDA
WEIGHT_COPIES = 8  # weights, gradients, moments, best weights, average, and some reserve
PREDICTION_BATCH = 128  # galaxies
PIECE = 1024  # galaxies whose cubes are read at once: 84 MB in float32 at 64 x 64 pixels of 5 bands
MEMORY_FRACTION = 0.75  # of the free memory that cubes may use: the rest is for the network and its activations
MAX_REQUEST = 16e9  # bytes: with residence auto, memory for the cubes is requested up to this; above, they are streamed

START_MINUTES = 10  # of imports, reading cubes and compilation
SAFETY_FACTOR = 3  # over the time on an idle machine
GPU_FLOPS = 20e12  # FLOP/s of a modest GPU, an estimate
MAX_MINUTES = 720  # requested for a CPU with device auto, and while the number of galaxies is unknown
DEFAULT_MEMORY = 4000  # MB, while the number of galaxies is unknown


def count_galaxies(table: str | Path) -> int | None:
    """Number of rows of a run's table of galaxies; None if it cannot be read, for example before it is made."""
    from pyarrow import ArrowException, parquet

    try:
        return parquet.read_metadata(Path(table)).num_rows
    except (OSError, ArrowException):  # missing, or being removed
        return None


def cost_of(network: str, grid: PixelGrid = CUBE) -> Cost:
    """Cost of a network for images of a grid: in proportion to the pixels that it reads, a larger one's weights too.

    A network that an import path names is counted as the largest of the library's, until it is measured
    (`measured.read_cost`).
    """
    cost, fraction = COSTS.get(network, COSTS["inception"]), grid.size**2 / CUBE.size**2
    return Cost(*(value * fraction for value in cost[:-1]), math.ceil(cost.weights * max(fraction, 1)))


def memory_to_train(
    galaxies: int | None,
    settings: "Training",
    attempt: int = 1,
    inputs: Inputs = DEFAULT,
    cost: Cost | None = None,
) -> int:
    """Memory (MB) for the training of one network.

    Parameters
    ----------
    galaxies : int or None
        Galaxies of the run, at least those of a fold; None: not known yet.
    settings : config.Training
        The configuration's block `training` of the trial.
    attempt : int
        Number of the job's attempt, from 1; each requests more.
    inputs : Inputs
        What the network reads of a galaxy.
    cost : Cost, optional
        Of the network, where it was measured (`measured.read_cost`); default: `cost_of`.
    """
    if galaxies is None:
        return attempt * DEFAULT_MEMORY
    cost = cost or cost_of(settings.network, inputs.grid)
    memory = (
        _network(cost, settings, WEIGHT_COPIES, settings.batch * cost.activations)
        + _reading(inputs)
        + _cubes(galaxies, settings, inputs)
    )
    return attempt * math.ceil(memory / 1e6)


def minutes_to_train(
    galaxies: int | None,
    settings: "Training",
    attempt: int = 1,
    inputs: Inputs = DEFAULT,
    cost: Cost | None = None,
) -> int:
    """Minutes for the training of one network; parameters as for `memory_to_train`."""
    cost, seen = cost or cost_of(settings.network, inputs.grid), (galaxies or 0) * settings.epochs
    minutes = _minutes(seen * cost.training_flop, seen * cost.training_seconds, settings)
    return attempt * (MAX_MINUTES if galaxies is None else minutes)


def memory_to_predict(
    galaxies: int | None,
    settings: "Training",
    members: int,
    folds: int,
    attempt: int = 1,
    inputs: Inputs = DEFAULT,
    bins: int = 180,
    cost: Cost | None = None,
) -> int:
    """Memory (MB) for the distributions of the test galaxies of one of `folds` folds by each of `members` networks."""
    if galaxies is None:
        return attempt * DEFAULT_MEMORY
    cost = cost or cost_of(settings.network, inputs.grid)
    distributions = 3 * math.ceil(galaxies / folds) * members * bins * 4  # bytes, with their table
    memory = _network(cost, settings, 2 * members, PREDICTION_BATCH * cost.activations) + _reading(inputs)
    memory += distributions
    return attempt * math.ceil(memory / 1e6)


def minutes_to_predict(
    galaxies: int | None,
    settings: "Training",
    members: int,
    folds: int,
    attempt: int = 1,
    inputs: Inputs = DEFAULT,
    passes: int = 1,
    cost: Cost | None = None,
) -> int:
    """Minutes for the predictions of `memory_to_predict`, of which each takes so many `passes` (`Head.passes`)."""
    cost = cost or cost_of(settings.network, inputs.grid)
    seen = math.ceil((galaxies or 0) / folds) * members * (8 if settings.symmetry_averaging else 1) * passes
    minutes = _minutes(seen * cost.prediction_flop, seen * cost.prediction_seconds, settings)
    return attempt * (MAX_MINUTES if galaxies is None else minutes)


def _network(cost: Cost, settings: "Training", copies: int, activations: float) -> float:
    """Bytes of libraries, weights and activations in host memory; with device `auto`, the larger of both devices."""
    on_cpu, on_gpu = LIBRARIES["cpu"] + activations, LIBRARIES["cuda"]
    return copies * cost.weights + {"cpu": on_cpu, "cuda": on_gpu, "auto": max(on_cpu, on_gpu)}[settings.device]


def _reading(inputs: Inputs) -> int:
    """Bytes of cubes being read, twice float32."""
    return 4 * PIECE * float16_cube_bytes(inputs.cubes)


def _cubes(galaxies: int, settings: "Training", inputs: Inputs) -> float:
    """Bytes of cubes, or on a CPU of images, in host memory."""
    each, on_cpu = float16_cube_bytes(inputs.cubes), 2 * float16_cube_bytes(inputs.kept(images=True))  # float32
    resident = 0 if settings.device == "cuda" else on_cpu * galaxies
    groups = max(galaxies // (INNER_CHUNK * GROUP_CHUNKS), 1)
    streamed = 2 * INNER_CHUNK * GROUP_CHUNKS * (1 + 1 / groups) * each  # two groups
    if settings.residence == "auto":
        return resident / MEMORY_FRACTION if 0 < resident / MEMORY_FRACTION <= MAX_REQUEST else streamed
    return {"device": resident, "pinned": each * galaxies, "streamed": streamed}[settings.residence]


def _minutes(flop: float, seconds: float, settings: "Training") -> int:
    on_gpu, on_cpu = (
        START_MINUTES + SAFETY_FACTOR * s / 60 for s in (flop / GPU_FLOPS, seconds / settings.cpu_threads)
    )
    on_either = max(on_gpu, min(on_cpu, MAX_MINUTES))
    return math.ceil({"cpu": on_cpu, "cuda": on_gpu, "auto": on_either}[settings.device])
