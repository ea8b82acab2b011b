"""The loss of a training: cross-entropy with hard or soft labels, and CRPS."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from sdss_photoz.scores.grid import Grid

if TYPE_CHECKING:
    from sdss_photoz.config import Training


def soft_labels(bins: int, width: float) -> Tensor:
    """Target probabilities (bins, bins) float32 of each bin as label: a Gaussian in redshift around its centre.

    Rows sum to 1, also at the ends of the range.

    Parameters
    ----------
    bins : int
        Redshift bins, those of `Grid`.
    width : float
        Standard deviation of the Gaussian in redshift.
    """
    return (-0.5 * (_distances(bins) / width) ** 2).softmax(dim=1).float()


class Crps:
    """Continuous ranked probability score, in redshift, of galaxies at the centres of their bins.

    For a density that is constant within each bin, E|X - z| - E|X - X'| / 2 (Gneiting & Raftery 2007, eq. 21) is a sum
    of a linear and a quadratic form of the probabilities: the mean distance between two bins is that of their centres;
    between two points of one bin of width h it is h / 3, and from its centre h / 4.

    Parameters
    ----------
    bins : int
        Redshift bins, those of `Grid`.
    device : torch.device
        Device of the probabilities.
    """

    def __init__(self, bins: int, device: torch.device):
        within = torch.eye(bins, dtype=torch.float64) * Grid(bins=bins).step
        self.to_centre, self.between = ((_distances(bins) + within / part).to(device) for part in (4, 3))

    def __call__(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Scores (n,) of probabilities (n, bins) for labels (n,)."""
        to_centre, between = (table.to(probabilities.dtype) for table in (self.to_centre, self.between))
        return (probabilities * (to_centre.index_select(0, labels) - 0.5 * probabilities @ between)).sum(1)


def _distances(bins: int) -> Tensor:
    """Distances in redshift between the centres of bins, (bins, bins) float64."""
    index = torch.arange(bins, dtype=torch.float64)
    return (index[:, None] - index).abs() * Grid(bins=bins).step


class Loss:
    """The loss of a batch.

    Parameters
    ----------
    settings : config.Training
        The configuration's block `training`: bins, label_width, crps_weight.
    device : torch.device
        Device of the logits.
    """

    def __init__(self, settings: "Training", device: torch.device):
        self.crps_weight, self.crps = settings.crps_weight, Crps(settings.bins, device)
        self.soft_labels = soft_labels(settings.bins, settings.label_width).to(device) if settings.label_width else None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of logits (n, bins) for labels (n,): nat, plus the weighted CRPS."""
        target = labels if self.soft_labels is None else self.soft_labels.index_select(0, labels).to(logits.dtype)
        loss = F.cross_entropy(logits, target)
        return loss + self.crps_weight * self.crps(logits.softmax(1), labels).mean() if self.crps_weight else loss
