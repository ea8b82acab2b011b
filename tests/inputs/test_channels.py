"""Channels of an image, beside numpy, astropy and by hand."""

from itertools import combinations

import numpy as np
import pytest
import torch
from astropy.visualization import LuptonAsinhStretch, ManualInterval
from astropy.visualization.lupton_rgb import RGBImageMappingLupton

from sdss_photoz.inputs import channels
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.surveys import CUBE, SDSS

HOYLE = ("i-z", "r-i", "g-r", "r")


@pytest.fixture
def flux():
    """Three cubes (3, 64, 64, 5) of noise around a galaxy, nanomaggies."""
    random = np.random.default_rng(4)
    profile = 30 * np.exp(-CUBE.from_centre() / 2)[None, :, :, None] * np.array([0.1, 0.4, 1.0, 1.4, 1.7])
    return (profile + random.normal(0, 1, (3, *CUBE.shape)) * np.array(SDSS.noise)).astype(np.float32)


def _stretched(flux, noise=SDSS.noise):
    return dict(zip("ugriz", np.moveaxis(np.arcsinh(flux.astype(np.float64) / np.array(noise)), -1, 0), strict=True))


def test_pairs_of_ugriz_are_the_fifteen_channels_of_the_paper_that_had_them():
    paper = "u g r i z u-g u-r u-i u-z g-r g-i g-z r-i r-z i-z"
    assert " ".join(Inputs(channels="pairs").channel_names) == paper
    assert Inputs(channels="pairs", bands="gi").channel_names == ("g", "i", "g-i")


def test_pairs_are_stretched_bands_and_their_differences(flux):
    found = Inputs(channels="pairs").images(torch.from_numpy(flux)).numpy()
    bands = _stretched(flux)
    differences = [bands[first] - bands[second] for first, second in combinations("ugriz", 2)]
    expected = np.stack([*bands.values(), *differences], axis=-1)
    assert found.shape == expected.shape == (3, 64, 64, 15)
    assert found == pytest.approx(expected, abs=3e-6)


def test_named_channels_come_in_the_order_of_their_names(flux):
    inputs = Inputs(channels=HOYLE)
    bands = _stretched(flux)
    expected = np.stack([bands["i"] - bands["z"], bands["r"] - bands["i"], bands["g"] - bands["r"], bands["r"]], -1)
    assert inputs.channel_names == HOYLE
    assert inputs.images(torch.from_numpy(flux)).numpy() == pytest.approx(expected, abs=3e-6)


def test_channels_of_some_bands_are_those_of_all(flux):
    some = Inputs(channels=HOYLE, bands="griz")
    found = some.images(some.cut(torch.from_numpy(flux)))
    assert torch.equal(found, Inputs(channels=HOYLE).images(torch.from_numpy(flux)))


def test_the_colours_of_a_lupton_image_and_its_stretch_are_astropys(flux):
    inputs = Inputs(channels="lupton")
    found = inputs.images(torch.from_numpy(flux)).numpy().astype(np.float64)
    assert inputs.channel_names == ("i", "r", "g")
    planes = [flux[..., SDSS.index(band)].astype(np.float64) * weight for band, weight in SDSS.picture.items()]
    width = np.sqrt(sum((SDSS.noise[SDSS.index(band)] * w) ** 2 for band, w in SDSS.picture.items())) / 3
    bright = np.min(planes, axis=0) > width  # where astropy, which draws nothing below zero, draws each colour
    assert bright.sum() > 1000
    top = 1e9  # astropy also lowers what is brighter than its screen, which a network does not have
    mapping = RGBImageMappingLupton(
        interval=ManualInterval(vmin=0, vmax=top), stretch=LuptonAsinhStretch(stretch=1.0, Q=1 / width)
    )
    side_by_side = [plane.reshape(-1, 64) for plane in planes]
    drawn = mapping.make_rgb_image(*side_by_side, output_dtype=np.float64).reshape(found.shape)
    ratio = found[bright] / drawn[bright]
    assert ratio == pytest.approx(np.full_like(ratio, ratio.mean()), rel=1e-5)
    assert found.mean(-1)[bright] == pytest.approx(np.arcsinh(np.mean(planes, axis=0) / width)[bright], rel=1e-5)


def test_a_lupton_image_is_smooth_through_zero_intensity():
    intensity = torch.cat([-torch.logspace(0, -9, 50), torch.zeros(1), torch.logspace(-9, 0, 50)])
    flux = (intensity[:, None, None, None] * torch.tensor([0.0, 0.6, 1.0, 1.2, 0.0])).float()
    found = Inputs(channels="lupton").images(flux)[:, 0, 0]
    assert torch.isfinite(found).all()
    assert (found.mean(-1).diff() >= 0)[:48].all()
    assert torch.equal(found[50], torch.zeros(3))
    assert torch.allclose(found, -found.flip(0), rtol=1e-5)


def test_each_file_is_a_kind_with_names_for_each_of_its_channels(flux):
    kinds = {name for name in channels._MODULES if name != "named"}
    assert kinds == {"bands", "pairs", "lupton"}
    for kind in kinds:
        inputs = Inputs(channels=kind)
        assert inputs.images(torch.from_numpy(flux)).shape == (3, *inputs.shape)
        assert inputs.shape == (64, 64, len(inputs.channel_names))
