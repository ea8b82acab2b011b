"""What a network reads of a galaxy."""

from typing import NamedTuple

from sdss_photoz.surveys import CUBE, PixelGrid


class Inputs(NamedTuple):
    """What a network reads of a galaxy: an image, and numbers from the catalogue.

    Attributes
    ----------
    grid : PixelGrid
        Pixels and bands of the cubes.
    stretch : {"asinh", "sqrt", "gamma", "none"}
        How their flux is compressed (`sdss_photoz.inputs.stretch`).
    numbers : tuple of str
        Columns of the catalogue beside the image.
    """

    grid: PixelGrid = CUBE
    stretch: str = "asinh"
    numbers: tuple[str, ...] = ("ebv",)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image: (y, x, channel)."""
        return self.grid.shape
