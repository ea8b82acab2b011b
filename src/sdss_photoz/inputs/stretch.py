"""Compression of the dynamic range of the flux, four decades among galaxies, before the network."""

import torch
from torch import Tensor

from sdss_photoz.errors import UserError
from sdss_photoz.surveys import SDSS, PixelGrid


def typical_noise(grid: PixelGrid, device: torch.device | None = None) -> Tensor:
    """Typical noise (band,) float32 of a pixel of the survey's frames in each band of the cubes (nanomaggies)."""
    return torch.tensor([SDSS.noise[SDSS.index(band)] for band in grid.bands], device=device)


def stretch(cubes: Tensor, kind: str, noise: Tensor | None = None) -> Tensor:
    """Compress flux, in float32.

    Parameters
    ----------
    cubes : Tensor
        (n, y, x, band) nanomaggies, float16 or float32. Pixels without coverage are 0 and stay 0.
    kind : {"asinh", "sqrt", "gamma", "none"}
        asinh(x / noise) with one noise per band (Lupton et al. 1999); sign(x) (sqrt(|x| + 1) - 1); sign(x) |x|^(1/2.2),
        the gamma of displays; or x.
    noise : Tensor, optional
        (band,) typical noise of a pixel in each band (nanomaggies), on the device of the cubes; default: that of
        all bands of `SDSS`, copied to the device at each call.

    Returns
    -------
    Tensor
        The same shape, float32.

    Raises
    ------
    UserError
        If the kind is unknown.
    """
    x = cubes.float()
    if kind == "asinh":
        x = x / _noise(x, noise)
        size = x.abs()
        # asinh|x| = log1p(|x| + x^2 / (1 + sqrt(1 + x^2))); torch.asinh is several times slower on a CPU
        return torch.log1p(size + size * size / (1 + (size * size + 1).sqrt())).copysign(x)
    if kind == "sqrt":
        return ((x.abs() + 1).sqrt() - 1).copysign(x)
    if kind == "gamma":
        return x.abs().pow(1 / 2.2).copysign(x)
    if kind == "none":
        return x
    raise UserError(f"training.stretch is {kind!r}, but must be asinh, sqrt, gamma or none.")


def unstretch(cubes: Tensor, kind: str, noise: Tensor | None = None) -> Tensor:
    """Inverse of `stretch`, with the same parameters: flux (n, y, x, band) float32, nanomaggies, of stretched cubes."""
    x = cubes.float()
    if kind == "asinh":
        return x.sinh() * _noise(x, noise)
    if kind == "sqrt":
        return ((x.abs() + 1).square() - 1).copysign(x)
    if kind == "gamma":
        return x.abs().pow(2.2).copysign(x)
    return x


def _noise(x: Tensor, noise: Tensor | None) -> Tensor:
    noise = torch.tensor(SDSS.noise, device=x.device) if noise is None else noise
    if len(noise) != x.shape[-1]:  # a single band would be broadcast to five
        raise ValueError(f"cubes have {x.shape[-1]} bands, but the noise is that of {len(noise)}")
    return noise
