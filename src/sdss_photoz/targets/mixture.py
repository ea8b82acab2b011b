"""A mixture of normal distributions: its weights, means and widths are the network's outputs (Bishop 1994)."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sdss_photoz.targets.base import Head, binned
from sdss_photoz.targets.label import Label

if TYPE_CHECKING:
    from sdss_photoz import config

FLOOR = 1e-3  # least width of a component, in standard deviations of the training labels
APART = 0.01  # least distance between the means at the start, in the same unit
COMPONENTS, LOSS = 5, "nll"  # by default


class Normals(NamedTuple):
    """Mixtures of normal distributions: logarithms of weights, means and widths (n, component)."""

    log_weights: Tensor
    means: Tensor
    widths: Tensor

    @property
    def weights(self) -> Tensor:
        """Weights (n, component), which sum to 1."""
        return self.log_weights.exp()

    def negative_log_likelihood(self, values: Tensor) -> Tensor:
        """-ln p(value) (n,) of values (n,)."""
        distance = (values[:, None] - self.means) / self.widths
        log_density = -0.5 * distance.square() - self.widths.log() - 0.5 * math.log(2 * math.pi)
        return -(self.log_weights + log_density).logsumexp(1)

    def crps(self, values: Tensor) -> Tensor:
        """Continuous ranked probability score (n,) of values (n,), in their unit.

        E|X - y| - E|X - X'| / 2, whose distances are those of normal distributions (Grimit et al. 2006, Quarterly
        Journal of the Royal Meteorological Society 132, 2925, eqs. 4 and 5).
        """
        weights = self.weights
        to_value = (weights * _mean_distance(values[:, None] - self.means, self.widths)).sum(1)
        variance = self.widths.square()
        between = _mean_distance(
            self.means[:, :, None] - self.means[:, None], (variance[:, :, None] + variance[:, None]).sqrt()
        )
        return to_value - 0.5 * (weights[:, :, None] * weights[:, None] * between).sum((1, 2))

    def cumulative(self, edges: Tensor) -> Tensor:
        """Cumulative distributions (n, edge) at edges (edge,)."""
        cdf = torch.zeros(len(self.means), len(edges), dtype=self.means.dtype, device=self.means.device)
        for weight, mean, width in zip(self.weights.T, self.means.T, self.widths.T, strict=True):
            cdf += weight[:, None] * torch.special.ndtr((edges - mean[:, None]) / width[:, None])
        return cdf


def _mean_distance(mean: Tensor, width: Tensor) -> Tensor:
    """E|X| of normal distributions of X."""
    ratio = mean / width
    density = (-0.5 * ratio.square()).exp() / math.sqrt(2 * math.pi)
    return 2 * width * density + mean * torch.erf(ratio / math.sqrt(2))


class Mixture(Head):
    """A mixture of normal distributions for each galaxy.

    The labels are standardised by mean and standard deviation of the training labels. At outputs of 0 the components
    have equal weights, means at quantiles of the training labels, and one width; the outputs are logits of the weights,
    shifts of the means, and, by a softplus above `FLOOR`, the widths.

    Parameters
    ----------
    label : Label
        What is predicted.
    components : int
        Number of components.
    chosen : {"nll", "crps"}
        The loss: -ln p of the label, in nat, p in the label's unit; or the CRPS, in the label's unit.
    scaling : dict
        As `fitted` finds it: ``mean`` and ``deviation`` of the training labels, and of the standardised ones the
        ``means`` and the ``width`` at the start.
    device : torch.device
        Device of the outputs.
    """

    ordered, exact, has_point = False, True, True

    def __init__(
        self,
        label: Label = Label(),  # noqa: B008 (immutable)
        components: int = COMPONENTS,
        chosen: str = LOSS,
        scaling: dict | None = None,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ):
        self.label, self.components, self.outputs = label, components, 3 * components
        self.chosen, self.scaling = chosen, scaling
        self.prior_name = f"{'negative log-likelihood' if chosen == 'nll' else 'CRPS'} of the {label.plural} alone"
        if scaling:
            self.mean, self.deviation = scaling["mean"], scaling["deviation"]
            self.start = torch.tensor(scaling["means"], dtype=torch.float64, device=device)
            self.start_width = math.log(math.expm1(scaling["width"] - FLOOR))  # the inverse of softplus
            self.edges = torch.from_numpy((label.grid.edges() - self.mean) / self.deviation).to(device)
            self.unit = 1.0 if chosen == "nll" else self.deviation
            self.margin = 0.1 if chosen == "nll" else 0.05 * self.deviation

    @classmethod
    def of(cls, label: Label, target: "config.Target", training: "config.Training") -> "Mixture":
        """The head of a trial, from its blocks of the configuration."""
        return cls(label, target.components, target.loss or LOSS)

    @classmethod
    def recorded(cls, label: Label, record: dict, state: dict) -> "Mixture":
        """The head of a model file."""
        return cls(label, record.get("components", COMPONENTS), record.get("loss", LOSS), state)

    def record(self) -> dict:
        """Label, method, and what differs from the method's defaults, as JSON values."""
        found = {**self.label.record(), "method": "mixture"}
        found |= {"components": self.components} if self.components != COMPONENTS else {}
        return found | ({"loss": self.chosen} if self.chosen != LOSS else {})

    def state(self) -> dict:
        """The scaling, as JSON values."""
        return self.scaling or {}

    def fitted(self, values: np.ndarray) -> "Mixture":
        """The same head, scaled to the values (n,) of the training galaxies."""
        self.label.check_varied(values)
        mean, deviation = float(values.mean()), float(values.std())
        rank = np.arange(self.components)
        means = np.quantile((values - mean) / deviation, (rank + 0.5) / self.components)
        means = np.maximum.accumulate(means - APART * rank) + APART * rank  # labels of one value give equal quantiles
        width = 1.0 if self.components == 1 else max(float(means[-1] - means[0]) / (self.components - 1), 0.1)
        scaling = {"mean": mean, "deviation": deviation, "means": means.tolist(), "width": width}
        return Mixture(self.label, self.components, self.chosen, scaling)

    def to(self, device: torch.device) -> "Mixture":
        """The same head, with its tables on a device."""
        return Mixture(self.label, self.components, self.chosen, self.scaling, device)

    def encode(self, values: np.ndarray) -> Tensor:
        """Standardised values (n,) float32 of values (n,)."""
        return torch.from_numpy(((values - self.mean) / self.deviation).astype(np.float32))

    def normals(self, outputs: Tensor) -> Normals:
        """The mixtures of standardised labels, in float32 at least, of outputs (n, 3 components)."""
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        logits, shifts, widths = outputs.view(len(outputs), 3, self.components).unbind(1)
        widths = F.softplus(widths + self.start_width) + FLOOR
        return Normals(logits.log_softmax(1), self.start.to(outputs.dtype) + shifts, widths)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of outputs (n, 3 components) for standardised labels (n,)."""
        normals = self.normals(outputs)
        if self.chosen == "crps":
            return normals.crps(labels).mean()
        return normals.negative_log_likelihood(labels).mean() + math.log(self.deviation)

    def score(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Sum of the losses, in nat or in the label's unit."""
        return self.loss(outputs.double(), labels.double()) * (len(labels) * self.unit)

    def prior(self, labels: np.ndarray) -> float:
        """Mean loss of the mixture at the start, or the CRPS of the distribution of labels (n,)."""
        if self.chosen == "nll":
            return float(self.score(torch.zeros(len(labels), self.outputs), torch.from_numpy(labels))) / len(labels)
        ordered, rank = np.sort(labels.astype(np.float64)), np.arange(len(labels))
        return self.unit * float(((2 * rank + 1 - len(labels)) * ordered).sum()) / len(labels) ** 2  # E|X - X'| / 2

    def distribution(self, outputs: Tensor) -> Tensor:
        """Probabilities (n, bins) float64: differences of the mixture's cumulative distribution."""
        return binned(self.normals(outputs.double()).cumulative(self.edges))

    def point(self, outputs: Tensor) -> Tensor:
        """Means of the mixtures (n,) float64, in the label's unit."""
        normals = self.normals(outputs.double())
        return (normals.weights * normals.means).sum(1) * self.deviation + self.mean

    def at_floor(self, outputs: Tensor) -> Tensor:
        """Sum over galaxies of the weight of components narrower than 1.1 `FLOOR`."""
        normals = self.normals(outputs)
        return (normals.weights * (normals.widths < 1.1 * FLOOR)).sum()
