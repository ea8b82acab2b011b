"""A convolution through the Fourier transform is the convolution."""

import pytest
import torch
from torch.nn import functional as F

from sdss_photoz.training.fast.fourier import convolve


def _drawn(side, in_channels, out_channels, size, dtype=torch.float64, count=3):
    generator = torch.Generator().manual_seed(side)
    draw = [
        (count, in_channels, side, side),
        (out_channels, in_channels, size, size),
        (count, out_channels, side, side),
    ]
    x, weight, gradient = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in draw)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_(), weight.requires_grad_(), gradient


def _both_ways(function, x, weight, gradient):
    y = function(x, weight)
    return [value.detach() for value in (y, *torch.autograd.grad(y, (x, weight), gradient))]


def _direct(x, weight):
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


@pytest.mark.parametrize(("side", "size"), [(32, 5), (16, 5), (7, 3), (5, 5), (1, 3), (31, 9)])
def test_result_and_gradients_are_those_of_torch_in_float64(side, size):
    drawn = _drawn(side, 3, 4, size)
    for found, expected in zip(_both_ways(convolve, *drawn), _both_ways(_direct, *drawn), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_gradients_are_the_derivatives():
    x, weight, _ = _drawn(6, 2, 2, 3)
    assert torch.autograd.gradcheck(convolve, (x, weight))


def test_rounding_errors_in_float32_are_below_those_of_a_direct_sum():
    rounded = _drawn(32, 48, 64, 5, torch.float32, count=8)
    truth = _both_ways(_direct, *(value.double() for value in rounded))
    errors = [
        [float((value - true).abs().max()) for value, true in zip(_both_ways(way, *rounded), truth, strict=True)]
        for way in (convolve, _direct)
    ]
    assert all(fourier < direct for fourier, direct in zip(*errors, strict=True)), errors


def test_only_the_gradients_that_are_asked_for_are_computed():
    x, weight, gradient = _drawn(8, 2, 3, 5)
    (of_weight,) = torch.autograd.grad(convolve(x.detach(), weight), weight, gradient)
    (of_x,) = torch.autograd.grad(convolve(x, weight.detach()), x, gradient)
    _, *expected = _both_ways(_direct, x, weight, gradient)
    assert torch.allclose(of_x, expected[0], rtol=0, atol=1e-12)
    assert torch.allclose(of_weight, expected[1], rtol=0, atol=1e-12)


def test_maps_lie_channels_last_in_memory_as_the_next_layer_reads_them():
    x, weight, _ = _drawn(16, 3, 4, 5)
    assert convolve(x, weight).is_contiguous(memory_format=torch.channels_last)
