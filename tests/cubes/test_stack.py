"""The stack is the unweighted median over the frames that cover a pixel."""

import numpy as np
import pytest

from sdss_photoz.cubes.stack import median_stack


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 31, 64])
def test_stack_is_the_median_of_what_covers_a_pixel(frames):
    rng = np.random.default_rng(frames)
    layers = rng.normal(size=(frames, 64, 64)).astype("f4")
    layers[rng.random(layers.shape) < 0.3] = np.nan
    layers[:, 5, 7] = np.nan
    flux, depth, covered = median_stack(layers)
    count = np.isfinite(layers).sum(axis=0)
    assert covered == np.count_nonzero(count) < 64 * 64
    assert depth == count.max()
    np.testing.assert_array_equal(np.isnan(flux), count == 0)
    filled = count > 0
    expected = np.nanmedian(layers[:, filled].astype("f8"), axis=0)
    np.testing.assert_allclose(flux[filled], expected, rtol=1e-6, atol=1e-7)


def test_two_frames_give_their_mean_and_three_the_middle_one():
    layers = np.array([1.0, 9.0, 2.0], "f4")[:, None, None] * np.ones((3, 64, 64), "f4")
    assert (median_stack(layers[:2])[0] == 5).all()
    assert (median_stack(layers)[0] == 2).all()


def test_order_of_the_frames_changes_no_bit():
    layers = np.random.default_rng(0).normal(size=(6, 64, 64)).astype("f4")
    np.testing.assert_array_equal(median_stack(layers)[0], median_stack(layers[::-1].copy())[0])
