"""The channels `pairs`: bands, then the differences of all pairs of them (D'Isanto & Polsterer 2018, A&A 609, A111).

Of ugriz these are 15: u, g, r, i, z, u-g, u-r, u-i, u-z, g-r, g-i, g-z, r-i, r-z, i-z, all of the stretched flux.
"""

from itertools import combinations
from typing import TYPE_CHECKING

from sdss_photoz.inputs.channels import named

if TYPE_CHECKING:
    from torch import Tensor


def names(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the channels."""
    return (*bands, *(f"{first}-{second}" for first, second in combinations(bands, 2)))


def images(flux: "Tensor", bands: tuple[str, ...], kind: str, noise: "Tensor") -> "Tensor":
    """Images (n, y, x, channel) float32; parameters as of `sdss_photoz.inputs.channels.images`."""
    return named.chosen(names(bands), flux, bands, kind, noise)
