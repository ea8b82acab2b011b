"""The kernel obeys SWarp's rules: mapping, taps, edges, missing data, flux."""

import warnings

import numba
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sdss_photoz.cubes.compiled import compiled
from sdss_photoz.cubes.frame import Tan, read_wcs
from sdss_photoz.cubes.resample import Projection, lanczos3, resample, window
from sdss_photoz.survey import FRAME_SHAPE, PIXEL_SCALE

STEP = PIXEL_SCALE / 3600


def tan(ra=180.0, dec=30.0, angle=0.0, step=STEP):
    cos, sin = step * np.cos(np.radians(angle)), step * np.sin(np.radians(angle))
    return Tan(ra, dec, 1024.0, 744.0, (-cos, sin, sin, cos))


def grid(ra, dec):
    """The output's WCS as SWarp writes it."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cd = [ra, dec], [32.5, 32.5], np.diag([-STEP, STEP])
    return wcs


def astropy_wcs(terms: Tan):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [terms.ra, terms.dec], [terms.x + 1, terms.y + 1]
    wcs.wcs.cd = np.reshape(terms.cd, (2, 2))
    return wcs


def reference(image, x, y, factor):
    """The rules, pixel by pixel, in float64."""
    out = np.full(x.shape, np.nan)
    for place in np.ndindex(x.shape):
        x0, y0 = int(np.floor(x[place])), int(np.floor(y[place]))
        if not (2 <= x0 <= image.shape[1] - 4 and 2 <= y0 <= image.shape[0] - 4):
            continue
        taps = image[y0 - 2 : y0 + 4, x0 - 2 : x0 + 4].astype(float)
        if np.isfinite(taps).all():
            out[place] = factor * lanczos3(y[place] - y0) @ taps @ lanczos3(x[place] - x0)
    return out


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
    image = np.random.default_rng(3).normal(1, 1, FRAME_SHAPE).astype("f4")
    for x, y in [(900.2, 500.7), (10.4, 1480.1)]:
        ra, dec = map(float, astropy_wcs(terms).wcs_pix2world(x, y, 0))
        homography = Projection(terms).homography(ra, dec)
        columns, rows = np.meshgrid(np.arange(64), np.arange(64))
        mapped = np.einsum("ij,jyx->iyx", homography, np.stack([columns, rows, np.ones((64, 64))]))
        expected = reference(image, mapped[0] / mapped[2], mapped[1] / mapped[2], 1.25)
        found, covered = resample(image, homography, 1.25, exact=exact)
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
        assert covered == np.isfinite(expected).sum() > 1000
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 if not exact else 1e-6)


def test_kernel_compiles_where_no_cache_can_be_kept(monkeypatch):
    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr("sdss_photoz.cubes.compiled.njit", njit)
    assert compiled(lambda x: 2 * x)(3) == 6


def test_weights_have_unit_sum_and_the_form_of_lanczos():
    fractions = np.linspace(0, 1, 1001)
    weights = lanczos3(fractions)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(weights[0], [0, 0, 1, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-14)
    t = 0.5 - np.arange(-2, 4)
    raw = np.sin(np.pi * t) * np.sin(np.pi * t / 3) * 3 / (np.pi * t) ** 2
    np.testing.assert_allclose(weights[500], raw / raw.sum(), rtol=1e-12)


def test_constant_frame_gives_the_ratio_of_areas():
    image = np.full(FRAME_SHAPE, 2.0, "f4")
    terms = tan(step=0.3 / 3600, angle=77.0)
    projection = Projection(terms)
    ra, dec = terms.ra + 0.02, terms.dec - 0.03
    factor = projection.flux_factor(ra, dec)
    assert factor == pytest.approx((0.396 / 0.3) ** 2, rel=1e-5)
    found, covered = resample(image, projection.homography(ra, dec), factor)
    assert covered == 64 * 64
    np.testing.assert_allclose(found, 2 * (0.396 / 0.3) ** 2, rtol=1e-5)


def test_flux_of_a_star_is_kept():
    y, x = np.indices(FRAME_SHAPE, dtype="f4")
    terms = tan(angle=40.0, step=0.95 * STEP)
    spread = 1.4 / 2.355 / (0.95 * 0.396)  # seeing of 1.4 arcsec
    image = np.exp(-((x - 1030.3) ** 2 + (y - 750.9) ** 2) / 2 / spread**2) / (2 * np.pi * spread**2)
    projection = Projection(terms)
    found, _ = resample(image.astype("f4"), projection.homography(terms.ra, terms.dec), projection.flux_factor(180, 30))
    assert found.sum() == pytest.approx(1, abs=2e-3)


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
