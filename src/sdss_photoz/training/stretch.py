"""Compression of the flux before the network: galaxies span four decades, weights do not."""

import torch
from torch import Tensor

from sdss_photoz.errors import UserError

NOISE = (0.043, 0.017, 0.029, 0.05, 0.17)  # nanomaggies a pixel in ugriz, typical of corrected frames


def stretch(cubes: Tensor, kind: str, noise: Tensor | None = None) -> Tensor:
    """Compress flux, in float32.

    Parameters
    ----------
    cubes : Tensor
        (n, y, x, 5), nanomaggies, float16 or float32; pixels that no frame covers are 0 and stay 0.
    kind : {"asinh", "sqrt", "gamma", "none"}
        asinh(x / noise) with one noise per band (Lupton et al. 1999); sign(x) (sqrt(|x| + 1) - 1); sign(x) |x|^(1/2.2),
        as screens are fed; or x.
    noise : Tensor, optional
        `NOISE` on the device of the cubes, for a GPU waits while it is brought there.

    Returns
    -------
    Tensor
        The same shape, float32.
    """
    x = cubes.float()
    if kind == "asinh":
        x = x / (torch.tensor(NOISE, device=x.device) if noise is None else noise)
        size = x.abs()
        # asinh|x| = log1p(|x| + x^2 / (1 + sqrt(1 + x^2))): on a CPU torch's own asinh is several times slower
        return torch.log1p(size + size * size / (1 + (size * size + 1).sqrt())).copysign(x)
    if kind == "sqrt":
        return ((x.abs() + 1).sqrt() - 1).copysign(x)
    if kind == "gamma":
        return x.abs().pow(1 / 2.2).copysign(x)
    if kind == "none":
        return x
    raise UserError(f"training.stretch is {kind!r}, but must be asinh, sqrt, gamma or none.")


def unstretch(cubes: Tensor, kind: str, noise: Tensor | None = None) -> Tensor:
    """Flux (n, y, x, 5) float32, nanomaggies, of stretched cubes: what `stretch` does, undone; parameters as there."""
    x = cubes.float()
    if kind == "asinh":
        return x.sinh() * (torch.tensor(NOISE, device=x.device) if noise is None else noise)
    if kind == "sqrt":
        return ((x.abs() + 1).square() - 1).copysign(x)
    if kind == "gamma":
        return x.abs().pow(2.2).copysign(x)
    return x
