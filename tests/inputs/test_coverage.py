"""Pixels that no frame covers reach the inputs as NaN, which say that they hold no flux."""

import numpy as np
import pytest
import torch

from sdss_photoz.inputs.augmentation import Augmentation
from sdss_photoz.inputs.inputs import Inputs

WORDS = torch.arange(4)
HOLE = np.s_[:, :9, 20:40, 2]  # in one band


@pytest.fixture
def flux():
    """Cubes (4, 64, 64, 5) of constant flux, with pixels of exactly no flux, which are covered, and a hole."""
    cubes = torch.ones(4, 64, 64, 5)
    cubes[:, 40, 40] = 0
    cubes[HOLE] = torch.nan
    return cubes


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("channels", ["bands", "pairs", "lupton", ("g-r", "r")])
@pytest.mark.parametrize("rebin", [1, 2])
def test_an_image_holds_no_flux_where_a_cube_is_nan(flux, dtype, channels, rebin):
    inputs = Inputs(channels=channels, rebin=rebin)
    without = flux.nan_to_num(0)
    assert torch.equal(inputs.images(flux.to(dtype)), inputs.images(without.to(dtype)))


def test_noise_is_added_to_covered_pixels_alone_also_to_those_without_flux(flux):
    images = Inputs(stretch="none", augmentation=Augmentation(noise=1.0)).images(flux, words=WORDS)
    uncovered = flux.isnan()
    assert (images[uncovered] == 0).all()
    assert (images[~uncovered] != flux[~uncovered]).all()


def test_moved_images_keep_the_surface_brightness_beside_a_hole_and_count_covered_pixels_without_flux(flux):
    moves = Augmentation(rotation=True, shift=3.0, zoom=1.1)
    flux[:, 40, 40] = 1
    moved = moves.moved(flux, WORDS, 64)
    assert torch.allclose(moved[~moved.isnan()], torch.tensor(1.0))
    holes = moved.isnan().sum((1, 2))
    assert (holes[:, 2] > 100).all()  # beside the corners, which are beyond the cube in every band
    assert (holes[:, 2] > holes[:, 1]).all()
    nowhere = torch.zeros(4, 64, 64, 5)
    assert (moves.moved(nowhere, WORDS, 32) == 0).all()
