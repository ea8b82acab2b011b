"""Dropout without a random generator: what is dropped follows from the seed and the number of the step.

So a training that goes on drops what it would have dropped, a recorded step can be replayed, and the plain and the
aligned form of a network drop the same features.
"""

import torch
from torch import Tensor, nn

WORD = 0xFFFFFFFF  # 32 bits, kept in int64


def mixed(x: Tensor) -> Tensor:
    """Words (int64, 0 to 2^32 - 1) whose bits depend on all bits of x: the end of MurmurHash3 (Appleby 2011)."""
    x = x & WORD
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & WORD
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & WORD
    return x ^ (x >> 16)


class Dropout(nn.Module):
    """In training, set a share of the features (n, features) to 0 and scale the others up (Srivastava et al. 2014).

    Parameters
    ----------
    share : float
        Probability of a feature to be dropped, below 1.

    Attributes
    ----------
    key : int
        Seed of this layer.
    step : Tensor
        Number of the step, int64, on the device; see `follow`.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share, self.key = share, 0
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of x; in evaluation return it as it is."""
        if not self.training:
            return x
        row, column = (torch.arange(size, device=x.device) for size in x.shape)
        words = mixed(mixed(mixed(self.step + self.key) + row)[:, None] + column)
        return torch.where(words >= int(self.share * (WORD + 1)), x / (1 - self.share), 0)


def seed_layers(network: nn.Module, seed: int) -> None:
    """Give each dropout layer of a network a key of its own that follows from a seed."""
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    for number, layer in enumerate(layers):
        layer.key = int(mixed(torch.tensor(seed + number * 0x9E3779B9)))


def follow(network: nn.Module, step: Tensor) -> None:
    """Let the dropout layers of a network read the number of the step from a tensor that is changed in place."""
    for module in network.modules():
        if isinstance(module, Dropout):
            module.step = step
