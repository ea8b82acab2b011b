"""Where the cubes come from, their pixels and bands, and how overlapping frames are stacked."""

from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema, field_validator, model_validator

from sdss_photoz.config.block import Block, how, what
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid

GRID = ("size", "pixel_scale", "bands")  # the keys that `Cubes.grid` is made of
LEAST_SIZE = {"inception": 8, "inception_small": 27}  # pixels: smaller cubes are pooled to nothing by the network
Bands = Annotated[str, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})]


def bands_of_the_survey(value) -> str:
    """The names of bands, given as a string or a list, as one string; ValueError if they are not the survey's."""
    names = list(value) if isinstance(value, str | list | tuple) else []
    known = SDSS.band_names
    if names and names == [band for band in known if band in names]:
        return "".join(names)
    foreign = [name for name in names if name not in known]
    wrong = f": {foreign[0]!r} is none" if foreign else ""
    raise ValueError(f"bands of {''.join(known)}, each at most once and in this order, such as 'griz'{wrong}")


class Cubes(Block):
    """Where the cubes come from, their pixels and bands, and how frames that overlap are stacked."""

    source: Literal["frames", "published"] = what(
        "frames", "Cubes cut from the frames, or the cubes that the authors of the paper published."
    )
    published: str | None = what(None, "Path of the published file, sdss.npz.")
    size: int = what(64, "Side of a cube (pixels).", ge=8, le=256)
    pixel_scale: float = what(
        0.396,
        "Side of a cube's pixel (arcsec), at most 1.5 of the frames': between larger ones the kernel, made for the "
        "frames' pixels, would leave out light.",
        ge=0.1,
        le=0.59,
    )
    bands: Bands = what(
        "ugriz",
        "Bands of a cube: a string or a list of names, in the survey's order. Frames of other bands are not fetched.",
    )
    stack: Literal["median", "mean"] = what("median", "Statistic of the frames that cover a pixel.")
    overlap_rows: Literal["keep", "trim"] = what(
        "keep",
        "The 128 rows that adjacent fields of a run share: both fields count, as in SWarp, or only the first.",
    )
    memory_gb: float = how(
        4.0, "Memory limit of one cubes job (GB): a chunk that would exceed it is made in parts.", ge=1
    )
    precision: Literal["float32", "float16", "bits10"] = what(
        "float32",
        "Encoding of the stored flux: float32, float16, or float32 rounded to 10 bits of mantissa and compressed.",
    )

    @field_validator("bands", mode="before")
    @classmethod
    def _bands_of_the_survey(cls, value):
        return bands_of_the_survey(value)

    @model_validator(mode="after")
    def _published_are_on_their_grid(self):
        if self.source == "published" and self.grid != CUBE:
            raise UserError(
                f"cubes.source is 'published', and the published cubes have {CUBE}, but {', '.join(GRID)} say "
                f"{self.grid}: leave these keys out, or cut cubes from frames."
            )
        return self

    @model_validator(mode="after")
    def _published_has_a_path(self):
        if self.source == "published" and self.published is None:
            raise UserError("cubes.source is 'published', but cubes.published is not set: give the path of sdss.npz.")
        return self

    @property
    def grid(self) -> PixelGrid:
        """The pixels and bands of the cubes."""
        return PixelGrid(self.size, self.pixel_scale, tuple(self.bands))

    def grid_params(self) -> dict[str, Any]:
        """The keys of the grid that differ from their defaults, for the ``params:`` of a rule."""
        return {key: value for key, value in self.params().items() if key in GRID}
