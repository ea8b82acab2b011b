"""Layers of a network that are trained otherwise than the others."""

from pydantic import model_validator

from sdss_photoz.config.block import Block, what


class Group(Block):
    """A layer, or a parameter, that is trained otherwise than the others."""

    rate: float = what(1.0, "Factor of the learning rate.", gt=0, allow_inf_nan=False)
    weight_decay: float | None = what(
        None, "Weight decay of these parameters; none: `training.weight_decay`.", ge=0, allow_inf_nan=False
    )
    frozen: bool = what(False, "Keep the parameters as they are initialised.")

    @model_validator(mode="after")
    def _frozen_alone(self):
        if self.frozen and (self.rate != 1 or self.weight_decay is not None):
            raise ValueError("without rate and weight_decay where it is frozen")
        return self


def holds(group: str, name: str) -> bool:
    """Whether the group of a name holds a parameter, or another name: it is a layer of it, or the same."""
    return name == group or name.startswith(f"{group}.")
