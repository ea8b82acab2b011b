"""The value that networks learn to predict, from the catalogue."""

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sdss_photoz.errors import UserError
from sdss_photoz.scores.grid import Grid

if TYPE_CHECKING:  # the benchmark of training runs without pandas
    import pandas as pd

_log = logging.getLogger(__name__)


class Label(NamedTuple):
    """A column of the catalogue, and the grid of its distributions.

    Attributes
    ----------
    column : str
        Its name.
    grid : Grid
        Range, and bins of the distributions.
    kind : {"redshift", "value", "yes_no"}
        How predictions are scored.
    outside : {"refuse", "clip"}
        Values outside of the range raise an error, or count in the first or last bin.
    """

    column: str = "z_spec"
    grid: Grid = Grid()
    kind: str = "redshift"
    outside: str = "refuse"

    @property
    def plural(self) -> str:
        """The values, for messages."""
        return "redshifts" if self.column == "z_spec" else f"values of {self.column}"

    def of(self, galaxies: "pd.DataFrame") -> np.ndarray:
        """Values of galaxies to learn from, (n,) float64.

        Raises
        ------
        UserError
            As of `read`; also if a value is missing, or outside of the grid and `outside` is "refuse".
        """
        values = self.read(galaxies)
        self.check(values)
        return values

    def read(self, galaxies: "pd.DataFrame") -> np.ndarray:
        """Values of galaxies, (n,) float64, NaN where they are missing.

        Raises
        ------
        UserError
            If the column is missing or holds no numbers.
        """
        if self.column not in galaxies:
            raise UserError(
                f"target.column is {self.column}, but that is no column of the galaxies: correct it, or have the query "
                "return it."
            )
        try:
            return galaxies[self.column].to_numpy(np.float64, copy=True)
        except (TypeError, ValueError):
            raise UserError(
                f"target.column is {self.column}, whose values are no numbers: give another column."
            ) from None

    def check(self, values: np.ndarray) -> None:
        """Refuse values (n,) that are no numbers, or outside of the grid if `outside` is "refuse"."""
        outliers, grid = ~self.grid.holds(values), self.grid
        if not outliers.any():
            return
        found = (
            f"{outliers.sum()} of {len(values)} {self.plural} are outside the bins' range {grid.low:g}..{grid.high:g}"
        )
        if self.outside == "refuse" or np.isnan(values).any():
            own = self.column == "z_spec"
            remedy = (
                "lower sample.z_max" if own else "widen target.low and target.high, leave them out by trials.NAME.where"
            )
            remedy += ", correct the catalogue, or set training.outside_bins to clip"
            if self.outside == "clip":
                remedy = "correct the catalogue, for what is no number cannot be clipped"
            raise UserError(f"{found} (the first is {values[outliers][0]:g}): {remedy}.")
        _log.warning("%s: they count in the first or the last bin", found)

    def bin_of(self, values: np.ndarray) -> np.ndarray:
        """Bin (n,) int64 of each value: see `Grid.bin_of`."""
        return self.grid.bin_of(values)
