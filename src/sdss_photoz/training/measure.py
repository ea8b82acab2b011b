"""Measure what a new network costs, after it was tried, for the memory and time that its trainings ask for."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from sdss_photoz import files
from sdss_photoz.config import Training
from sdss_photoz.device import cpu_threads
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build, variant
from sdss_photoz.targets.head import Head
from sdss_photoz.training.fast.ceiling import flop_per_galaxy
from sdss_photoz.training.rehearsal import rehearse
from sdss_photoz.training.resources import Cost
from sdss_photoz.training.step import Trainer, outputs_of, train_step

GALAXIES = 16  # of a batch that is timed
REPEATS, ENOUGH = 5, 5.0  # calls that are timed, and seconds after which no further one is


def measure_network(tasks: list[tuple[Training, Inputs, Head]], path: str | Path) -> None:
    """Try a network in each of the trainings that it is for, measure it in the first one, and write its cost.

    Parameters
    ----------
    tasks : list of tuple
        Settings of the training, what the network reads, and what it predicts; alike in what the cost depends on.
    path : str or Path
        Output: JSON, with the fields of `resources.Cost` in its entry ``cost``.

    Raises
    ------
    UserError
        If the network is not what a training needs (`rehearsal.rehearse`).
    """
    for task in tasks:
        rehearse(*task)
    settings, inputs, head = tasks[0]
    about = {
        "network": settings.network,
        "options": settings.options,
        "images": inputs.shape,
        "numbers": inputs.numbers,
        "outputs": head.outputs,
    }
    cost = measure(settings, inputs, head)
    files.write_json(path, {**about, "cost": cost._asdict()})


def measure(settings: Training, inputs: Inputs, head: Head) -> Cost:
    """Measure a network on a CPU, in float32 on one thread, with random galaxies.

    Seconds differ from call to call; they are processor time, so that a busy machine changes them little.
    """
    network = _built(settings, inputs, head)
    with cpu_threads(1), torch.random.fork_rng(devices=[]):
        both, forward = _flop(network, inputs)
        training, prediction = _seconds_per_galaxy(network, settings, inputs, head)
        few, more = (_saved_bytes(_built(settings, inputs, head), *_random(inputs, count)) for count in (2, 4))
    weights = sum(value.nbytes for value in network.state_dict().values())
    return Cost(float(both), float(forward), training, prediction, (more - few) / 2, weights)


def _built(settings: Training, inputs: Inputs, head: Head) -> nn.Module:
    choices = variant(settings), inputs, settings.options, head.ordered
    return build(settings.network, head.outputs, settings.initialisation, 0, *choices)


def _random(inputs: Inputs, count: int) -> tuple[Tensor, Tensor]:
    """Images and numbers of random galaxies."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, *inputs.shape, generator=generator)
    return images, torch.rand(count, len(inputs.numbers), generator=generator)


def _flop(network: nn.Module, inputs: Inputs) -> tuple[int, int]:
    """Floating-point operations per galaxy: forward and backward, and forward alone."""
    network.eval()  # a batch normalisation needs more than one galaxy
    galaxy = _random(inputs, 1)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(*galaxy)
    try:
        both = flop_per_galaxy(network, inputs.shape, len(inputs.numbers))
    except Exception:  # whatever the network of the user does with values, which fake tensors have none of
        with FlopCounterMode(display=False) as counter:
            network(*galaxy).sum().backward()
        both = counter.get_total_flops()
    network.zero_grad(set_to_none=True)
    return both, forward.get_total_flops()


def _seconds_per_galaxy(network: nn.Module, settings: Training, inputs: Inputs, head: Head) -> tuple[float, float]:
    """Processor time of a training step and of a prediction, per galaxy."""
    images, numbers = _random(inputs, GALAXIES)
    values = np.resize(head.label.grid.centres(), GALAXIES)
    head = head.fitted(values)
    labels = head.encode(values)
    trainer = Trainer(network.train(), settings, head, steps=2 * REPEATS, compute_dtype=torch.float32)
    training = _seconds(lambda: train_step(trainer, (images, numbers, labels)))
    network = trainer.trained_network().eval()
    with torch.inference_mode():
        prediction = _seconds(lambda: outputs_of(network, images, numbers, torch.float32))
    return training / GALAXIES, prediction / GALAXIES


def _seconds(call: Callable[[], object]) -> float:
    """The least processor time of some calls, after a first one."""
    call()
    found, begun = [], time.monotonic()
    while not found or (len(found) < REPEATS and time.monotonic() - begun < ENOUGH):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def _saved_bytes(network: nn.Module, images: Tensor, numbers: Tensor) -> int:
    """Bytes of what a network keeps for the gradients of some galaxies, and of the largest of it once more.

    That one stands for the gradients that are in memory beside it.
    """
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes(), tensor  # which must live, or its address is used again
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs_of(network.train(), images, numbers, torch.float32)
    sizes = [size for size, _ in kept.values()]
    return sum(sizes) + max(sizes, default=0)
