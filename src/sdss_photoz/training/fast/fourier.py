"""Convolutions with large kernels through the Fourier transform, for a CPU.

Between the transforms a convolution is one complex product per frequency and pair of channels, instead of one real
product per pixel, pair of channels and kernel element: nine times less work for 5x5 kernels. Rounding errors are
smaller too, since fewer numbers are summed (`tests/training/fast/test_fourier.py`). It is faster with many channels,
which make the transforms a small part of the work (Mathieu, Henaff & LeCun 2014, arXiv:1312.5851);
`benchmarks/training.py --phase ladder` measures how much.
"""

import math
from functools import cache

import torch
from torch import Tensor

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of ``conv2d`` with stride 1 and zero padding to the same size, with its gradients.

    Parameters
    ----------
    x : Tensor
        Square images (n, in_channels, y, x), float32 or float64, on the CPU.
    weight : Tensor
        Kernels (out_channels, in_channels, size, size), size odd, of the same dtype.

    Returns
    -------
    Tensor
        (n, out_channels, y, x), channels-last in memory.
    """
    return _Convolve.apply(x, weight)


class _Convolve(torch.autograd.Function):
    """A product of spectra, of the images and the kernels; so are the gradients."""

    @staticmethod
    def forward(ctx, x, weight):
        out_channels, in_channels, size, _ = weight.shape
        ctx.size, ctx.period = size, _period(x.shape[-1] + size // 2)
        forward, _ = _dft_matrices(ctx.period, size, x.dtype)
        pixels = weight.permute(2, 3, 1, 0).reshape(size**2, in_channels * out_channels)
        factors = (forward @ pixels.to(forward.dtype)).view(-1, in_channels, out_channels)
        spectra = _spectra(x, ctx.period)
        ctx.save_for_backward(spectra, factors)
        return _images(spectra @ factors, ctx.period, x.shape[-1])

    @staticmethod
    def backward(ctx, gradient):
        spectra, factors = ctx.saved_tensors
        conjugates = _spectra(gradient, ctx.period, conjugate=True)
        _, back = _dft_matrices(ctx.period, ctx.size, gradient.dtype)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _images(conjugates @ factors.mT, ctx.period, gradient.shape[-1], conjugate=True)
        if ctx.needs_input_grad[1]:
            of_factors = spectra.mT @ conjugates
            of_weight = (back @ of_factors.flatten(1)).real.reshape(ctx.size, ctx.size, *of_factors.shape[1:])
            of_weight = of_weight.permute(3, 2, 0, 1)
        return of_x, of_weight


def _period(least: int) -> int:
    """The least even number, at least `least`, without a prime factor above 5: transforms of such lengths are fast."""
    while least % 2 or (2 * 3 * 5) ** least.bit_length() % least:
        least += 1
    return least


@cache
def _dft_matrices(period: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """DFT matrices of kernels (size, size) whose centre is at 0.

    Returns
    -------
    forward : Tensor
        (frequency, pixel), from a kernel to the conjugate of its spectrum.
    back : Tensor
        (pixel, frequency), whose real part leads from the conjugate spectrum of a kernel's gradient to the gradient.
    """
    pixels, full = torch.arange(size) - size // 2, torch.arange(period, dtype=torch.float64)
    half = full[: period // 2 + 1]  # along x: images are real
    along = [torch.exp(2j * math.pi / period * frequencies[:, None] * pixels) for frequencies in (full, half)]
    waves = torch.einsum("fy,gx->fgyx", *along).reshape(-1, size**2)
    multiplicity = torch.full_like(half, 2.0)  # a frequency and its complex conjugate
    multiplicity[[0, -1]] = 1.0
    back = waves * (multiplicity / period**2).repeat(period)[:, None]
    return waves.to(COMPLEX[dtype]), back.T.contiguous().to(COMPLEX[dtype])


def _spectra(images: Tensor, period: int, conjugate: bool = False) -> Tensor:
    """Spectra (frequency, n, channels) of images (n, channels, side, side), zero-padded to the period."""
    side = images.shape[-1]
    padded = images.new_zeros(*images.shape[:2], period, period)
    padded[..., :side, :side] = images
    return _contiguous(torch.fft.rfft2(padded).flatten(2).permute(2, 0, 1), conjugate)


def _images(spectra: Tensor, period: int, side: int, conjugate: bool = False) -> Tensor:
    """Images (n, channels, side, side), channels-last in memory, of spectra (frequency, n, channels)."""
    lines = _contiguous(spectra.permute(1, 2, 0), conjugate)
    lines = torch.fft.ifft(lines.unflatten(2, (period, -1)), dim=2)[:, :, :side]
    return torch.fft.irfft(lines, period, dim=3)[..., :side].contiguous(memory_format=torch.channels_last)


def _contiguous(view: Tensor, conjugate: bool) -> Tensor:
    """A contiguous copy of a view, on request conjugated."""
    return torch.empty(view.shape, dtype=view.dtype).copy_(view.conj() if conjugate else view)
