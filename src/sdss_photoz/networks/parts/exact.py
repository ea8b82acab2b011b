"""A layer that computes in float32 although the network around it runs under autocast."""

import torch
from torch import Tensor, nn


class _InFloat32:
    """Placed before a layer's own class: leaves autocast for the time of its forward."""

    def forward(self, *inputs: Tensor) -> Tensor:
        with torch.autocast(inputs[0].device.type, enabled=False):
            dtypes = [torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else x.dtype for x in inputs]
            return super().forward(*(x.to(dtype) for x, dtype in zip(inputs, dtypes, strict=True)))


def compute_in_float32(layer: nn.Module) -> None:
    """Make a layer, or a block of layers, with float32 weights compute in float32 at least, in place.

    Its class becomes one derived from its own, so that copies of the layer do the same, and it is compiled as it was.
    """
    if not isinstance(layer, _InFloat32):
        layer.__class__ = type(type(layer).__name__, (_InFloat32, type(layer)), {})
