"""Regression: the network's only output is the value, and its distribution comes from elsewhere."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sdss_photoz.targets.base import Head, binned
from sdss_photoz.targets.label import Label

if TYPE_CHECKING:
    from sdss_photoz import config

LOSS, DISTRIBUTION, DRAWS = "rmse", "residuals", 100  # by default
QUANTILES = 201  # of the residuals that are kept: at 0, 0.005, …, 1
TINY = 1e-12  # added to a mean square (of standard deviations), so that the gradient of its root is finite at 0


class Regression(Head):
    """One output: the value, standardised by mean and standard deviation of the training labels.

    Parameters
    ----------
    label : Label
        What is predicted.
    chosen : {"rmse", "mae"}
        The loss, in the label's unit: root of the mean square, or mean of the absolute errors.
    source : {"residuals", "dropout", "members"}
        Where distributions come from. ``residuals``: the point estimate plus the distribution of the validation
        galaxies' residuals; ``dropout``: the histogram of several passes with dropout active (Gal & Ghahramani 2016);
        ``members``: the point estimate of each member of the ensemble.
    draws : int
        Passes with dropout active.
    state : dict
        As `fitted` and `learned` find it: ``mean`` and ``deviation`` of the training labels, and the ``residuals``, of
        which this is `QUANTILES`, in the label's unit.
    device : torch.device
        Device of the outputs.
    """

    ordered, exact, has_point = False, True, True

    def __init__(
        self,
        label: Label = Label(),  # noqa: B008 (immutable)
        chosen: str = LOSS,
        source: str = DISTRIBUTION,
        draws: int = DRAWS,
        state: dict | None = None,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ):
        self.label, self.outputs, self.chosen, self.source, self.draws = label, 1, chosen, source, draws
        self.passes = draws if source == "dropout" else 1
        self.learns = source == "residuals"
        centre = "standard deviation" if chosen == "rmse" else "mean distance from the median"
        self.prior_name = f"{centre} of the {label.plural}"
        self._state, self.device = state or {}, device
        self.edges, self.residuals = torch.from_numpy(label.grid.edges()).to(device), None
        if state:
            self.mean, self.deviation = state["mean"], state["deviation"]
            self.unit, self.margin = self.deviation, 0.05 * self.deviation
            if "residuals" in state:
                self.residuals = torch.tensor(state["residuals"], dtype=torch.float64, device=device)

    @classmethod
    def of(cls, label: Label, target: "config.Target", training: "config.Training") -> "Regression":
        """The head of a trial, from its blocks of the configuration."""
        return cls(label, target.loss or LOSS, target.distribution or DISTRIBUTION, target.draws)

    @classmethod
    def recorded(cls, label: Label, record: dict, state: dict) -> "Regression":
        """The head of a model file."""
        found = record.get("loss", LOSS), record.get("distribution", DISTRIBUTION), record.get("draws", DRAWS)
        return cls(label, *found, state)

    def record(self) -> dict:
        """Label, method, and what differs from the method's defaults, as JSON values."""
        found = {**self.label.record(), "method": "regression"}
        found |= {"loss": self.chosen} if self.chosen != LOSS else {}
        found |= {"distribution": self.source} if self.source != DISTRIBUTION else {}
        return found | ({"draws": self.draws} if self.passes not in (1, DRAWS) else {})

    def state(self) -> dict:
        """Mean and standard deviation of the training labels, and quantiles of the residuals."""
        return self._state

    def _with(self, **found) -> "Regression":
        return Regression(
            self.label, self.chosen, self.source, self.draws, {**self._state, **found}, device=self.device
        )

    def fitted(self, values: np.ndarray) -> "Regression":
        """The same head, scaled to the values (n,) of the training galaxies."""
        self.label.check_varied(values)
        return self._with(mean=float(values.mean()), deviation=float(values.std()))

    def learned(self, points: np.ndarray, values: np.ndarray) -> "Regression":
        """The same head, with the quantiles of the residuals of validation galaxies."""
        return self._with(residuals=np.quantile(values - points, np.linspace(0, 1, QUANTILES)).tolist())

    def to(self, device: torch.device) -> "Regression":
        """The same head, with its tables on a device."""
        return Regression(self.label, self.chosen, self.source, self.draws, self._state, device)

    def encode(self, values: np.ndarray) -> Tensor:
        """Standardised values (n,) float32 of values (n,)."""
        return torch.from_numpy(((values - self.mean) / self.deviation).astype(np.float32))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of outputs (n, 1) for standardised labels (n,), in standard deviations."""
        errors = outputs[:, 0].to(torch.promote_types(outputs.dtype, torch.float32)) - labels
        return errors.abs().mean() if self.chosen == "mae" else (errors.square().mean() + TINY).sqrt()

    def score(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Sum of the squared or absolute errors, in the label's unit."""
        errors = (outputs[:, 0].double() - labels) * self.deviation
        return errors.abs().sum() if self.chosen == "mae" else errors.square().sum()

    def mean_score(self, total: float, count: int) -> float:
        """The loss, in the label's unit, from the sum of the errors."""
        return total / count if self.chosen == "mae" else math.sqrt(total / count)

    def prior(self, labels: np.ndarray) -> float:
        """Standard deviation, or mean distance from the median, of labels (n,), in the label's unit."""
        labels = labels.astype(np.float64) * self.deviation
        return float(labels.std() if self.chosen == "rmse" else np.abs(labels - np.median(labels)).mean())

    def distribution(self, outputs: Tensor) -> Tensor:
        """Probabilities (n, bins) float64: of point + residual once these are learned, else 1 in the point's bin."""
        points = self.point(outputs)
        if self.residuals is None:
            grid = self.label.grid
            bins = ((points.clamp(grid.low, grid.high) - grid.low) / grid.step).long().clamp(max=grid.bins - 1)
            return F.one_hot(bins, grid.bins).double()
        return binned(_cumulative(self.residuals, self.edges - points[:, None]))

    def point(self, outputs: Tensor) -> Tensor:
        """Values (n,) float64, in the label's unit."""
        return outputs[:, 0].double() * self.deviation + self.mean


def _cumulative(quantiles: Tensor, values: Tensor) -> Tensor:
    """Cumulative distribution at values (n, k), linear between its quantiles (q,) at equal steps from 0 to 1."""
    last = len(quantiles) - 1
    below = torch.searchsorted(quantiles, values.contiguous(), right=True) - 1  # where quantiles are equal, the last
    index = below.clamp(0, last - 1)
    lower, upper = quantiles[index], quantiles[index + 1]
    inside = (index + (values - lower) / (upper - lower)) / last
    return torch.where(below < 0, 0.0, torch.where(below >= last, 1.0, inside))
