"""Channels by their names: a band, as ``r``, or a difference of two, as ``g-r``, of the stretched flux.

For instance ``i-z, r-i, g-r, r``, the four planes of Hoyle 2016 (Astronomy and Computing 16, 34).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def chosen(
    channels: tuple[str, ...], flux: "Tensor", bands: tuple[str, ...], kind: str, noise: "Tensor"
) -> "Tensor":  # fmt: skip
    """Images (n, y, x, channel) float32 with the channels of these names.

    The other parameters are those of `sdss_photoz.inputs.channels.images`. Pixels without coverage are 0 in a band.
    """
    import torch

    from sdss_photoz.inputs.stretch import stretch

    planes = dict(zip(bands, stretch(flux, kind, noise).unbind(-1), strict=True))
    return torch.stack([_channel(name, planes) for name in channels], dim=-1)


def _channel(name: str, planes: dict[str, "Tensor"]) -> "Tensor":
    first, _, second = name.partition("-")
    return planes[first] - planes[second] if second else planes[first]
