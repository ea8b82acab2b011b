"""The first layer that measures colours, beside the same sums in numpy."""

import numpy as np
import pytest
import torch

from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.inputs.stretch import stretch, unstretch
from sdss_photoz.networks.parts.photometry import MAGNITUDE, MAGNITUDE_SCATTER, Photometry
from sdss_photoz.networks.parts.photometry import MEDIAN as COLOUR_MEDIAN
from sdss_photoz.networks.parts.photometry import SCATTER as COLOUR_SCATTER
from sdss_photoz.surveys import CUBE, SDSS

MEDIAN, SCATTER = (MAGNITUDE, *COLOUR_MEDIAN), (MAGNITUDE_SCATTER, *COLOUR_SCATTER)

KINDS = ("asinh", "sqrt", "gamma", "none")


def galaxy(magnitudes, sigma=4.0, seed=None):
    """A round Gaussian galaxy (1, 64, 64, 5) of given ugriz magnitudes, with noise where there is a seed."""
    y, x = np.mgrid[:64, :64] - 31.5
    profile = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    flux = profile[..., None] / profile.sum() * 10 ** (0.4 * (22.5 - np.asarray(magnitudes)))
    noise = 0 if seed is None else np.random.default_rng(seed).normal(0, SDSS.noise, flux.shape)
    return torch.from_numpy(flux + noise).float()[None]


def measured(cubes, kind="none"):
    """Features (aperture, r and four colours), as magnitudes."""
    features = Photometry(Inputs(CUBE, kind))(stretch(cubes, kind))[0].reshape(4, 5)
    return features.numpy() * np.array(SCATTER) + np.array(MEDIAN)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stretch_can_be_undone(kind):
    flux = torch.cat([galaxy((18, 17, 16, 15.5, 15)), -galaxy((20, 20, 20, 20, 20), seed=1)])
    torch.testing.assert_close(unstretch(stretch(flux, kind), kind), flux, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_colours_and_brightness_are_those_of_the_galaxy(kind):
    u, g, r, i, z = magnitudes = (18.9, 17.2, 16.4, 16.0, 15.7)
    found = measured(galaxy(magnitudes), kind)
    assert found[:, 1:] == pytest.approx(np.tile([u - g, g - r, r - i, i - z], (4, 1)), abs=2e-3)
    within = np.array([sigma**2 / (sigma**2 + 4.0**2) for sigma in (1.5, 3.0, 6.0, 12.0)])  # of a Gaussian by another
    assert found[:, 0] == pytest.approx(r - 2.5 * np.log10(within), abs=2e-3)


def test_it_is_the_sum_over_each_aperture_with_noise_that_softens_the_magnitude():
    cubes = galaxy((23, 22, 21.5, 21, 21), seed=2)
    found = measured(cubes)
    y, x = np.mgrid[:64, :64] - 31.5
    for features, sigma in zip(found, (1.5, 3.0, 6.0, 12.0), strict=True):
        weight = np.exp(-(x**2 + y**2) / (2 * sigma**2))
        flux = np.einsum("yx,yxb->b", weight, cubes[0].numpy().astype(float))
        softening = np.sqrt((weight**2).sum()) * np.array(SDSS.noise)
        u, g, r, i, z = 22.5 - 2.5 / np.log(10) * (np.arcsinh(flux / (2 * softening)) + np.log(softening))
        clipped = np.array(MEDIAN) + np.clip(
            (np.array([r, u - g, g - r, r - i, i - z]) - MEDIAN) / np.array(SCATTER), -4, 4
        ) * np.array(SCATTER)
        assert features == pytest.approx(clipped, abs=1e-4)


def test_no_symmetry_of_the_square_changes_it():
    cubes, layer = galaxy((18, 17, 16, 15.5, 15), seed=3), Photometry(Inputs(CUBE, "none"))
    turned = [torch.rot90(flipped, k, (1, 2)) for flipped in (cubes, cubes.flip(1)) for k in range(4)]
    for other in turned:
        torch.testing.assert_close(layer(other), layer(cubes), rtol=0, atol=1e-4)


def test_at_the_edges_of_frames_colours_are_those_of_the_pixels_that_all_bands_have():
    u, g, r, i, z = magnitudes = (18.9, 17.2, 16.4, 16.0, 15.7)
    cubes = galaxy(magnitudes)
    for band, last in enumerate((36, 34, 40, 38, 35)):
        cubes[:, :, last:, band] = 0
    assert measured(cubes)[:, 1:] == pytest.approx(np.tile([u - g, g - r, r - i, i - z], (4, 1)), abs=5e-3)


def test_a_band_without_frames_and_negative_flux_are_numbers_within_bounds():
    empty, negative = galaxy((18, 17, 16, 15.5, 15)), -galaxy((14, 14, 14, 14, 14))
    empty[..., 0] = 0
    features = Photometry(Inputs(CUBE, "none"))(torch.cat([empty, negative]))
    assert features.isfinite().all()
    assert features.abs().max() <= 4


def test_bfloat16_around_it_does_not_round_it():
    cubes, layer = galaxy((18, 17, 16, 15.5, 15), seed=4), Photometry(Inputs(CUBE, "asinh"))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(cubes)
    assert torch.equal(rounded, layer(cubes))


@pytest.mark.parametrize(("bands", "kept"), [("griz", [0, 2, 3, 4]), ("ri", [0, 3])])
def test_fewer_bands_give_the_same_numbers_but_those_of_the_others(bands, kept):
    cubes, grid = galaxy((18, 17, 16, 15.5, 15), seed=4), CUBE._replace(bands=tuple(bands))
    some = cubes[..., [CUBE.index(band) for band in bands]]
    found, whole = Photometry(Inputs(grid, "none"))(some), Photometry(Inputs(CUBE, "none"))(cubes)
    torch.testing.assert_close(found.reshape(4, -1), whole.reshape(4, 5)[:, kept])


def test_across_a_band_that_is_left_out_a_colour_is_the_sum_of_two():
    layer = Photometry(Inputs(CUBE._replace(bands=("g", "i", "z")), "none"))
    cubes = galaxy((18.0, 17.0, 16.0, 15.5, 15.0))[..., [1, 3, 4]]
    found = layer(cubes)[0].reshape(4, 3) * layer.scatter + layer.median
    np.testing.assert_allclose(found[1:, 1:], [[1.5, 0.5]] * 3, atol=0.01)
    assert layer.main == 1
    np.testing.assert_allclose(layer.median, [18.25 - 0.4, 1.2, 0.3], rtol=1e-6)


def test_apertures_are_of_the_same_size_on_the_sky_for_smaller_pixels():
    magnitudes = (18, 17, 16, 15.5, 15)
    half = Photometry(Inputs(CUBE._replace(pixel_scale=CUBE.pixel_scale / 2), "none"))
    few, many = Photometry(Inputs(CUBE, "none"))(galaxy(magnitudes, 2.0)), half(galaxy(magnitudes, 4.0))
    np.testing.assert_allclose(many.reshape(4, 5)[:3], few.reshape(4, 5)[:3], atol=0.02)
