"""The stack is the unweighted median, or the mean, over the frames that cover a pixel; trimmed strips count once."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sdss_photoz.cubes.frame import read_frame
from sdss_photoz.cubes.make import stack_cubes
from sdss_photoz.cubes.resample import Projection, resample
from sdss_photoz.cubes.stack import mean_stack, median_stack, trim
from sdss_photoz.surveys.sdss import Frame


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


def plainly_trimmed(layers, frames):
    """For each pixel and strip, the value of the first field that has any: pixel by pixel."""
    kept = np.full(layers.shape, np.nan, "f4")
    for place in np.ndindex(layers.shape[1:]):
        seen = set()
        for k in sorted(range(len(frames)), key=lambda k: frames[k]):
            if np.isfinite(layers[k][place]) and frames[k][:2] not in seen:
                kept[k][place] = layers[k][place]
                seen.add(frames[k][:2])
    return kept


@pytest.mark.parametrize("frames", [1, 2, 5, 64])
def test_mean_is_that_of_what_covers_a_pixel(frames):
    rng = np.random.default_rng(frames)
    layers = rng.normal(1000, 1, size=(frames, 12, 9)).astype("f4")
    layers[rng.random(layers.shape) < 0.3] = np.nan
    layers[:, 5, 7] = np.nan
    flux, depth, covered = mean_stack(layers)
    masked = np.ma.masked_invalid(layers.astype("f8"))
    np.testing.assert_allclose(flux, masked.mean(axis=0).filled(np.nan), rtol=1e-7)
    assert flux.dtype == np.float32
    assert depth == masked.count(axis=0).max()
    assert covered == np.count_nonzero(masked.count(axis=0)) == np.isfinite(flux).sum()


def test_trimmed_strips_vote_once_a_pixel_and_lose_none():
    frames = [(94, 1, 11), (94, 1, 12), (94, 1, 13), (94, 2, 12), (125, 1, 11), (125, 1, 12)]
    rng = np.random.default_rng(3)
    layers = rng.normal(size=(6, 20, 16)).astype("f4")
    layers[rng.random(layers.shape) < 0.4] = np.nan
    layers[:4, 3:6] = np.nan  # one run ends here
    layers[:, 9, 9] = np.nan
    trimmed = layers.copy()
    trim(trimmed, [frame[:2] for frame in frames])
    np.testing.assert_array_equal(trimmed, plainly_trimmed(layers, frames))
    np.testing.assert_array_equal(np.isfinite(trimmed).any(axis=0), np.isfinite(layers).any(axis=0))
    assert np.isfinite(trimmed).sum(axis=0).max() == 3  # strips


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_real_adjacent_fields_count_twice_or_once_on_the_rows_they_share(real_frame):
    """Galaxies along the seam of 3565-1-58 and 59, against each frame resampled alone and combined with plain NumPy."""
    pair = [Frame(3565, 1, 58, "g"), Frame(3565, 1, 59, "g")]
    paths = {frame: real_frame(*frame) for frame in pair}
    opened = {frame: read_frame(path) for frame, path in paths.items()}
    seam = WCS(fits.getheader(paths[pair[0]]))
    x, y = np.meshgrid([300.5, 1700.2], [1300.0, 1362.3, 1395.1, 1425.0, 1487.0, 1550.0])
    ra, dec = seam.wcs_pix2world(x.ravel(), y.ravel(), 0)

    def copies(frame):
        yield paths[frame]

    found = {}
    for rule in ("median", "mean"):
        for rows in ("keep", "trim"):
            flux, depth = np.empty((len(ra), 64, 64, 5), "f4"), np.empty((len(ra), 5), "u2")
            groups = [(frame, np.arange(len(ra))) for frame in reversed(pair)]
            made = stack_cubes(ra, dec, groups, copies, flux, depth, stack=rule, overlap_rows=rows)
            found[rule, rows] = flux[..., 1], depth[:, 1], made
    shared = 0
    for k, place in enumerate(zip(ra, dec, strict=True)):
        alone = []
        for frame in pair:
            projection = Projection(opened[frame].wcs)
            factor = projection.flux_factor(*place)
            alone.append(resample(opened[frame].image, projection.homography(*place), factor)[0])
        first, second = alone
        both = np.isfinite(first) & np.isfinite(second)
        shared += both.any()
        kept = np.where(both, (first + second) / 2, np.where(np.isfinite(first), first, second))
        trimmed = np.where(np.isfinite(first), first, second)
        for (_, rows), (flux, depth, made) in found.items():  # of two, the median is the mean
            np.testing.assert_allclose(flux[k], kept if rows == "keep" else trimmed, rtol=1e-6, atol=1e-7)
            assert depth[k] == (2 if both.any() and rows == "keep" else 1)
            assert made.coverage[k, 1] == np.isfinite(trimmed).mean()
            adds = np.isfinite(second) & ~np.isfinite(first) if rows == "trim" else np.isfinite(second)
            used = [frame for frame, gives in zip(pair, (np.isfinite(first), adds), strict=True) if gives.any()]
            assert list(made.used[k, 1]) == used
    assert 4 <= shared < len(ra)
