"""The kernel obeys SWarp's rules: mapping, taps, edges, missing data."""

import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.projections import STEP, astropy_wcs, grid

from sdss_photoz.cubes.frame import Tan, read_wcs
from sdss_photoz.cubes.resample import Projection, lanczos3, resample, resample_grids, resample_positions, window
from sdss_photoz.surveys.sdss import FRAME_SHAPE


def tan(ra=180.0, dec=30.0, angle=0.0, step=STEP):
    cos, sin = step * np.cos(np.radians(angle)), step * np.sin(np.radians(angle))
    return Tan(ra, dec, 1024.0, 744.0, (-cos, sin, sin, cos))


def mapped(homography):
    """Frame positions x, y of the grid's pixels."""
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    x, y, w = np.einsum("ij,jyx->iyx", homography, np.stack([columns, rows, np.ones((64, 64))]))
    return x / w, y / w


def reference(image, x, y, factor=1.0):
    """The rules, written plainly in float64: values, and where a tap inside the image is not finite."""
    x0, y0 = np.floor(x), np.floor(y)
    inside = (x0 >= 2) & (x0 <= image.shape[1] - 4) & (y0 >= 2) & (y0 <= image.shape[0] - 4)
    taps = np.arange(-2, 4)
    columns = np.where(inside, x0, 2)[..., None].astype(int) + taps
    rows = np.where(inside, y0, 2)[..., None].astype(int) + taps
    values = image[rows[..., :, None], columns[..., None, :]].astype(float)
    out = factor * np.einsum("...m,...mk,...k", lanczos3(y - y0), values, lanczos3(x - x0))
    missing = inside & ~np.isfinite(values).all(axis=(-2, -1))
    return np.where(inside & ~missing, out, np.nan), missing


@pytest.mark.parametrize("dec", [-0.107, 30.0, 62.0, 89.5])
@pytest.mark.parametrize("angle", [0.0, 90.0, 213.0])
def test_homography_is_astropy_wcs_to_1e_8_pixels(dec, angle):
    terms = tan(ra=359.99, dec=dec, angle=angle)
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    for x, y in [(1024, 744), (3, 5), (2040, 1480), (-20, 700)]:
        ra, dec_galaxy = map(float, astropy_wcs(terms).wcs_pix2world(x, y, 0))
        sky = grid(ra, dec_galaxy).wcs_pix2world(columns, rows, 0)
        expected = astropy_wcs(terms).wcs_world2pix(*sky, 0)
        mapped = Projection(terms).homography(ra, dec_galaxy) @ np.stack(
            [columns.ravel(), rows.ravel(), np.ones(64 * 64)]
        )
        np.testing.assert_allclose(mapped[0] / mapped[2], expected[0].ravel(), rtol=0, atol=1e-8)
        np.testing.assert_allclose(mapped[1] / mapped[2], expected[1].ravel(), rtol=0, atol=1e-8)


def test_real_headers_map_as_astropy_maps_them(real_frame):
    for key in [(2820, 3, 122, "z"), (3900, 6, 269, "u"), (4510, 4, 30, "r")]:
        path = real_frame(*key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the survey's deprecated spellings
            wcs = WCS(fits.getheader(path))
        ra, dec = map(float, wcs.wcs_pix2world(700.3, 900.8, 0))
        x, y, w = Projection(read_wcs(path)).homography(ra, dec) @ [31.5, 31.5, 1]
        assert (x / w, y / w) == pytest.approx((700.3, 900.8), abs=1e-8)


@pytest.mark.parametrize("exact", [False, True])
def test_kernel_equals_the_rules_written_plainly(exact):
    terms = tan(angle=31.0)
    rng = np.random.default_rng(3)
    image = rng.normal(1, 1, FRAME_SHAPE).astype("f4")
    image[rng.integers(0, FRAME_SHAPE[0], 500), rng.integers(0, FRAME_SHAPE[1], 500)] = np.nan
    image[510:520, 900] = np.inf
    pixels = [(900.2, 500.7), (10.4, 1480.1), (2040.0, 30.0), (-300.0, 20.0)]
    ra, dec = astropy_wcs(terms).wcs_pix2world(*np.transpose(pixels), 0)
    homographies = Projection(terms).homography(ra, dec)
    factors = np.array([1.25, 0.8, 1.0, 1.0])
    found, covered, missing = resample_grids(image, homographies, factors, exact=exact)
    for k, homography in enumerate(homographies):
        expected, holes = reference(image, *mapped(homography), factors[k])
        np.testing.assert_array_equal(np.isfinite(found[k]), np.isfinite(expected))
        assert (covered[k], missing[k]) == (np.isfinite(expected).sum(), holes.sum())
        np.testing.assert_allclose(found[k], expected, rtol=0, atol=3e-6 if not exact else 1e-6)
    assert covered.tolist()[3] == 0
    assert missing[0] > 100
    assert (covered[:3] > 500).all()


@pytest.mark.parametrize("exact", [False, True])
def test_threads_and_company_change_no_bit(exact):
    rng = np.random.default_rng(4)
    image = rng.normal(size=FRAME_SHAPE).astype(">f4")
    projection = Projection(tan(angle=70.0))
    pixels = [*rng.uniform(0, (2047, 1488), (5, 2)), (-5, 700), (2040, 1480), (900, 10), (-300, 700)]
    where = astropy_wcs(tan(angle=70.0)).wcs_pix2world(pixels, 0)
    ra, dec = where.T
    homographies, factors = projection.homography(ra, dec), projection.flux_factor(ra, dec)
    alone = [resample(image, projection.homography(*at), projection.flux_factor(*at), exact=exact) for at in where]
    for threads in (1, 2, 3, 16):
        found, covered, _ = resample_grids(image, homographies, factors, exact=exact, threads=threads)
        np.testing.assert_array_equal(found, [one for one, _ in alone])
        assert covered.tolist() == [count for _, count in alone]
    assert len(set(covered.tolist())) > 3
    none, covered, missing = resample_grids(image, np.empty((0, 3, 3)), np.empty(0), threads=2)
    assert none.shape == (0, 64, 64)
    assert covered.shape == missing.shape == (0,)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-5, 45), st.floats(-5, 35), st.floats(-1, 1), st.floats(0, 360), st.integers(0, 2**32 - 1), st.booleans()
)
def test_any_positions_equal_the_rules_written_plainly(x, y, step, angle, seed, exact):
    """Steps of up to a pixel in any direction, over all edges of a small image with holes, in either byte order."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(30, 40)).astype(">f4" if exact else "f4")
    image[rng.integers(0, 30, 3), rng.integers(0, 40, 3)] = np.nan
    along = step * np.arange(-20, 20)
    xs, ys = x + along * np.cos(np.radians(angle)), y + along * np.sin(np.radians(angle))
    found = resample_positions(image, xs.reshape(5, 8), ys.reshape(5, 8), exact=exact)
    expected, _ = reference(image, xs.reshape(5, 8), ys.reshape(5, 8))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 if exact else 5e-6)
    assert np.isnan(resample_positions(image, [np.nan, np.inf, 1e300], [10.0, 10.0, -1e300])).all()


def test_weights_have_unit_sum_and_the_form_of_lanczos():
    fractions = np.linspace(0, 1, 1001)
    weights = lanczos3(fractions)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(weights[0], [0, 0, 1, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-14)
    t = 0.5 - np.arange(-2, 4)
    raw = np.sin(np.pi * t) * np.sin(np.pi * t / 3) * 3 / (np.pi * t) ** 2
    np.testing.assert_allclose(weights[500], raw / raw.sum(), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_missing_value_uncovers_the_36_pixels_whose_taps_it_is(bad):
    image = np.ones(FRAME_SHAPE, "f4")
    image[744, 1024] = bad
    terms = Tan(180.0, 30.0, 1024.0, 744.0, (-STEP, 0.0, 0.0, STEP))
    found, covered = resample(image, Projection(terms).homography(180.0, 30.0), 1.0)
    assert covered == 64 * 64 - 36
    rows, columns = np.nonzero(np.isnan(found))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (29, 34, 29, 34)


@pytest.mark.parametrize("exact", [False, True])
def test_no_partial_kernel_at_the_edges(exact):
    image = np.ones(FRAME_SHAPE, "f4")
    terms = tan()
    for x, y in [(0.0, 700.0), (2047.0, 700.0), (700.0, 0.0), (700.0, 1488.0), (2.6, 1484.8)]:
        ra, dec = map(float, astropy_wcs(terms).wcs_pix2world(x, y, 0))
        homography = Projection(terms).homography(ra, dec)
        columns, rows = np.meshgrid(np.arange(64), np.arange(64))
        mapped = np.einsum("ij,jyx->iyx", homography, np.stack([columns, rows, np.ones((64, 64))]))
        x0, y0 = np.floor(mapped[0] / mapped[2]), np.floor(mapped[1] / mapped[2])
        inside = (x0 >= 2) & (x0 <= 2048 - 4) & (y0 >= 2) & (y0 <= 1489 - 4)
        found, covered = resample(image, homography, 1.0, exact=exact)
        np.testing.assert_array_equal(np.isfinite(found), inside)
        assert 0 < covered < 64 * 64


def test_rows_after_the_window_are_not_read():
    rng = np.random.default_rng(5)
    image = rng.normal(size=FRAME_SHAPE).astype("f4")
    for angle in (0.0, 90.0, 33.0):
        terms = tan(angle=angle)
        for x, y in [(1000.0, 300.4), (30.0, 1470.0), (1000.0, -20.0)]:
            ra, dec = map(float, astropy_wcs(terms).wcs_pix2world(x, y, 0))
            homography = Projection(terms).homography(ra, dec)
            stop = window(homography)[0].stop
            whole, covered = resample(image, homography, 1.0)
            part, _ = resample(image[:stop].copy(), homography, 1.0)
            np.testing.assert_array_equal(part, whole)
            assert covered > 0
            with pytest.raises(ValueError, match="rows"):
                resample(image[: stop - 1].copy(), homography, 1.0)


def test_a_galaxy_has_the_same_terms_alone_and_among_others():
    """So a chunk may be cut into parts and no bit changes."""
    rng = np.random.default_rng(2)
    projection, ra, dec = Projection(tan(angle=33.0)), 180 + rng.uniform(-0.2, 0.2, 99), 30 + rng.uniform(-0.2, 0.2, 99)
    for of in (projection.homography, projection.flux_factor):
        together = of(ra, dec)
        for first, last in [(0, 1), (1, 8), (8, 99)]:
            np.testing.assert_array_equal(of(ra[first:last], dec[first:last]), together[first:last])
        np.testing.assert_array_equal([of(*place) for place in zip(ra, dec, strict=True)], together)


def test_byte_order_of_the_file_changes_no_bit():
    image = np.random.default_rng(8).normal(size=FRAME_SHAPE).astype("f4")
    homography = Projection(tan(angle=12.0)).homography(180.1, 30.01)
    np.testing.assert_array_equal(
        resample(image.astype(">f4"), homography, 1.1)[0], resample(image, homography, 1.1)[0]
    )


def test_frame_elsewhere_on_the_sky_needs_no_rows():
    projection = Projection(tan())
    for ra, dec in [(180.0, 31.0), (182.0, 30.0), (0.0, -30.0), (90.0, 0.0)]:
        homography = projection.homography(ra, dec)
        assert window(homography) is None
        out, covered = resample(np.empty((0, FRAME_SHAPE[1]), "f4"), homography, 1.0)
        assert covered == 0
        assert np.isnan(out).all()


def test_middle_of_the_frame_is_where_astropy_puts_it():
    for angle, dec in [(0.0, 30.0), (123.0, -9.0), (90.0, 85.0)]:
        terms = tan(dec=dec, angle=angle)
        expected = astropy_wcs(terms).wcs_pix2world(1023.5, 744.0, 0)
        np.testing.assert_allclose(Projection(terms).centre(), expected, atol=1e-10)


def test_reproject_with_our_weights_gives_the_same_pixels():
    """An outside oracle for mapping and orientation: bicubic interpolation of a smooth scene."""
    reproject = pytest.importorskip("reproject")
    y, x = np.indices(FRAME_SHAPE, dtype=float)
    image = (np.sin(x / 21) * np.cos(y / 17) + 2).astype("f4")
    terms = tan(angle=58.0)
    ra, dec = map(float, astropy_wcs(terms).wcs_pix2world(1200.3, 333.3, 0))
    found, _ = resample(image, Projection(terms).homography(ra, dec), 1.0)
    expected = reproject.reproject_interp(
        (image, astropy_wcs(terms)), grid(ra, dec), shape_out=(64, 64), order="bicubic", return_footprint=False
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    assert np.abs(found - expected[::-1]).max() > 0.1
    assert np.abs(found - expected[:, ::-1]).max() > 0.1
