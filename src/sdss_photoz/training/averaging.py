"""Averages of the weights along a training: what is then validated and saved."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sdss_photoz.config import Training


def shares_of_newest(settings: "Training", rates: Tensor) -> Tensor:
    """Share of the newest weights in the average after each step, (steps,) float64.

    ``exponential``: the average forgets over the share `settings.averaging_share` of the steps; divided by the sum of
    its shares, so that it does not remember the initial weights. ``last``: the plain mean over that share of the steps
    at the end; before, the newest weights. With ``schedule: free``, weights count by the square of their learning rate
    (Defazio et al. 2024, section 2).

    Parameters
    ----------
    settings : config.Training
        The block of the configuration.
    rates : Tensor
        (steps,) learning rates.
    """
    if settings.schedule == "free":
        return rates**2 / (rates**2).cumsum(0)
    window = settings.averaging_share * len(rates)
    done = torch.arange(1, len(rates) + 1, dtype=torch.float64, device=rates.device)
    if settings.averaging == "exponential":
        kept = max(1 - 1 / window, 0.0)
        return (1 - kept) / (1 - kept**done)
    return 1 / (done - (len(rates) - max(round(window), 1))).clamp(min=1)


class Average:
    """A running mean of tensors.

    Parameters
    ----------
    tensors : dict
        Tensors that change in place; the mean starts as a copy of them.
    shares : Tensor
        Share of the newest in the mean after each step.
    """

    def __init__(self, tensors: dict[str, Tensor], shares: Tensor):
        self.newest, self.shares = tensors, shares
        self.mean = {name: value.detach().clone() for name, value in tensors.items()}

    @torch.no_grad()
    def add(self, step: Tensor) -> None:
        """Move the mean towards the newest tensors, which are those after a step (0-based, int64)."""
        share = self.shares.index_select(0, step.view(1))[0]
        for mean, newest in zip(self.mean.values(), self.newest.values(), strict=True):
            mean.lerp_(newest, share.to(mean.dtype))
