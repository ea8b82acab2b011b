"""Convolutions of large squares through the Fourier transform, for a CPU.

Between transforms a convolution is one complex product a frequency and pair of maps, in place of one real product a
pixel, pair of maps and place of the square: nine times less work for 5x5 pixels. Rounding errors are smaller too, since
fewer numbers are added up (`tests/training/test_fourier.py`). It pays where maps are many, so that the transforms
weigh little (Mathieu, Henaff & LeCun 2014, arXiv:1312.5851); `benchmarks/training.py --phase ladder` says how much.
"""

import math
from functools import cache

import torch
from torch import Tensor

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """What ``conv2d`` returns with zeros around the images and the size kept, and its gradients.

    Parameters
    ----------
    x : Tensor
        Maps (n, maps_in, y, x) as high as wide, float32 or float64, on the CPU.
    weight : Tensor
        Weights (maps, maps_in, size, size), size odd, of the same dtype.

    Returns
    -------
    Tensor
        Maps (n, maps, y, x), channels-last in memory.
    """
    return _Convolve.apply(x, weight)


class _Convolve(torch.autograd.Function):
    """The spectrum of the result is that of the maps times that of the square; so are the gradients'."""

    @staticmethod
    def forward(ctx, x, weight):
        maps, maps_in, size, _ = weight.shape
        ctx.size, ctx.period = size, _period(x.shape[-1] + size // 2)
        waves, _ = _waves(ctx.period, size, x.dtype)
        pixels = weight.permute(2, 3, 1, 0).reshape(size**2, maps_in * maps)
        factors = (waves @ pixels.to(waves.dtype)).view(-1, maps_in, maps)
        spectra = _spectra(x, ctx.period)
        ctx.save_for_backward(spectra, factors)
        return _images(spectra @ factors, ctx.period, x.shape[-1])

    @staticmethod
    def backward(ctx, gradient):
        spectra, factors = ctx.saved_tensors
        conjugates = _spectra(gradient, ctx.period, conjugate=True)
        _, back = _waves(ctx.period, ctx.size, gradient.dtype)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _images(conjugates @ factors.mT, ctx.period, gradient.shape[-1], conjugate=True)
        if ctx.needs_input_grad[1]:
            of_factors = spectra.mT @ conjugates
            of_weight = (back @ of_factors.flatten(1)).real.reshape(ctx.size, ctx.size, *of_factors.shape[1:])
            of_weight = of_weight.permute(3, 2, 0, 1)
        return of_x, of_weight


def _period(least: int) -> int:
    """The first even number from `least` that has no prime factor above 5: transforms of such lengths are fast."""
    while least % 2 or (2 * 3 * 5) ** least.bit_length() % least:
        least += 1
    return least


@cache
def _waves(period: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Matrices from the pixels of a square, its middle at 0, to its conjugate spectrum (frequency, pixel), and from the
    conjugate spectrum of its gradient to that at the pixels (pixel, frequency), by its real part."""
    pixels, every = torch.arange(size) - size // 2, torch.arange(period, dtype=torch.float64)
    half = every[: period // 2 + 1]  # along x, for images are real
    along = [torch.exp(2j * math.pi / period * frequencies[:, None] * pixels) for frequencies in (every, half)]
    waves = torch.einsum("fy,gx->fgyx", *along).reshape(-1, size**2)
    counted = torch.full_like(half, 2.0)
    counted[[0, -1]] = 1.0  # the others stand for a mirrored one too
    back = waves * (counted / period**2).repeat(period)[:, None]
    return waves.to(COMPLEX[dtype]), back.T.contiguous().to(COMPLEX[dtype])


def _spectra(images: Tensor, period: int, conjugate: bool = False) -> Tensor:
    """Spectra (frequency, n, maps) of images (n, maps, side, side) among zeros."""
    side = images.shape[-1]
    wide = images.new_zeros(*images.shape[:2], period, period)
    wide[..., :side, :side] = images
    return _laid_out(torch.fft.rfft2(wide).flatten(2).permute(2, 0, 1), conjugate)


def _images(spectra: Tensor, period: int, side: int, conjugate: bool = False) -> Tensor:
    """Images (n, maps, side, side), channels-last in memory, of spectra (frequency, n, maps)."""
    lines = _laid_out(spectra.permute(1, 2, 0), conjugate)
    lines = torch.fft.ifft(lines.unflatten(2, (period, -1)), dim=2)[:, :, :side]
    return torch.fft.irfft(lines, period, dim=3)[..., :side].contiguous(memory_format=torch.channels_last)


def _laid_out(view: Tensor, conjugate: bool) -> Tensor:
    """A copy whose memory has the order of the view's axes, conjugated on the way or not."""
    return torch.empty(view.shape, dtype=view.dtype).copy_(view.conj() if conjugate else view)
