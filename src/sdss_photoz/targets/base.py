"""What a head is: the meaning of a network's outputs, as a loss, a distribution and a point estimate."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sdss_photoz.targets.label import Label

if TYPE_CHECKING:
    from sdss_photoz import config


class Head:
    """The meaning of a network's outputs; each way to predict derives a class from it.

    Attributes
    ----------
    label : Label
        What is predicted.
    outputs : int
        Numbers that the network returns for a galaxy.
    ordered : bool
        Whether outputs are logits of the bins, in their order.
    exact : bool
        Whether the network's last layer computes in float32 where the others compute in bfloat16.
    passes : int
        Calls of the network for each image in a prediction, with its dropout active; 1: without dropout.
    has_point : bool
        Whether `point` gives estimates of its own, beside the distribution.
    learns : bool
        Whether the training calls `learned` at its end.
    unit : float
        What `loss` counts in, in the unit of `mean_score`.
    margin : float
        Below `prior`, in its unit: with a higher validation loss a network knows little but the prior.
    prior_name : str
        What `prior` is, for messages.
    """

    label: Label
    outputs: int
    ordered = True
    exact = False
    passes = 1
    has_point = False
    learns = False
    unit = 1.0
    margin: float
    prior_name: str

    @classmethod
    def of(cls, label: Label, target: "config.Target", training: "config.Training") -> "Head":
        """The head of a trial, from its blocks of the configuration."""
        raise NotImplementedError

    @classmethod
    def recorded(cls, label: Label, record: dict, state: dict) -> "Head":
        """The head of a model file, from its entries ``target`` (`record`) and ``fitted`` (`state`)."""
        raise NotImplementedError

    def record(self) -> dict:
        """What a model file tells of it, as JSON values: what differs from classes of redshifts, but for the bins."""
        raise NotImplementedError

    def state(self) -> dict:
        """What `fitted` and `learned` found, as JSON values for the model file."""
        return {}

    def fitted(self, values: np.ndarray) -> "Head":
        """The same head, fitted to the values (n,) float64 of the training galaxies.

        Raises
        ------
        UserError
            If nothing can be learned from them.
        """
        self.label.check_varied(values)
        return self

    def learned(self, points: np.ndarray, values: np.ndarray) -> "Head":
        """The same head, with what it takes from point estimates and values (n,) of the validation galaxies."""
        return self

    def to(self, device: torch.device) -> "Head":
        """The same head, with its tables on a device."""
        return self

    def encode(self, values: np.ndarray) -> Tensor:
        """Labels (n,) for `loss` and `score` of values (n,) float64."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss, which a training lowers, of outputs (n, outputs)."""
        raise NotImplementedError

    def score(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Sum over galaxies of the score that chooses the best epoch."""
        raise NotImplementedError

    def mean_score(self, total: float, count: int) -> float:
        """The validation loss, from the sum of the scores of `count` galaxies."""
        return total / count

    def prior(self, labels: np.ndarray) -> float:
        """The `mean_score` of a network that knows the distribution of labels (n,) and nothing of single galaxies."""
        raise NotImplementedError

    def distribution(self, outputs: Tensor) -> Tensor:
        """Probabilities (n, bins) of the bins of the label's grid; values beyond count in the first or last bin."""
        raise NotImplementedError

    def point(self, outputs: Tensor) -> Tensor | None:
        """Point estimates (n,) float64 in the label's unit; None: the mean of the distribution is one."""
        return None

    def at_floor(self, outputs: Tensor) -> Tensor | None:
        """Sum over galaxies of the weight of components whose width is the least there is; None without components."""
        return None


def binned(cdf: Tensor) -> Tensor:
    """Probabilities (n, bins) of a cumulative distribution (n, bins + 1) at the edges of the bins.

    What lies beyond the first and the last edge counts in the first and the last bin.
    """
    cdf = cdf.clamp(0, 1).cummax(dim=1).values  # by rounding it could fall
    cdf[:, 0], cdf[:, -1] = 0, 1
    return cdf.diff(dim=1)
