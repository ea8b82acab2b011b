"""What a network predicts."""

from typing import Literal

from pydantic import model_validator

from sdss_photoz.config.block import Block, what
from sdss_photoz.config.training import Training
from sdss_photoz.errors import UserError


class Target(Block):
    """What a network predicts: a column of the catalogue, and the grid of its distributions."""

    column: str = what("z_spec", "Column of the catalogue that networks learn to predict.")
    low: float = what(0.0, "Lower end of the grid.", allow_inf_nan=False)
    high: float = what(0.4, "Upper end of the grid.", allow_inf_nan=False)
    bins: int | None = what(None, "Bins of the grid; none: `training.bins`.", ge=2, le=1000)
    kind: Literal["redshift", "value", "yes_no"] | None = what(
        None,
        "How predictions are scored: as redshifts, by residuals over 1 + z; as values; or as the probability of yes "
        "(1, true) in a column of 0 and 1. None: redshift for z_spec, value for another column.",
    )

    @model_validator(mode="after")
    def _range_is_one(self):
        if self.low >= self.high:
            raise UserError(f"target.low is {self.low:g}, but must be below target.high, which is {self.high:g}.")
        return self

    def resolved(self, training: Training, place: str) -> "Target":
        """This target, with its kind, and the bins of a training where it gives none.

        Raises
        ------
        UserError
            If both blocks give bins, and not as many; `place` names the trial in the message.
        """
        default = Training.model_fields["bins"].default
        if self.bins is not None and training.bins not in (default, self.bins):
            raise UserError(
                f"target.bins is {self.bins} and training.bins {training.bins} in {place}: give one of them alone."
            )
        kind = self.kind or ("redshift" if self.column == "z_spec" else "value")
        return self.model_copy(update={"bins": self.bins or training.bins, "kind": kind})
