"""What a network predicts."""

from collections.abc import Iterable
from typing import Literal

from pydantic import model_validator

from sdss_photoz.config.block import Block, what
from sdss_photoz.config.training import Training
from sdss_photoz.errors import UserError

OF_METHOD = {  # the methods that a key concerns, where it does not concern all
    "components": ("mixture",),
    "loss": ("mixture", "regression"),
    "distribution": ("regression",),
    "draws": ("regression",),
}
LOSSES = {"mixture": ("nll", "crps"), "regression": ("rmse", "mae")}  # the first is the default
OF_CLASSES = ("label_width", "crps_weight", "regressed_point")  # keys of the block training for classes alone
YES_NO = {"low": -0.5, "high": 1.5, "bins": 2}  # bins around 0 and 1, so that the mean is the probability of yes


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

    method: Literal["classes", "mixture", "regression"] = what(
        "classes",
        "How networks predict: probabilities of the bins; a mixture of normal distributions; or the value alone.",
    )
    components: int = what(5, "Normal distributions of a mixture.", ge=1, le=50)
    loss: Literal["nll", "crps", "rmse", "mae"] | None = what(
        None,
        "Loss of a mixture, negative log-likelihood (nll) or CRPS; of a regression, root of the mean squared error or "
        "mean absolute error; none: the first.",
    )
    distribution: Literal["residuals", "dropout", "members"] | None = what(
        None,
        "Where a regression's distributions come from: the value plus the residuals of validation galaxies; several "
        "passes with dropout; or the members of the ensemble; none: the first.",
    )
    draws: int = what(100, "Passes with dropout, where distributions come from these.", ge=2, le=10_000)

    @property
    def passes(self) -> int:
        """Calls of a network for each image in a prediction."""
        return self.draws if self.distribution == "dropout" else 1

    @model_validator(mode="after")
    def _keys_are_the_methods(self):
        self._refuse_beside("method", self.method, [key for key, of in OF_METHOD.items() if self.method not in of])
        if self.loss is not None and self.loss not in LOSSES[self.method]:
            raise UserError(
                f"target.loss is {self.loss!r}, but target.method is {self.method}, whose losses are "
                f"{' and '.join(LOSSES[self.method])}: give one of these, or leave it out."
            )
        if self.distribution != "dropout":
            self._refuse_beside("distribution", self.distribution or "residuals", ["draws"])
        if self.kind == "yes_no":
            self._refuse_beside("kind", "yes_no", ["low", "high", "bins", "method"])
        return self

    def _refuse_beside(self, key: str, value: str, others: Iterable[str]) -> None:
        """Refuse keys that differ from their defaults and do not go with a value of a key."""
        for other in others:
            if (found := getattr(self, other)) != type(self).model_fields[other].default:
                raise UserError(
                    f"target.{other} is {found!r}, but it has no meaning where target.{key} is {value}: leave it out, "
                    f"or change target.{key}."
                )

    @model_validator(mode="after")
    def _range_is_one(self):
        if self.low >= self.high:
            raise UserError(f"target.low is {self.low:g}, but must be below target.high, which is {self.high:g}.")
        return self

    def resolved(self, training: Training, place: str) -> "Target":
        """This target, with its kind, and the bins of a training where it gives none; those of yes or no are two.

        Raises
        ------
        UserError
            If both blocks give bins, and not as many, or the training does not go with the method; `place` names the
            trial in the message.
        """
        default = {key: field.default for key, field in Training.model_fields.items()}
        for key in OF_CLASSES if self.method != "classes" else ():
            if (value := getattr(training, key)) != default[key]:
                raise UserError(
                    f"training.{key} is {value!r} in {place}, but it concerns classes alone, and target.method is "
                    f"{self.method}: leave it out, or set target.method to classes."
                )
        if self.distribution == "dropout" and ":" not in training.network and training.dropout == 0:
            raise UserError(
                f"target.distribution is dropout in {place}, but training.dropout is 0: raise it, to 0.1 for example, "
                "or choose another target.distribution."
            )
        if self.bins is not None and training.bins not in (default["bins"], self.bins):
            raise UserError(
                f"target.bins is {self.bins} and training.bins {training.bins} in {place}: give one of them alone."
            )
        kind = self.kind or ("redshift" if self.column == "z_spec" else "value")
        bins = YES_NO if kind == "yes_no" else {"bins": self.bins or training.bins}
        return self.model_copy(update={"kind": kind, **bins})
