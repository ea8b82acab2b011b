"""What a survey is: its bands, its pixels, and the names of its frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np


class Band(NamedTuple):
    """One band of a survey."""

    name: str
    noise: float  # of a pixel, typical of the survey's frames, in the survey's unit of flux
    extinction: float  # magnitudes for each magnitude of E(B-V)
    zero_point: float  # magnitude of one unit of flux


@dataclass(frozen=True)
class Survey:
    """A survey: its properties that the stages need.

    Parameters
    ----------
    name : str
        For display.
    bands : tuple of Band
        In the order of the last axis of a cube.
    pixel_scale : float
        Side of a pixel of its frames (arcsec).
    unit : str
        Unit of flux, as FITS writes it.
    picture : dict of str to float
        Bands that are drawn red, green and blue, in this order, with weights that make a galaxy of middling colour
        nearly white.
    frame : type
        Its frames: names and folders of the files.
    """

    name: str
    bands: tuple[Band, ...]
    pixel_scale: float
    unit: str
    picture: dict[str, float]
    frame: type

    @cached_property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in the order of a cube's last axis."""
        return tuple(band.name for band in self.bands)

    @cached_property
    def noise(self) -> tuple[float, ...]:
        """Typical noise of a pixel in each band, in the unit of flux."""
        return tuple(band.noise for band in self.bands)

    @cached_property
    def extinction(self) -> dict[str, float]:
        """Magnitudes of extinction for each magnitude of E(B-V), by band."""
        return {band.name: band.extinction for band in self.bands}

    @cached_property
    def zero_point(self) -> dict[str, float]:
        """Magnitude of one unit of flux, by band."""
        return {band.name: band.zero_point for band in self.bands}

    def index(self, band: str) -> int:
        """Place of a band on the last axis of a cube."""
        return self.band_names.index(band)


def main_band(bands: Sequence[str]) -> str:
    """Return the band by which galaxies are called bright or faint: r or, without it, the middle one."""
    return "r" if "r" in bands else bands[len(bands) // 2]


class PixelGrid(NamedTuple):
    """The grid of pixels of one cube, and its bands: square, north up, east left, centred on its galaxy."""

    size: int  # pixels on a side
    pixel_scale: float  # arcsec
    bands: tuple[str, ...]  # in the survey's order

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, band)."""
        return self.size, self.size, len(self.bands)

    @property
    def centre(self) -> float:
        """The galaxy's place along each axis (pixels, 0-based): between the two middle pixels of an even size.

        In the middle of the middle pixel of an odd size.
        """
        return (self.size - 1) / 2

    @property
    def half_diagonal(self) -> float:
        """Distance of a corner pixel's centre from the galaxy (arcsec)."""
        return np.sqrt(2) * self.centre * self.pixel_scale

    @property
    def main_band(self) -> str:
        """See :func:`main_band`."""
        return main_band(self.bands)

    def index(self, band: str) -> int:
        """Place of a band on the last axis of a cube."""
        return self.bands.index(band)

    def __str__(self) -> str:
        return f"{self.size} pixels of {self.pixel_scale:g} arcsec in {''.join(self.bands)}"

    def from_centre(self) -> np.ndarray:
        """Distance of each pixel from the galaxy, (y, x) float64, arcsec."""
        offset = (np.arange(self.size) - self.centre) * self.pixel_scale
        return np.hypot(offset[:, None], offset)
