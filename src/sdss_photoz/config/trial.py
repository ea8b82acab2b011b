"""One experiment: its folds, its ensemble, and what differs from the training block."""

from typing import Any, Literal

from sdss_photoz.config.block import Block, what
from sdss_photoz.config.training import Training


class Folds(Block):
    """How galaxies are assigned to folds."""

    count: int = what(3, "Number of folds.", ge=2, le=50)
    by: Literal["galaxy", "group", "sky"] = what(
        "group",
        "Units assigned to one fold: galaxies, groups linked within group_radius, or sky cells of about 3 degrees.",
    )
    group_radius: float = what(25.0, "Linking length of groups (arcsec).", gt=0, le=600)
    validation_fraction: float = what(0.1, "Fraction of the training part that selects the best epoch.", gt=0, lt=0.9)
    train_fraction: float | None = what(
        None, "Training part (with validation) as a fraction of the sample; none: all outside the fold.", gt=0, lt=1
    )
    repeats: int = what(1, "Independent draws of the training part for each fold.", ge=1, le=20)
    train_in: str | None = what(None, "Region that training galaxies lie in; 'not NAME': outside of it.")
    test_in: str | None = what(None, "Region that test galaxies lie in; 'not NAME': outside of it.")
    seed: int = what(0, "Seed of the hash that assigns the folds.", ge=0)


class Trial(Block):
    """One experiment: its folds, its ensemble, and what differs from the training block."""

    folds: Folds = what(Folds(), "The folds of this trial.")
    where: str | None = what(
        None, "Condition on the catalogue's columns: galaxies that do not fulfil it take no part in this trial."
    )
    tested_folds: int | None = what(
        None, "How many of the folds are trained and tested, the first ones; none: all.", ge=1, le=50
    )
    members: int = what(2, "Networks of the ensemble: they differ by seed alone.", ge=1, le=100)
    training: dict[str, Any] = what({}, "Keys of the training block that differ in this trial.")
    inputs: dict[str, Any] = what({}, "Keys of the block inputs that differ in this trial.")
    target: dict[str, Any] = what({}, "Keys of the block target that differ in this trial.")
    control: Literal["none", "target_removed", "shuffled_labels"] = what(
        "none",
        "A negative control, which should know no more than the prior: cubes without the galaxies at their centres, or "
        "training redshifts that are those of other galaxies.",
    )

    @property
    def fold_numbers(self) -> list[int]:
        """Numbers of the folds that are trained and tested: fold + folds.count x repeat."""
        tested = range(self.tested_folds or self.folds.count)
        return [fold + self.folds.count * repeat for repeat in range(self.folds.repeats) for fold in tested]

    def params(self) -> dict[str, Any]:
        """Return the parameters as in `Block.params`, without the *how* keys of the trial's training."""
        training = {key: value for key, value in self.training.items() if key in Training.what_keys()}
        return self.model_copy(update={"training": training})._params()
