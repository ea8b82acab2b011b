"""What a network reads of a galaxy."""

import pkgutil
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from sdss_photoz.config.block import Block, what
from sdss_photoz.config.cubes import Bands, bands_of_the_survey
from sdss_photoz.config.training import Training
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import SDSS, PixelGrid


def kinds_of_channels() -> list[str]:
    """Names of the kinds of channels, by their files: importing them would take torch."""
    folder = Path(__file__).parents[1] / "inputs" / "channels"
    return sorted({module.name for module in pkgutil.iter_modules([str(folder)])} - {"named"})


class Augmentation(Block):
    """How training images are changed at random, each time that a galaxy is visited; predictions see none of it."""

    symmetries: bool | None = what(
        None, "Draw one of the eight flips and rotations by 90 degrees; none: `training.augment`."
    )
    rotation: bool = what(False, "Rotate by an angle between 0 and 360 degrees.")
    shift: float = what(0.0, "Largest shift along each axis (pixels of the cubes).", ge=0, le=64)
    zoom: float = what(
        1.0, "Largest factor by which a galaxy is magnified, or shrunk, at the same surface brightness.", ge=1, le=4
    )
    noise: float = what(
        0.0, "Gaussian noise added to each pixel, in units of the survey's typical noise of a pixel.", ge=0, le=100
    )


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
    channels: str | list[str] = what(
        "bands",
        "Channels of the image: `bands`; `pairs`, bands and the differences of all pairs of them; `lupton`, a colour "
        "image of three bands with a stretch of its own; or a list of bands and differences, as [i-z, r-i, g-r, r].",
    )
    numbers: list[str] = what(
        ["ebv"],
        "Numbers beside the image, columns of the catalogue or arithmetic with them, as model_mag_g - model_mag_r: "
        "`ebv` as it is (mag), others less their mean over the training galaxies and divided by their standard "
        "deviation.",
    )
    missing: Literal["refuse", "mean"] = what(
        "refuse", "Galaxies that lack one of the numbers: refused, or given its mean over the training galaxies."
    )
    augmentation: Augmentation = what(Augmentation(), "How training images are changed at random.")

    @field_validator("bands", mode="before")
    @classmethod
    def _bands_of_the_survey(cls, value):
        return None if value is None else bands_of_the_survey(value)

    @field_validator("channels")
    @classmethod
    def _kind_or_names(cls, value):
        if isinstance(value, str) and value not in kinds_of_channels():
            raise ValueError(f"{', '.join(kinds_of_channels())}, or a list as [g-r, r]")
        if not isinstance(value, str):
            parts = [name.split("-", 1) for name in value]
            known = all(part in SDSS.band_names for each in parts for part in each)
            if not value or len(set(value)) < len(value) or not known or any(len(set(p)) < len(p) for p in parts):
                bands = "".join(SDSS.band_names)
                raise ValueError(f"a list of bands of {bands} and of differences of two, as g-r, each at most once")
        return value

    @field_validator("numbers")
    @classmethod
    def _numbers_once(cls, names):
        if len(set(names)) < len(names):
            raise ValueError("columns, each at most once")
        return names

    def resolved(self, training: Training, place: str) -> "Inputs":
        """These inputs, with the stretch and the symmetries of a training where they give none.

        Raises
        ------
        UserError
            If both blocks give one, and not the same, or a colour image a stretch; `place` names the trial in the
            message.
        """
        default = Training.model_fields["stretch"].default
        if self.stretch is not None and training.stretch not in (default, self.stretch):
            raise UserError(
                f"inputs.stretch is {self.stretch!r} and training.stretch {training.stretch!r} in {place}: give one of "
                "them alone."
            )
        given = self.stretch or (training.stretch if training.stretch != default else None)
        if self.channels == "lupton" and given is not None:
            raise UserError(
                f"inputs.channels is 'lupton' in {place}, which has a stretch of its own, but the stretch {given!r} is "
                "given too: leave it out."
            )
        drawn = self.augmentation.symmetries
        if drawn is True and not training.augment:
            raise UserError(
                f"inputs.augmentation.symmetries is true and training.augment false in {place}: give one of them alone."
            )
        augmentation = self.augmentation.model_copy(update={"symmetries": training.augment if drawn is None else drawn})
        return self.model_copy(update={"stretch": self.stretch or training.stretch, "augmentation": augmentation})

    def check_within(self, cubes: PixelGrid, place: str) -> None:
        """Refuse bands or pixels that cubes of a grid lack; `place` names the trial in messages."""
        if lacking := [band for band in self.bands or "" if band not in cubes.bands]:
            raise UserError(
                f"inputs.bands is {self.bands!r} in {place}, but the cubes have no {lacking[0]}: leave it out, or "
                "add it to cubes.bands."
            )
        bands = self.image_grid(cubes).bands
        if lacking := [band for band in self._bands_of_channels() if band not in bands]:
            raise UserError(
                f"inputs.channels is {self.channels!r} in {place}, which takes {lacking[0]}, but the bands that are "
                f"read are {''.join(bands)}: choose other channels, or add it to inputs.bands or cubes.bands."
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

    def _bands_of_channels(self) -> list[str]:
        """Bands that the channels take by name."""
        if self.channels == "lupton":
            return list(SDSS.picture)
        return [] if isinstance(self.channels, str) else [band for name in self.channels for band in name.split("-")]

    def image_grid(self, cubes: PixelGrid) -> PixelGrid:
        """The pixels and bands of the images that are made of cubes of a grid."""
        size, bands = self.size or cubes.size, tuple(self.bands or cubes.bands)
        return PixelGrid(size // self.rebin, cubes.pixel_scale * self.rebin, bands)
