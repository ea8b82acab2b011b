"""What a network reads of a galaxy."""

from typing import Literal

from pydantic import field_validator

from sdss_photoz.config.block import Block, what
from sdss_photoz.config.cubes import Bands, bands_of_the_survey
from sdss_photoz.config.training import Training
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import PixelGrid


class Inputs(Block):
    """What a network reads of a galaxy: an image, and numbers beside it."""

    bands: Bands | None = what(None, "Bands of the cubes that are read: a string or a list of names; none: all.")
    size: int | None = what(
        None, "Side of the part that is read, around the centre (pixels of the cubes); none: all.", ge=8, le=256
    )
    rebin: int = what(
        1, "Pixels along each side of a square whose flux is added up to one pixel of the image.", ge=1, le=64
    )
    stretch: Literal["asinh", "sqrt", "gamma", "none"] | None = what(
        None, "Compression of the flux; none: `training.stretch`."
    )
    numbers: list[str] = what(
        ["ebv"],
        "Columns of the catalogue beside the image: `ebv` as it is (mag), others less their mean over the training "
        "galaxies and divided by their standard deviation.",
    )

    @field_validator("bands", mode="before")
    @classmethod
    def _bands_of_the_survey(cls, value):
        return None if value is None else bands_of_the_survey(value)

    @field_validator("numbers")
    @classmethod
    def _numbers_once(cls, names):
        if len(set(names)) < len(names):
            raise ValueError("columns, each at most once")
        return names

    def resolved(self, training: Training, place: str) -> "Inputs":
        """These inputs, with the stretch of a training where they give none.

        Raises
        ------
        UserError
            If both blocks give a stretch, and not the same; `place` names the trial in the message.
        """
        default = Training.model_fields["stretch"].default
        if self.stretch is not None and training.stretch not in (default, self.stretch):
            raise UserError(
                f"inputs.stretch is {self.stretch!r} and training.stretch {training.stretch!r} in {place}: give one of "
                "them alone."
            )
        return self if self.stretch is not None else self.model_copy(update={"stretch": training.stretch})

    def check_within(self, cubes: PixelGrid, place: str) -> None:
        """Refuse bands or pixels that cubes of a grid lack; `place` names the trial in messages."""
        if lacking := [band for band in self.bands or "" if band not in cubes.bands]:
            raise UserError(
                f"inputs.bands is {self.bands!r} in {place}, but the cubes have no {lacking[0]}: leave it out, or "
                "add it to cubes.bands."
            )
        size = self.size or cubes.size
        if size > cubes.size or (cubes.size - size) % 2:
            raise UserError(
                f"inputs.size is {size} in {place}, but the cubes have {cubes.size} pixels: give a smaller number that "
                f"is {'odd' if cubes.size % 2 else 'even'} too, so that the galaxy stays at the centre."
            )
        if size % self.rebin:
            raise UserError(
                f"inputs.rebin is {self.rebin} in {place}, but {size} pixels are no multiple of it: change it or "
                "inputs.size."
            )

    def image_grid(self, cubes: PixelGrid) -> PixelGrid:
        """The pixels and bands of the images that are made of cubes of a grid."""
        size, bands = self.size or cubes.size, tuple(self.bands or cubes.bands)
        return PixelGrid(size // self.rebin, cubes.pixel_scale * self.rebin, bands)
