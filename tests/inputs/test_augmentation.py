"""Training images that are changed at random, beside scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from sdss_photoz.inputs.augmentation import Augmentation
from sdss_photoz.inputs.hashing import hash_words, uniform
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.inputs.symmetry import transform

MANY = torch.arange(3000) * 977
ALL = Augmentation(rotation=True, shift=3.0, zoom=1.3, noise=0.5)


@pytest.fixture
def cube():
    """One cube (1, 33, 33, 2) of smooth blobs, off the centre."""
    y, x = np.mgrid[:33, :33]
    blobs = [np.exp(-((y - 12) ** 2 + (x - 20) ** 2) / 30), np.exp(-((y - 18) ** 2 / 20 + (x - 14) ** 2 / 60))]
    return torch.tensor(np.stack(blobs, axis=-1)[None], dtype=torch.float32)


def _affine(augmentation, word, side=33):
    """Matrix and offset by which scipy reads pixel (y, x) of the moved image in the cube."""
    places = augmentation.places(torch.tensor([word]), side, 33)[0].numpy().astype(np.float64)
    places = places[..., ::-1] * 33 / 2 + 16  # (y, x) in pixels of the cube
    matrix = np.stack([places[1, 0] - places[0, 0], places[0, 1] - places[0, 0]], axis=1)
    return matrix, places[0, 0]


@pytest.mark.parametrize("word", [0, 1, 123_456])
def test_a_moved_image_is_scipys_affine_transform(cube, word):
    found = ALL.moved(cube, torch.tensor([word]), 33)[0].numpy()
    matrix, offset = _affine(ALL, word)
    for band in range(2):
        expected = ndimage.affine_transform(cube[0, ..., band].numpy(), matrix, offset, order=1, cval=np.nan)
        inside = np.isfinite(expected)
        assert inside.mean() > 0.5
        assert found[..., band][inside] == pytest.approx(expected[inside], abs=1e-4)


@pytest.mark.parametrize("word", range(5))
def test_the_moves_are_a_rotation_a_zoom_and_a_shift_within_their_limits(word):
    matrix, offset = _affine(ALL, word)
    scale = np.sqrt(np.linalg.det(matrix))
    assert 1 / 1.3 <= scale <= 1.3
    assert matrix @ matrix.T == pytest.approx(scale**2 * np.eye(2), abs=1e-5)
    shift = np.linalg.solve(matrix, np.full(2, 16.0) - offset) - 16  # where the centre of the cube comes to lie
    assert np.abs(shift).max() <= 3 + 1e-4


def test_a_galaxy_that_is_magnified_is_larger_at_the_same_surface_brightness(cube):
    zoom = Augmentation(zoom=1.5)
    y, x = np.mgrid[:33, :33] - 16.0
    cube[0, ..., 0] = torch.tensor(np.exp(-(y**2 + x**2) / 18))
    words = torch.arange(50)
    moved = zoom.moved(cube.expand(50, -1, -1, -1), words, 33)[..., 0].nan_to_num(0)
    factor = np.array([1 / np.sqrt(np.linalg.det(_affine(zoom, int(word))[0])) for word in words])
    assert factor.min() < 0.75
    assert factor.max() > 1.4
    assert moved.sum((1, 2)).numpy() == pytest.approx(18 * np.pi * factor**2, rel=0.03)
    assert moved.amax((1, 2)).numpy() == pytest.approx(1, abs=0.01)


def test_draws_are_uniform_between_their_limits_and_independent():
    matrices, offsets = zip(*(_affine(ALL, int(word)) for word in MANY), strict=True)
    matrices, offsets = np.array(matrices), np.array(offsets)
    scale = np.sqrt(np.linalg.det(matrices))
    angle = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    shift = np.linalg.solve(matrices, (16.0 - offsets)[..., None])[..., 0] - 16
    draws = [
        angle / (2 * np.pi) % 1,
        np.log(scale) / np.log(1.3) / 2 + 0.5,
        shift[:, 0] / 6 + 0.5,
        shift[:, 1] / 6 + 0.5,
    ]
    for place, draw in enumerate(draws):
        assert stats.kstest(draw, "uniform").pvalue > 0.001
        for other in draws[:place]:
            assert abs(stats.spearmanr(draw, other)[0]) < 0.06


def test_noise_is_gaussian_of_the_asked_width_in_each_band_and_new_for_each_word():
    flux, width = torch.zeros(64, 16, 16, 2), torch.tensor([0.02, 3.0])
    drawn = Augmentation(noise=0.5).with_noise(flux, MANY[:64], width)
    for band in range(2):
        scaled = (drawn[..., band] / (0.5 * width[band])).flatten().numpy()
        assert stats.kstest(scaled, "norm").pvalue > 0.001
    flat = drawn.flatten(1).numpy() / np.tile(width, 256)
    between = np.corrcoef(flat)[np.triu_indices(64, 1)]
    assert np.abs(between).max() < 0.25
    assert between.std() == pytest.approx(1 / np.sqrt(512), rel=0.1)


def test_neighbouring_words_give_uniform_draws():
    draws = uniform(hash_words(torch.arange(30_000))).numpy()
    assert stats.kstest(draws, "uniform").pvalue > 0.001
    assert abs(stats.spearmanr(draws[:-1], draws[1:])[0]) < 0.02


def test_the_same_word_gives_the_same_image_and_another_another(cube):
    inputs = Inputs(stretch="none", augmentation=ALL)
    flux = cube.expand(3, -1, -1, -1)
    found = ALL.moved(flux, torch.tensor([5, 5, 6]), 33).nan_to_num(0)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert inputs.augmentation.words


def test_quarter_turns_without_other_moves_are_the_symmetries(cube):
    """The direction of a rotation, and that an interpolated image has the orientation of one read by index."""
    turned = Augmentation(rotation=True)
    for word in range(2000):
        matrix, _ = _affine(turned, word)
        quarter = np.rint(matrix)
        if np.abs(matrix - quarter).max() < 2e-3:
            found = turned.moved(cube, torch.tensor([word]), 33).nan_to_num(0)
            nearest = min(
                (found - transform(cube, symmetry)).abs()[:, 2:31, 2:31].max().item() for symmetry in range(4)
            )
            assert nearest < 0.01
            break
    else:
        pytest.fail("no word gives a quarter turn")
