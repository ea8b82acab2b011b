"""From a label to a loss, and from a network's outputs back to a distribution: a head for each way to predict."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from sdss_photoz.scores.grid import Grid
from sdss_photoz.targets.classes import Classes
from sdss_photoz.targets.label import Label

if TYPE_CHECKING:
    from sdss_photoz import config


class Head(Protocol):
    """What the outputs of a network mean.

    Attributes
    ----------
    label : Label
        What is predicted.
    outputs : int
        Numbers that the network returns for a galaxy.
    """

    label: Label
    outputs: int

    def to(self, device: torch.device) -> "Head":
        """The same head, with its tables on a device."""

    def encode(self, values: np.ndarray) -> Tensor:
        """Labels (n,) for `loss` and `score` of values (n,) float64."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss, which a training lowers, of outputs (n, outputs)."""

    def score(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Sum over galaxies of the score that chooses the best epoch."""

    def prior(self, labels: np.ndarray) -> float:
        """Mean score of the distribution of labels alone: that of a network that knows nothing of single galaxies."""

    def distribution(self, outputs: Tensor) -> Tensor:
        """Probabilities (n, bins) of the bins of the label's grid."""

    def record(self) -> dict:
        """What a model file tells of it, as JSON values, but for its bins."""


def head_of(target: "config.Target", training: "config.Training") -> Head:
    """The head of a trial, from its blocks of the configuration (`Config.trial_target`, `Config.trial_training`)."""
    grid = Grid(target.low, target.high, target.bins)
    label = Label(target.column, grid, target.kind, training.outside_bins)
    return Classes(label, training.label_width, training.crps_weight)


def recorded(bins: int, record: dict) -> Head:
    """The head of a model file, by its entries `bins` and ``target`` (`Head.record`)."""
    grid = Grid(record.get("low", Grid().low), record.get("high", Grid().high), bins)
    default = Label()
    return Classes(Label(record.get("column", default.column), grid, record.get("kind", default.kind)))
