"""Cutouts keep flux and sky under any shift, rotation and scale of the frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.projections import STEP, astropy_wcs, grid

from sdss_photoz.cubes.frame import Tan
from sdss_photoz.cubes.resample import Projection, resample, resample_grids, window
from sdss_photoz.surveys.sphere import unit_vectors

SMALL = (150, 160)  # rows, columns: the properties hold for any frame
angles, scales = st.floats(0, 360), st.floats(0.999, 1.001)  # of the survey's frames: real pixels have 0.39614 arcsec


def turned(ra=180.0, dec=30.0, angle=0.0, scale=1.0, parity=1, x=80.0, y=75.0):
    """A small frame's projection: its columns turned by an angle, its pixels scaled, perhaps mirrored."""
    cos, sin = scale * STEP * np.cos(np.radians(angle)), scale * STEP * np.sin(np.radians(angle))
    return Tan(ra, dec, x, y, (-cos * parity, sin, sin * parity, cos))


def solid_angle(wcs, x, y):
    """Area on the sky (steradian) of a pixel: half the cross product of its diagonals, which are short."""
    a, b, c, d = unit_vectors(*wcs.wcs_pix2world(x + np.array([-50, 50, 50, -50]), y + np.array([-50, -50, 50, 50]), 0))
    return np.linalg.norm(np.cross(c - a, d - b)) / 2


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0, 360),
    st.floats(-88, 88),
    angles,
    st.floats(0.5, 2),
    st.tuples(st.floats(0, 2047), st.floats(0, 1488)),
    st.floats(-9, 9),
)
def test_constant_frame_gives_that_constant_times_the_ratio_of_areas(ra, dec, angle, scale, pixel, constant):
    """At any place of a frame. SWarp's ratio is not quite that of astropy's pixels: its cos^3 is on the other side."""
    x, y = pixel
    whole = turned(ra, dec, angle, scale, x=1024.0, y=744.0)
    at = tuple(map(float, astropy_wcs(whole).wcs_pix2world(x, y, 0)))
    factor = Projection(whole).flux_factor(*at)
    ratio = solid_angle(grid(*at), 31.5, 31.5) / solid_angle(astropy_wcs(whole), x, y)
    cosine = unit_vectors(*at) @ unit_vectors(ra, dec)
    assert factor == pytest.approx(ratio * cosine**6, rel=2e-7)
    assert factor == pytest.approx(ratio, rel=3e-5 * scale**2)
    part = whole._replace(x=whole.x - x + 80, y=whole.y - y + 75)  # cut out of the frame
    image = np.full(SMALL, constant, "f4")
    found, covered, missing = resample_grids(
        image, Projection(part).homography(*at)[None], [factor], shape=SMALL, exact=True
    )
    assert covered[0] > 64 * 64 / 5
    assert missing[0] == 0
    np.testing.assert_allclose(found[np.isfinite(found)], np.float32(constant) * factor, rtol=2e-7, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(-40, 40), st.integers(-40, 40), angles, st.integers(0, 2**32 - 1))
def test_frame_shifted_by_whole_pixels_shifts_nothing_but_indices(columns, rows, angle, seed):
    """The same pixels under other indices, CRVAL on another one, give the same cutout up to the rounding of x + 40."""
    image = np.random.default_rng(seed).normal(size=(340, 340)).astype("f4")
    near, moved = turned(angle=angle, x=170.0, y=170.0), turned(angle=angle, x=170.0 + columns, y=170.0 + rows)
    homographies = [Projection(terms).homography(180.001, 30.002) for terms in (near, moved)]
    (y, x), (y_moved, x_moved) = (window(one, image.shape) for one in homographies)
    assert (y_moved.start - y.start, x_moved.start - x.start) == (rows, columns)
    rolled = np.roll(image, (rows, columns), axis=(0, 1))
    expected, found = (
        resample(pixels, homography, 1.0, shape=image.shape)[0]
        for pixels, homography in zip((image, rolled), homographies, strict=True)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(-30, 30), st.floats(0, 360), st.booleans())
def test_crval_shifted_by_whole_pixels_along_the_equator_is_a_shift_of_indices(pixels, ra, exact):
    """There a step in right ascension is a step of columns, to 1e-6 pixels over so small a frame."""
    y, x = np.indices((340, 340))
    image = (np.sin(x / 5) + np.cos(y / 7)).astype("f4")
    first, second = (turned(ra + shift * STEP, 0.0, x=170.0, y=170.0) for shift in (0, pixels))
    here, there = (Projection(terms).homography(ra + 0.001, 0.002) for terms in (first, second))
    expected = resample(image, here, 1.0, exact=exact, shape=image.shape)[0]
    rolled = np.roll(image, pixels, axis=1)
    np.testing.assert_allclose(resample(rolled, there, 1.0, exact=exact, shape=image.shape)[0], expected, atol=3e-6)


def sky(wcs, shape, spread=0.7 / 3600):
    """A frame's image of five sources of given positions on the sky, as surface brightness (per square degree)."""
    ra, dec = wcs.wcs_pix2world(*np.indices(shape)[::-1], 0)
    image = np.zeros(shape)
    for k, (east, north) in enumerate([(0, 0), (6, 3), (-4, 7), (-8, -6), (3, -9)]):
        apart = np.hypot((ra - 180 - east / 3600) * np.cos(np.radians(dec)), dec - 30 - north / 3600)
        image += (k + 1) * np.exp(-((apart / spread) ** 2) / 2)
    return image


@settings(max_examples=15, deadline=None)
@given(angles, st.sampled_from([-1, 1]), scales, st.floats(70, 90), st.floats(65, 85))
def test_rotation_of_the_frame_leaves_the_sky_where_it_is(angle, parity, scale, x, y):
    """Whatever its angle and handedness, the cutout shows the sources where the grid's own WCS puts them."""
    terms = turned(angle=angle, parity=parity, scale=scale, x=x, y=y)
    image = sky(astropy_wcs(terms), SMALL).astype("f4")
    found, covered = resample(image, Projection(terms).homography(180.0, 30.0), 1.0, shape=SMALL)
    expected = sky(grid(180.0, 30.0), (64, 64))
    assert covered == 64 * 64
    assert np.abs(found - expected).max() < 0.02 * expected.max()
    assert np.abs(found - expected[::-1]).max() > 0.3 * expected.max()
    weighted = [(frame * np.indices((64, 64))).sum(axis=(1, 2)) / frame.sum() for frame in (found, expected)]
    np.testing.assert_allclose(*weighted, rtol=0, atol=0.03)  # pixels: no six taps keep a slope exactly


def test_flux_of_a_point_source_is_kept_to_half_a_percent(capsys):
    """Seeing of 0.9 to 2 arcsec, everywhere in a pixel, at any angle, pixels as large as the survey's.

    In pixels that are a tenth larger or smaller than the grid's it would be kept to a percent.
    """
    rng = np.random.default_rng(11)
    y, x = np.indices(SMALL)
    worst = {}
    for seeing in (0.9, 1.1, 1.4, 2.0):
        losses = []
        for _ in range(25):
            scale = rng.uniform(0.999, 1.001)
            terms = turned(angle=rng.uniform(0, 360), scale=scale, x=80 + rng.uniform(), y=75 + rng.uniform())
            spread = seeing / 2.3548 / (0.396 * scale)
            star = (80 + rng.uniform(-3, 3), 75 + rng.uniform(-3, 3))
            image = np.exp(-((x - star[0]) ** 2 + (y - star[1]) ** 2) / 2 / spread**2) / (2 * np.pi * spread**2)
            projection = Projection(terms)
            factor = projection.flux_factor(180.0, 30.0)
            found, _ = resample(image.astype("f4"), projection.homography(180.0, 30.0), factor, shape=SMALL)
            losses.append(found.sum(dtype=float) - 1)
        worst[seeing] = max(losses, key=abs)
    with capsys.disabled():
        print(
            "\nflux of a point source by seeing:", {seeing: f"{loss:+.1e}" for seeing, loss in worst.items()}, end=" "
        )
    assert max(map(abs, worst.values())) < 5e-3
