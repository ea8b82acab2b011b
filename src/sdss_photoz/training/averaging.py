"""Averages of the weights over the steps of a training."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sdss_photoz.config import Training


def newest_fraction(settings: "Training", steps: int) -> Tensor:
    """Weight of the newest parameters in their running average after each step.

    ``exponential``: an exponential moving average over the fraction `settings.averaging_share` of the steps, with bias
    correction, so that the initial parameters do not enter. ``last``: the mean over that fraction of the steps at the
    end of the training; before, the newest parameters alone.

    Parameters
    ----------
    settings : config.Training
        The configuration's block `training`.
    steps : int
        Number of steps of the training.

    Returns
    -------
    Tensor
        (steps,) float64, above 0 and at most 1.
    """
    window = settings.averaging_share * steps
    done = torch.arange(1, steps + 1, dtype=torch.float64)
    if settings.averaging == "exponential":
        decay = max(1 - 1 / window, 0.0)
        return (1 - decay) / (1 - decay**done)
    return 1 / (done - (steps - max(round(window), 1))).clamp(min=1)


class Average:
    """A running average of tensors that are updated in place.

    Parameters
    ----------
    tensors : dict of str to Tensor
        The tensors; the average starts as a copy of them.
    fractions : Tensor
        (steps,) weight of the newest values in the average after each step (`newest_fraction`).

    Attributes
    ----------
    mean : dict of str to Tensor
        The average.
    """

    def __init__(self, tensors: dict[str, Tensor], fractions: Tensor):
        self.newest, self.fractions = tensors, fractions
        self.mean = {name: value.detach().clone() for name, value in tensors.items()}

    @torch.no_grad()
    def add(self, step: Tensor) -> None:
        """Include the values of the tensors after a step (0-based, int64, on their device)."""
        fraction = self.fractions.index_select(0, step.view(1))[0]
        for mean, newest in zip(self.mean.values(), self.newest.values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(newest, fraction.to(mean.dtype))
            else:  # a count, such as the batches that a batch normalisation has seen
                mean.copy_(newest)
