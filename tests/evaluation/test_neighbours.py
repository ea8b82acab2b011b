"""Neighbours of a galaxy: other positions, and brighter sources in its image."""

import numpy as np
import pytest

from sdss_photoz.evaluation.neighbours import has_brighter_beside, has_position_beside


@pytest.mark.parametrize(("ra", "dec"), [(180.0, 0.0), (359.9999, 20.0), (30.0, -89.9)])
@pytest.mark.parametrize(("arcsec", "found"), [(0, False), (0.9, False), (1.1, True), (16.9, True), (17.1, False)])
def test_a_position_between_1_and_17_arcsec_is_a_neighbour(ra, dec, arcsec, found):
    other = (ra + arcsec / 3600 / np.cos(np.radians(dec))) % 360
    assert has_position_beside([ra, other, 90.0], [dec, dec, 45.0]).tolist() == [found, found, False]


def source(cube, arcsec, peak, sigma=1.5):
    """Add a Gaussian (sigma in pixels) to the r image, some arcsec to the right of the centre."""
    offset = np.arange(64) - 31.5
    x = offset - arcsec / 0.396
    cube[..., 2] += peak * np.exp(-(offset[:, None] ** 2 + x**2) / 2 / sigma**2)


@pytest.mark.parametrize(
    ("arcsec", "peak", "found"), [(8, 2.0, True), (8, 0.5, False), (3, 0.5, False), (11, 2.0, True)]
)
def test_a_source_that_outshines_the_galaxy_is_a_neighbour(arcsec, peak, found):
    cube = np.random.default_rng(1).normal(0, 0.03, (1, 64, 64, 5)).astype(np.float32)
    source(cube, 0, 1.0, sigma=4)
    source(cube, arcsec, peak)
    assert has_brighter_beside(cube).tolist() == [found]


def test_a_bright_pixel_alone_is_no_source():
    cube = np.zeros((1, 64, 64, 5), np.float32)
    source(cube, 0, 1.0, sigma=4)
    cube[0, 50, 50, 2] = 5
    assert not has_brighter_beside(cube)[0]
