"""Colour images of cubes."""

import numpy as np

from sdss_photoz.report.colour import BLANK, bands_drawn, colour_image, describe


def spot(*, g=1.0, r=1.0, i=1.0):
    """A round source of the given peaks (nanomaggies), right of the middle and above it."""
    y, x = np.mgrid[:64, :64]
    light = np.exp(-((y - 40) ** 2 + (x - 50) ** 2) / 18)
    return light[..., None] * np.array([0.3, g, r, i, 1.0])


def test_a_source_brighter_in_i_is_red_and_one_brighter_in_g_blue():
    red, _, blue = colour_image(spot(g=0.2, r=0.8, i=1.5))[40, 50].astype(int)
    assert red > blue + 50
    red, _, blue = colour_image(spot(g=1.5, r=0.8, i=0.4))[40, 50].astype(int)
    assert blue > red + 50


def test_image_keeps_the_axis_order_of_the_cube():
    image = colour_image(spot())
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    assert np.unravel_index(image.sum(axis=2).argmax(), (64, 64)) == (40, 50)


def test_uncovered_pixels_are_black_and_change_no_others():
    cube = spot()
    whole = colour_image(cube)
    cube[:10] = np.nan
    image = colour_image(cube)
    assert (image[:10] == 0).all()
    assert (image[10:] == whole[10:]).all()


def test_uncovered_pixels_can_be_told_from_dark_ones():
    cube = spot() + 1e-6
    cube[:10, :, 2] = np.nan  # r alone
    cube[10:20] = 0  # as cubes are loaded
    cube[20:30, :, 0] = 0  # u is not drawn
    image = colour_image(cube, BLANK)
    assert (image[:20] == BLANK).all()
    assert not (image[20:] == BLANK).all(axis=2).any()


def test_a_galaxy_without_light_is_black():
    assert (colour_image(np.zeros((64, 64, 5))) == 0).all()


def test_without_i_r_and_g_other_bands_are_drawn_and_of_fewer_than_three_one_in_grey():
    assert bands_drawn("ugriz") == bands_drawn("griz") == ("i", "r", "g")
    assert bands_drawn("uriz") == ("z", "i", "u")
    assert bands_drawn("gz") == ("z",)
    assert describe("uriz") == "colour image from the z, i and u bands"
    assert describe("r") == "image from the r band"
    cube = np.zeros((3, 3, 2))
    cube[1, 1], cube[0, 0] = 2.0, (1.0, 0.0)
    image = colour_image(cube, BLANK, ("g", "r"))
    assert (image[1, 1] == image[1, 1, 0]).all()
    assert image[1, 1, 0] > 100
    assert tuple(image[0, 0]) == BLANK, "r, which is drawn, is not covered there"
