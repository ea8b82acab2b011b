"""The value that networks learn to predict, from the catalogue."""

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sdss_photoz.errors import UserError
from sdss_photoz.refusal import refuse
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
        if np.isnan(values).any():
            remedy = "leave them out by trials.NAME.where, or correct the catalogue"
            refuse(galaxies, np.isnan(values), f"{self.column} is not a number", remedy)
        self.check(values)
        return values

    def read(self, galaxies: "pd.DataFrame") -> np.ndarray:
        """Values of galaxies, (n,) float64, NaN where they are missing.

        Raises
        ------
        UserError
            If the column is missing, or holds no numbers or truth values.
        """
        if self.column not in galaxies:
            raise UserError(
                f"target.column is {self.column}, but that is no column of the galaxies: correct it, or have the query "
                "return it."
            )
        try:
            return galaxies[self.column].to_numpy(np.float64, copy=True, na_value=np.nan)
        except (TypeError, ValueError):
            raise UserError(
                f"target.column is {self.column}, whose values are no numbers: give another column."
            ) from None

    def check(self, values: np.ndarray) -> None:
        """Refuse values (n,) outside of the grid if `outside` is "refuse", or that are no yes and no."""
        if self.kind == "yes_no" and not np.isin(values, (0, 1)).all():
            other = values[~np.isin(values, (0, 1))]
            raise UserError(
                f"target.kind is yes_no, but {len(other)} of {len(values)} values of {self.column} are neither 0 nor 1 "
                f"(the first is {other[0]:g}): have the query return 0 or 1 (no or yes), give another column, or set "
                "target.kind to value."
            )
        outliers, grid = ~self.grid.holds(values), self.grid
        if not outliers.any():
            return
        found = (
            f"{outliers.sum()} of {len(values)} {self.plural} are outside the bins' range {grid.low:g}..{grid.high:g}"
        )
        if self.outside == "refuse":
            own = self.column == "z_spec"
            remedy = (
                "lower sample.z_max" if own else "widen target.low and target.high, leave them out by trials.NAME.where"
            )
            remedy += ", correct the catalogue, or set training.outside_bins to clip"
            raise UserError(f"{found} (the first is {values[outliers][0]:g}): {remedy}.")
        _log.warning("%s: they count in the first or the last bin", found)

    def check_varied(self, values: np.ndarray) -> None:
        """Refuse values (n,) of training galaxies that are all the same, or none."""
        if not len(values) or values.min() == values.max():
            which = f"{values[0]:g}" if len(values) else "not a number"
            raise UserError(
                f"target.column is {self.column}, which is {which} for all training galaxies, so that "
                "nothing can be learned: give another column, or widen the sample or trials.NAME.where."
            )

    def record(self) -> dict:
        """What differs from the redshift between 0 and 0.4, as JSON values, but for the bins."""
        found, other = self._described(), Label()._described()
        return {key: value for key, value in found.items() if value != other[key]}

    def _described(self) -> dict:
        return {"column": self.column, "low": self.grid.low, "high": self.grid.high, "kind": self.kind}

    @classmethod
    def recorded(cls, bins: int, record: dict) -> "Label":
        """The label of a `record`."""
        found = {**Label()._described(), **{key: record[key] for key in Label()._described() if key in record}}
        return cls(found["column"], Grid(found["low"], found["high"], bins), found["kind"])

    def bin_of(self, values: np.ndarray) -> np.ndarray:
        """Bin (n,) int64 of each value: see `Grid.bin_of`."""
        return self.grid.bin_of(values)
