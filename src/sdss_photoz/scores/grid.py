"""The redshift bins of a distribution."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Grid(NamedTuple):
    """Equal bins of a redshift, or of another quantity; by default those of Pasquet et al. 2018."""

    low: float = 0.0
    high: float = 0.4
    bins: int = 180

    @property
    def step(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / self.bins

    def edges(self) -> np.ndarray:
        """Edges of the bins, float64 (bins + 1,)."""
        return self.low + np.arange(self.bins + 1) * self.step

    def centres(self) -> np.ndarray:
        """Centres of the bins, float64 (bins,)."""
        return self.low + (np.arange(self.bins) + 0.5) * self.step

    def holds(self, values: ArrayLike) -> np.ndarray:
        """Whether each value lies between the first and the last edge, these included; NaN does not."""
        values = np.asarray(values, dtype=np.float64)
        return (values >= self.low) & (values <= self.high)

    def bin_of(self, values: ArrayLike) -> np.ndarray:
        """Bin, int64, of each value: bin k holds low + k step <= value < low + (k + 1) step.

        The last bin includes `high`; values outside the grid are in the first or the last bin.
        """
        inside = np.asarray(values, dtype=np.float64).clip(self.low, self.high) - self.low
        return np.minimum((inside / self.step).astype(np.int64), self.bins - 1)

    def place(self, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Bin, int64, of each value, and the fraction of the bin that lies below it, float64 from 0 to 1."""
        position = (np.asarray(values, dtype=np.float64) - self.low) * (self.bins / (self.high - self.low))
        position = np.clip(position, 0, self.bins)
        index = np.minimum(position.astype(np.int64), self.bins - 1)
        return index, position - index
