"""Classification into bins: cross-entropy with hard or soft labels, and CRPS."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sdss_photoz.scores.grid import Grid
from sdss_photoz.targets.base import Head
from sdss_photoz.targets.label import Label

if TYPE_CHECKING:
    from sdss_photoz import config


def soft_labels(grid: Grid, width: float) -> Tensor:
    """Target probabilities (bins, bins) float32 of each bin as label: a Gaussian around its centre.

    Rows sum to 1, also at the ends of the range.

    Parameters
    ----------
    grid : Grid
        The bins.
    width : float
        Standard deviation of the Gaussian, in the grid's unit.
    """
    return (-0.5 * (_distances(grid) / width) ** 2).softmax(dim=1).float()


class Crps:
    """Continuous ranked probability score, in the grid's unit, of galaxies at the centres of their bins.

    For a density that is constant within each bin, E|X - z| - E|X - X'| / 2 (Gneiting & Raftery 2007, eq. 21) is a sum
    of a linear and a quadratic form of the probabilities: the mean distance between two bins is that of their centres;
    between two points of one bin of width h it is h / 3, and from its centre h / 4.

    Parameters
    ----------
    grid : Grid
        The bins.
    device : torch.device
        Device of the probabilities.
    """

    def __init__(self, grid: Grid, device: torch.device):
        within = torch.eye(grid.bins, dtype=torch.float64) * grid.step
        self.to_centre, self.between = ((_distances(grid) + within / part).to(device) for part in (4, 3))

    def __call__(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Scores (n,) of probabilities (n, bins) for labels (n,)."""
        to_centre, between = (table.to(probabilities.dtype) for table in (self.to_centre, self.between))
        return (probabilities * (to_centre.index_select(0, labels) - 0.5 * probabilities @ between)).sum(1)


def _distances(grid: Grid) -> Tensor:
    """Distances between the centres of bins, (bins, bins) float64."""
    index = torch.arange(grid.bins, dtype=torch.float64)
    return (index[:, None] - index).abs() * grid.step


class Classes(Head):
    """Classification into the bins of the label's grid.

    Parameters
    ----------
    label : Label
        What is predicted.
    label_width : float
        Spread labels over neighbouring bins by a Gaussian of this width, in the label's unit; 0: hard bins.
    crps_weight : float
        Weight of the CRPS (in the label's unit) that is added to the cross-entropy (nat).
    device : torch.device
        Device of the logits.
    """

    margin = 0.5  # nat below the prior's entropy: with a higher loss a network knows little but the prior

    def __init__(
        self,
        label: Label = Label(),  # noqa: B008 (immutable)
        label_width: float = 0.0,
        crps_weight: float = 0.0,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ):
        self.label, self.outputs = label, label.grid.bins
        self.label_width, self.crps_weight, self.crps = label_width, crps_weight, Crps(label.grid, device)
        self.soft_labels = soft_labels(label.grid, label_width).to(device) if label_width else None
        self.prior_name = f"entropy of the {label.plural}"

    @classmethod
    def of(cls, label: Label, target: "config.Target", training: "config.Training") -> "Classes":
        """The head of a trial, from its blocks of the configuration."""
        return cls(label, training.label_width, training.crps_weight)

    @classmethod
    def recorded(cls, label: Label, record: dict, state: dict) -> "Classes":
        """The head of a model file."""
        return cls(label)

    def to(self, device: torch.device) -> "Classes":
        """The same head, with its tables on a device."""
        return Classes(self.label, self.label_width, self.crps_weight, device)

    def encode(self, values: np.ndarray) -> Tensor:
        """Bins (n,) int64 of values (n,)."""
        return torch.from_numpy(self.label.bin_of(values))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of logits (n, bins) for bins (n,): nat, plus the weighted CRPS."""
        target = labels if self.soft_labels is None else self.soft_labels.index_select(0, labels).to(outputs.dtype)
        loss = F.cross_entropy(outputs, target)
        return loss + self.crps_weight * self.crps(outputs.softmax(1), labels).mean() if self.crps_weight else loss

    def score(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Sum of the cross-entropies (nat) of logits (n, bins) for bins (n,)."""
        return F.cross_entropy(outputs, labels, reduction="sum")

    def prior(self, labels: np.ndarray) -> float:
        """Entropy (nat) of the histogram of bins (n,)."""
        return entropy(labels)

    def distribution(self, outputs: Tensor) -> Tensor:
        """Probabilities (n, bins), the softmax, of the dtype of the logits."""
        return outputs.softmax(dim=1)

    def record(self) -> dict:
        """What differs from the redshift between 0 and 0.4, as JSON values."""
        return self.label.record()


def entropy(labels: np.ndarray) -> float:
    """Entropy (nat) of the histogram of labels: the cross-entropy of the prior."""
    fraction = np.bincount(labels) / len(labels)
    fraction = fraction[fraction > 0]
    return float(-(fraction * np.log(fraction)).sum())
