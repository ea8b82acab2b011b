"""What trainings and predictions ask of a scheduler: memory and time, from galaxies, network and residence.

Where it was too little, the next attempt asks for more, and a training goes on where it was stopped.
"""

import math
from pathlib import Path
from typing import NamedTuple

from sdss_photoz.config import Training

CUBE = 64 * 64 * 5 * 2  # bytes as float16


class Cost(NamedTuple):
    """What a network takes for each galaxy: FLOP, processor seconds and bytes of its maps (float32); bytes of its file.

    Seconds are those on one core of an AMD EPYC, by benchmarks/training.py; maps are the peak memory of training
    against the batch.
    """

    training_flop: float  # forward and backward
    prediction_flop: float
    training_seconds: float
    prediction_seconds: float
    maps: float
    weights: int


COSTS = {
    "inception": Cost(4.56e9, 1.52e9, 0.055, 0.022, 16e6, 27_596_372 * 4),
    "inception_small": Cost(19.2e6, 8.0e6, 0.00085, 0.00048, 0.6e6, 203_204 * 4),
}

LIBRARIES = {"cpu": 0.6e9, "cuda": 2.5e9}  # bytes; with CUDA they are assumed
COPIES = 8  # of the weights: gradients, moments, the best, those that an optimizer or average adds
CHUNK, TOGETHER = 128, 64  # galaxies in a chunk of the store, and chunks in a group, at least (`order`)
BATCH = 128  # galaxies that are predicted together
PIECE = 1024 * 4 * CUBE  # bytes: cubes on their way
SHARE = 0.75  # of the free memory that cubes may take (`room`)
WORTH_ASKING = 16e9  # bytes: for more cubes than fit into these, residence auto asks for no memory but streams

START = 10  # minutes: libraries, cubes, compilation
SLACK = 3  # times the processor seconds of a quiet machine
FLOP_A_SECOND = 20e12  # of a modest GPU, assumed
LONG = 720  # minutes: where a GPU is hoped for, no more is asked for a processor; nor while galaxies are unknown
UNKNOWN_MEMORY = 4000  # MB, while there is no table of galaxies


def galaxies_of(table) -> int | None:
    """Rows of a run's table of galaxies; None where it is not there yet."""
    from pyarrow import ArrowException, parquet

    try:
        return parquet.read_metadata(Path(table)).num_rows
    except (OSError, ArrowException):  # not there, or just being removed
        return None


def memory_to_train(galaxies: int | None, settings: Training, attempt: int = 1) -> int:
    """Memory (MB) for the training of one network.

    Parameters
    ----------
    galaxies : int or None
        Galaxies of the run, which bound those of a fold; None: not known yet.
    settings : config.Training
        The block of the configuration as it holds for the trial.
    attempt : int
        1 for the first; each asks for more.
    """
    if galaxies is None:
        return attempt * UNKNOWN_MEMORY
    cost = COSTS[settings.network]
    memory = _network(cost, settings, COPIES, settings.batch * cost.maps) + PIECE + _cubes(galaxies, settings)
    return attempt * math.ceil(memory / 1e6)


def minutes_to_train(galaxies: int | None, settings: Training, attempt: int = 1) -> int:
    """Minutes for the training of one network; parameters as of `memory_to_train`."""
    cost, seen = COSTS[settings.network], (galaxies or 0) * settings.epochs
    minutes = _minutes(seen * cost.training_flop, seen * cost.training_seconds, settings)
    return attempt * (LONG if galaxies is None else minutes)


def memory_to_predict(
    galaxies: int | None, settings: Training, members: int, folds: int, attempt: int = 1
) -> int:  # fmt: skip
    """Memory (MB) for the distributions of the test galaxies of one of `folds` folds by each of `members` networks."""
    if galaxies is None:
        return attempt * UNKNOWN_MEMORY
    cost = COSTS[settings.network]
    distributions = 3 * math.ceil(galaxies / folds) * members * settings.bins * 4  # and their table
    memory = _network(cost, settings, 2 * members, BATCH * cost.maps) + PIECE + distributions
    return attempt * math.ceil(memory / 1e6)


def minutes_to_predict(
    galaxies: int | None, settings: Training, members: int, folds: int, attempt: int = 1
) -> int:  # fmt: skip
    """Minutes for the same as `memory_to_predict`."""
    cost = COSTS[settings.network]
    seen = math.ceil((galaxies or 0) / folds) * members * (8 if settings.symmetry_averaging else 1)
    minutes = _minutes(seen * cost.prediction_flop, seen * cost.prediction_seconds, settings)
    return attempt * (LONG if galaxies is None else minutes)


def _network(cost: Cost, settings: Training, copies: int, maps: float) -> float:
    """Bytes of libraries, weights and maps in the machine's memory; `auto` may end on either device."""
    on_cpu, on_gpu = LIBRARIES["cpu"] + maps, LIBRARIES["cuda"]
    return copies * cost.weights + {"cpu": on_cpu, "cuda": on_gpu, "auto": max(on_cpu, on_gpu)}[settings.device]


def _cubes(galaxies: int, settings: Training) -> float:
    """Bytes of the machine's memory for cubes."""
    resident = 0 if settings.device == "cuda" else 2 * CUBE * galaxies  # float32 on a CPU
    groups = max(galaxies // (CHUNK * TOGETHER), 1)
    streamed = 2 * CHUNK * TOGETHER * (1 + 1 / groups) * CUBE  # two groups
    if settings.residence == "auto":
        return resident / SHARE if 0 < resident / SHARE <= WORTH_ASKING else streamed
    return {"device": resident, "pinned": CUBE * galaxies, "streamed": streamed}[settings.residence]


def _minutes(flop: float, seconds: float, settings: Training) -> int:
    on_gpu, on_cpu = (START + SLACK * s / 60 for s in (flop / FLOP_A_SECOND, seconds / settings.cpu_threads))
    hoped = max(on_gpu, min(on_cpu, LONG))
    return math.ceil({"cpu": on_cpu, "cuda": on_gpu, "auto": hoped}[settings.device])
