"""The channels `bands`: the stretched flux of each band."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def names(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the channels: those of the bands."""
    return bands


def images(flux: "Tensor", bands: tuple[str, ...], kind: str, noise: "Tensor") -> "Tensor":
    """Stretched flux (n, y, x, band) float32; parameters as of `sdss_photoz.inputs.channels.images`."""
    from sdss_photoz.inputs.stretch import stretch

    return stretch(flux, kind, noise)
