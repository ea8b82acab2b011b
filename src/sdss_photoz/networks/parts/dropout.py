"""Dropout by a hash of seed, step, galaxy and feature instead of a random generator.

So a resumed training drops the same features as an uninterrupted one, a step can be captured in a CUDA graph, and the
plain and the aligned form of a network drop the same features.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sdss_photoz.inputs.hashing import APART, WORD, hash_words

OF_TORCH = {nn.Dropout: False, nn.Dropout1d: True, nn.Dropout2d: True, nn.Dropout3d: True}  # whether of whole channels


class Dropout(nn.Module):
    """In training, set a fraction of the features (n, ...) to 0 and scale up the others (Srivastava et al. 2014).

    Parameters
    ----------
    rate : float
        Probability that a feature is dropped, below 1.
    channels : bool
        Whether to drop whole channels of maps (n, channels, ...) (Tompson et al. 2015) instead of single features.

    Attributes
    ----------
    key : int
        Seed of this layer.
    step : Tensor
        Step number, int64, on the device; see `set_step`.
    counted, calls : bool, int
        Whether this layer counts its calls within a step, of which each drops other features; and the calls so far.
    """

    def __init__(self, rate: float, channels: bool = False):
        super().__init__()
        self.rate, self.channels, self.key = rate, channels, 0
        self.counted, self.calls = False, 0
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of x (n, ...), of any rank; in evaluation return x."""
        if not self.training:
            return x
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:])) if self.channels else x.shape
        row, column = (torch.arange(size, device=x.device) for size in (shape[0], math.prod(shape[1:])))
        words = hash_words(hash_words(hash_words(self.step + (self.key + self.calls * APART)) + row)[:, None] + column)
        if self.counted:
            self.calls += 1
        return torch.where(words.view(shape) >= int(self.rate * (WORD + 1)), x / (1 - self.rate), 0)


def count_dropout(network: nn.Module) -> nn.Module:
    """Replace torch's dropout layers, which draw from a generator, by `Dropout`; a layer that is called twice in a step
    drops other features each time, as torch's does."""
    replaced = {}
    for parent in list(network.modules()):
        for name, layer in list(parent._modules.items()):  # also a second name of the same layer
            if type(layer) in OF_TORCH:
                if layer not in replaced:
                    replaced[layer] = Dropout(layer.p, OF_TORCH[type(layer)])
                    replaced[layer].counted = True
                setattr(parent, name, replaced[layer])
    if replaced:
        network.register_forward_pre_hook(_count_from_zero)
    return network


def _count_from_zero(network: nn.Module, _) -> None:
    for module in network.modules():
        if isinstance(module, Dropout):
            module.calls = 0


def seed_layers(network: nn.Module, seed: int) -> None:
    """Give each dropout layer of a network its own key, derived from a seed."""
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    for number, layer in enumerate(layers):
        layer.key = int(hash_words(torch.tensor(seed + number * APART)))


def set_step(network: nn.Module, step: Tensor) -> None:
    """Set the tensor from which the dropout layers of a network read the step number; it is updated in place."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.step = step


def has_dropout(network: nn.Module) -> bool:
    """Whether a layer of a network drops features in training."""
    return any(isinstance(module, Dropout) and module.rate > 0 for module in network.modules())


@contextmanager
def active(network: nn.Module, step: int) -> Iterator[None]:
    """Drop features as in a step of a training, within the block, in a network that is otherwise in evaluation."""
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    before = [(layer.training, layer.step) for layer in layers]
    for layer in layers:
        layer.training, layer.step = True, torch.full_like(layer.step, step)
    try:
        yield
    finally:
        for layer, (mode, old) in zip(layers, before, strict=True):
            layer.training, layer.step = mode, old
