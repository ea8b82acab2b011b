"""Stretched flux, beside numpy and by hand."""

import numpy as np
import pytest
import torch

from sdss_photoz.inputs.stretch import stretch
from sdss_photoz.surveys import SDSS


def test_asinh_stretch_is_asinh_of_flux_over_the_noise_of_its_band():
    flux = np.concatenate([np.geomspace(1e-6, 1e4, 50), -np.geomspace(1e-6, 1, 50), [0]]).astype(np.float32)
    cubes = torch.from_numpy(np.broadcast_to(flux[:, None, None, None], (101, 1, 1, 5)).copy())
    expected = np.arcsinh(cubes.numpy().astype(np.float64) / np.array(SDSS.noise))
    assert np.allclose(stretch(cubes, "asinh").numpy(), expected, rtol=1e-6, atol=1e-9)


def test_sqrt_stretch_is_that_of_the_later_work():
    flux = torch.tensor([-8.0, 0.0, 3.0]).reshape(3, 1, 1, 1)
    assert stretch(flux, "sqrt").flatten().tolist() == [-2.0, 0.0, 1.0]


def test_gamma_compression_is_that_of_screens():
    flux = torch.tensor([-(2.0**2.2), 0.0, 1.0, 3.0**2.2]).reshape(4, 1, 1, 1)
    assert stretch(flux, "gamma").flatten().tolist() == pytest.approx([-2, 0, 1, 3], rel=1e-6)


@pytest.mark.parametrize("kind", ["asinh", "sqrt", "gamma", "none"])
def test_uncovered_pixels_stay_zero_through_every_stretch(kind):
    assert (stretch(torch.zeros(1, 2, 2, 5), kind) == 0).all()


def test_no_stretch_leaves_the_flux_untouched():
    cubes = torch.randn(2, 4, 4, 5)
    assert torch.equal(stretch(cubes, "none"), cubes)
