"""The channels `lupton`: red, green and blue of a colour image (Lupton et al. 2004, PASP 116, 133)."""

import math
from typing import TYPE_CHECKING

from sdss_photoz.surveys import SDSS

if TYPE_CHECKING:
    from torch import Tensor


def names(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the channels: the bands of the survey's pictures, red first."""
    return tuple(SDSS.picture)


def images(flux: "Tensor", bands: tuple[str, ...], kind: str, noise: "Tensor") -> "Tensor":
    """Images (n, y, x, 3) float32; parameters as of `sdss_photoz.inputs.channels.images`, `kind` has no part in them.

    With the fluxes c = w x of the three bands, weighted as in the survey's pictures, their mean I and its typical noise
    s, a channel is c asinh(I / s) / I: the channels are to one another as the fluxes, and their mean is asinh(I / s).
    """
    import torch

    from sdss_photoz.inputs.stretch import stretch

    planes, widths = flux.float().unbind(-1), noise.unbind()
    drawn = [(planes[bands.index(band)] * weight, widths[bands.index(band)] * weight) for band, weight in _weights()]
    intensity = sum(plane for plane, _ in drawn) / len(drawn)
    width = torch.stack([width.square() for _, width in drawn]).sum().sqrt() / len(drawn)
    stretched = stretch(intensity[..., None], "asinh", width[None])[..., 0]
    # near zero intensity asinh(I / s) / I is 1 / s, and the quotient of two rounded numbers is not
    gain = torch.where(intensity.abs() > FAINT * width, stretched / intensity, 1 / width)
    return torch.stack([plane * gain for plane, _ in drawn], dim=-1)


FAINT = math.sqrt(6 * 2**-24)  # of the noise: below it asinh(x) / x is 1 in float32, as 1 - x^2 / 6 shows


def _weights() -> list[tuple[str, float]]:
    return list(SDSS.picture.items())
