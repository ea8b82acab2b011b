"""The kernel in reproject's calling convention: the cubes' own pixels, SWarp's mosaic, and any celestial projection."""

import functools
import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.nddata import NDData
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_pixel
from reproject import reproject_interp
from reproject.mosaicking import reproject_and_coadd

from sdss_photoz.cubes.cutouts import cutouts
from sdss_photoz.cubes.frame import read_wcs
from sdss_photoz.cubes.reproject_lanczos3 import _mapping, reproject_lanczos3
from sdss_photoz.cubes.resample import Projection, resample
from sdss_photoz.cubes.store import open_store
from sdss_photoz.surveys import SDSS

PAIR = [(3565, 1, 58, "g"), (3565, 1, 59, "g")]  # adjacent fields of one run


def wcs_of(projection="TAN", ra=180.0, dec=30.0, size=64, scale=0.396, angle=0.0, axes=("RA---", "DEC--")):
    """Coordinates of a square image whose middle lies at (ra, dec), turned by `angle` degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [axis + projection for axis in axes]
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (size + 1) / 2, (size + 1) / 2
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * scale / 3600
    return wcs


def noise(shape=(200, 220), seed=3):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def by_definition(image, x, y):
    """Lanczos-3 as the textbook has it: sinc(t) sinc(t / 3), weights of unit sum on each axis, no partial kernels."""
    found = np.full(x.shape, np.nan)
    rows, columns = image.shape
    for place in np.ndindex(x.shape):
        i, j = np.floor(x[place]), np.floor(y[place])
        if not (2 <= i <= columns - 4 and 2 <= j <= rows - 4):
            continue
        i, j = int(i), int(j)
        wx, wy = x[place] - np.arange(i - 2, i + 4), y[place] - np.arange(j - 2, j + 4)
        wx, wy = np.sinc(wx) * np.sinc(wx / 3), np.sinc(wy) * np.sinc(wy / 3)
        found[place] = wy @ image[j - 2 : j + 4, i - 2 : i + 4].astype(float) @ wx / wx.sum() / wy.sum()
    return found


@functools.cache
def read(path):
    """A real frame as astropy reads it: image, coordinates, noise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the survey's deprecated spellings
        with fits.open(path) as hdus:
            image = hdus[0].data.astype("f4")
            sky = image[::3, ::3]
            return image, WCS(hdus[0].header), 1.4826 * np.median(np.abs(sky - np.median(sky)))


@pytest.mark.parametrize("frame", [(2820, 3, 122, "r"), (3900, 6, 269, "u")])
def test_a_cutout_is_the_cubes_own_on_real_frames(real_frame, frame):
    path = real_frame(*frame)
    image, wcs, sigma = read(path)
    projection = Projection(read_wcs(path))
    for x, y in [(1000.3, 700.6), (20.2, 800.0), (2040.0, 1480.0), (-40.0, 300.0), (512.5, 33.0)]:
        ra, dec = map(float, wcs.wcs_pix2world(x, y, 0))
        expected, covered = resample(image, projection.homography(ra, dec), projection.flux_factor(ra, dec))
        found, footprint = reproject_lanczos3((image, wcs), wcs_of(ra=ra, dec=dec), (64, 64), conserve_flux=True)
        assert footprint.sum() == covered
        np.testing.assert_array_equal(footprint == 1, np.isfinite(expected))
        if covered:
            np.testing.assert_allclose(found, expected, rtol=3e-7, atol=1e-5 * sigma)


def test_coadded_frames_are_the_cubes_own_on_real_frames(real_frame, tmp_path, capsys):
    """Where two frames overlap their mean is their median."""
    paths = [real_frame(*frame) for frame in PAIR]
    frames = [read(path) for path in paths]
    seam = frames[0][1].wcs_pix2world([[300.0, 1440.0], [1700.3, 1410.7], [900.0, 1480.0], [900.0, 1300.0]], 0)
    cutouts(pd.DataFrame(seam, columns=["ra", "dec"]), paths[0].parent, tmp_path / "cubes.zarr")
    flux = open_store(tmp_path / "cubes.zarr")["flux"][..., SDSS.band_names.index("g")]
    largest = 0.0
    for (ra, dec), expected in zip(seam, flux, strict=True):
        found, footprint = reproject_and_coadd(
            [(image, wcs) for image, wcs, _ in frames],
            wcs_of(ra=ra, dec=dec),
            shape_out=(64, 64),
            reproject_function=reproject_lanczos3,
            conserve_flux=True,
        )
        np.testing.assert_array_equal(footprint > 0, np.isfinite(expected))
        assert footprint.max() == 2 or dec == seam[3, 1]
        covered = footprint > 0
        largest = max(largest, np.abs(found - expected)[covered].max() / frames[0][2])
    with capsys.disabled():
        print(f"\nreproject_and_coadd against the store: at most {largest:.1e} sigma", end=" ")
    assert largest < 1e-5


def test_pixels_are_those_of_the_definition_through_astropys_coordinates(real_frame, capsys):
    image, wcs, sigma = read(real_frame(2820, 3, 122, "r"))
    target = wcs_of(ra=38.35503888, dec=-0.15572588, scale=0.5, angle=33.0, size=40)
    y, x = np.indices((40, 40), dtype=float)
    expected = by_definition(image, *pixel_to_pixel(target, wcs, x, y))
    differences = [
        np.abs(reproject_lanczos3((image, wcs), target, (40, 40), exact=exact)[0] - expected).max() / sigma
        for exact in (True, False)
    ]
    with capsys.disabled():
        print(f"\nby definition, in sigma: exact {differences[0]:.1e}, table {differences[1]:.1e}", end=" ")
    assert np.isfinite(expected).all()
    assert differences[0] < 1e-4
    assert differences[1] < 3e-4


def test_a_mosaic_equals_swarps(real_frame, tmp_path, need_program, capsys):
    need_program("SWarp")
    frames = [read(real_frame(*frame)) for frame in PAIR]
    plain = [tmp_path / f"{number}.fits" for number in range(len(PAIR))]
    for frame, path in zip(PAIR, plain, strict=True):
        header = fits.getheader(real_frame(*frame))
        fits.PrimaryHDU(read(real_frame(*frame))[0], header).writeto(path)
    ra, dec = (round(float(v), 8) for v in frames[0][1].wcs_pix2world(1000.2, 1425.4, 0))
    words = (
        f"-SUBTRACT_BACK N -CENTER_TYPE MANUAL -CENTER {ra:.9f},{dec:.9f} -PIXELSCALE_TYPE MANUAL -PIXEL_SCALE 0.396"
    )
    words += " -IMAGE_SIZE 300 -COMBINE_TYPE AVERAGE -PROJECTION_ERR 0 -VERBOSE_TYPE QUIET -WRITE_XML N -NTHREADS 1"
    subprocess.run(["SWarp", *map(str, plain), *words.split()], cwd=tmp_path, check=True, capture_output=True)
    expected, covered = fits.getdata(tmp_path / "coadd.fits"), fits.getdata(tmp_path / "coadd.weight.fits") > 0
    found, footprint = reproject_and_coadd(
        [(image, wcs) for image, wcs, _ in frames],
        wcs_of(ra=ra, dec=dec, size=300),
        shape_out=(300, 300),
        reproject_function=reproject_lanczos3,
        conserve_flux=True,
        exact=True,
    )
    np.testing.assert_array_equal(footprint > 0, covered)
    difference = np.abs(found - expected)[covered]
    in_sigma, in_local = difference.max() / frames[0][2], difference.max() / expected.max()
    with capsys.disabled():
        print(f"\nSWarp's mosaic: at most {in_sigma:.1e} sigma, {in_local:.1e} of the maximum", end=" ")
    assert in_sigma < 1e-4 or in_local < 3e-6


@pytest.mark.parametrize(
    ("projection", "axes", "centre"),
    [
        ("SIN", ("RA---", "DEC--"), (180.0, 30.0)),
        ("CAR", ("RA---", "DEC--"), (180.0, 0.0)),
        ("ZEA", ("GLON-", "GLAT-"), (195.6396, 78.3534)),  # the same place in Galactic coordinates
    ],
)
def test_any_celestial_projection_goes_in_and_out(projection, axes, centre):
    def tan(size):
        return wcs_of(dec=0.0 if projection == "CAR" else 30.0, size=size, angle=20.0)

    def other(size):
        return wcs_of(projection, *centre, size=size, axes=axes)

    y, x = np.indices((30, 30), dtype=float)
    for start, end in [(other(30), tan(40)), (tan(30), other(40))]:
        image = noise((40, 40))
        found, footprint = reproject_lanczos3((image, end), start, (30, 30), exact=True)
        expected = by_definition(image, *pixel_to_pixel(start, end, x, y))
        np.testing.assert_array_equal(footprint == 1, np.isfinite(expected))
        assert footprint.mean() > 0.8
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_tan_to_tan_maps_as_astropy_does():
    y, x = np.indices((60, 60), dtype=float)
    for dec, angle in [(-20.0, 0.0), (0.0, 90.0), (88.0, 123.0)]:
        start, end = wcs_of(dec=dec, size=60), wcs_of(dec=dec + 0.05, ra=180.1, size=2000, angle=angle)
        found, expected = _mapping(start, end, True)(x, y), pixel_to_pixel(start, end, x, y)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_coordinates_that_are_more_than_plain_tan_are_left_to_astropy():
    y, x = np.indices((20, 20), dtype=float)
    start, fk5, turned = (wcs_of(size=20) for _ in range(3))
    fk5.wcs.radesys, fk5.wcs.equinox = "FK5", 1975.0
    turned.wcs.lonpole = 150.0
    header = wcs_of(size=20).to_header()
    header["CTYPE1"], header["CTYPE2"], header["A_ORDER"], header["B_ORDER"] = "RA---TAN-SIP", "DEC--TAN-SIP", 2, 2
    header["A_2_0"], header["B_0_2"] = 1e-2, 1e-2
    for end in (fk5, turned, WCS(header)):
        found, expected = _mapping(start, end, True)(x, y), pixel_to_pixel(start, end, x, y)
        assert np.abs(np.array(found) - np.array(_mapping(start, wcs_of(size=20), True)(x, y))).max() > 0.1
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_the_other_side_of_the_sky_is_blank():
    image = noise()
    for projection in ("TAN", "SIN"):
        found, footprint = reproject_lanczos3((image, wcs_of(size=200)), wcs_of(projection, 0.0, -30.0), (64, 64))
        assert np.isnan(found).all()
        assert not footprint.any()


def test_smooth_images_come_out_as_reproject_has_them():
    """Reproject's own interpolation: the same orientation, the same surface brightness at twice the pixel."""
    y, x = np.indices((300, 300), dtype=float)
    image = (np.sin(x / 21) * np.cos(y / 17) + 2).astype("f4")
    source, target = wcs_of(size=300, angle=58.0), wcs_of(size=80, scale=0.8)
    expected = reproject_interp((image, source), target, (80, 80), order="bicubic", return_footprint=False)
    found, footprint = reproject_lanczos3((image, source), target, (80, 80))
    assert footprint.all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    flux = reproject_lanczos3((image, source), target, (80, 80), conserve_flux=True)[0]
    np.testing.assert_allclose(flux / found, (0.8 / 0.396) ** 2, rtol=1e-6)


def test_footprint_is_one_where_all_36_taps_are_inside_and_finite():
    image = noise((50, 60))
    image[30, 40] = np.nan
    wcs = wcs_of(size=50)
    shifted = wcs.deepcopy()
    shifted.wcs.crpix += 0.5
    found, footprint = reproject_lanczos3((image, wcs), shifted, (50, 60))
    expected = np.zeros((50, 60))
    expected[3:48, 3:58] = 1  # pixel j lies at j - 0.5: taps j - 3 to j + 2
    expected[28:34, 38:44] = 0
    np.testing.assert_array_equal(footprint, expected)
    np.testing.assert_array_equal(np.isfinite(found), expected == 1)


def test_every_form_of_input_and_output_that_reproject_takes(tmp_path):
    image, wcs, target = noise(), wcs_of(size=200), wcs_of(angle=10.0)
    expected, _ = reproject_lanczos3((image, wcs), target, (64, 64))  # a header written and read rounds its numbers
    assert np.isfinite(expected).all()
    header = wcs.to_header()
    fits.PrimaryHDU(image, header).writeto(tmp_path / "image.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, header)]).writeto(tmp_path / "second.fits")
    out = fits.PrimaryHDU(np.zeros((64, 64)), target.to_header()).header
    with fits.open(tmp_path / "image.fits") as hdus:
        inputs = [hdus, hdus[0], (image, header), (image.astype(">f8"), wcs), NDData(image, wcs=wcs)]
        for form in (str(tmp_path / "image.fits"), tmp_path / "image.fits", *inputs):
            np.testing.assert_allclose(reproject_lanczos3(form, out)[0], expected, rtol=0, atol=1e-6)
    second = reproject_lanczos3(tmp_path / "second.fits", target, (64, 64), 1, return_footprint=False)
    np.testing.assert_allclose(second, expected, rtol=0, atol=1e-6)
    array, footprint = np.zeros((64, 64), "f4"), np.zeros((64, 64))
    given = reproject_lanczos3((image, wcs), target, output_array=array, output_footprint=footprint)
    assert given[0] is array
    assert given[1] is footprint
    np.testing.assert_array_equal(array, expected)
    assert footprint.all()


def test_images_of_the_same_coordinates_are_reprojected_together():
    images, wcs, target = np.stack([noise(seed=1), noise(seed=2)]), wcs_of(size=200), wcs_of(angle=10.0)
    found, footprint = reproject_lanczos3((images, wcs), target, (64, 64))
    assert found.shape == footprint.shape == (2, 64, 64)
    for image, one in zip(images, found, strict=True):
        np.testing.assert_array_equal(one, reproject_lanczos3((image, wcs), target, (64, 64))[0])


def test_blocks_of_rows_change_no_pixel(monkeypatch):
    arguments = (noise(), wcs_of(size=200)), wcs_of(angle=10.0), (64, 64)
    expected = reproject_lanczos3(*arguments)[0]
    monkeypatch.setattr("sdss_photoz.cubes.reproject_lanczos3.BLOCK", 640)
    np.testing.assert_array_equal(reproject_lanczos3(*arguments)[0], expected)


def test_coadding_with_weights_backgrounds_and_files_on_disk_works():
    target, images = wcs_of(size=100), [noise((300, 300), seed) for seed in (1, 2)]
    frames = [(image, wcs_of(size=300, angle=angle)) for image, angle in zip(images, (0.0, 40.0), strict=True)]
    options = {"shape_out": (100, 100), "reproject_function": reproject_lanczos3}
    alone = [reproject_lanczos3(frame, target, (100, 100))[0] for frame in frames]
    weights = [np.full((300, 300), weight) for weight in (1.0, 3.0)]
    weighted, _ = reproject_and_coadd(frames, target, input_weights=weights, **options)
    np.testing.assert_allclose(weighted, 0.25 * alone[0] + 0.75 * alone[1], rtol=0, atol=1e-5)
    on_disk, _ = reproject_and_coadd(frames, target, intermediate_memmap=True, **options)
    np.testing.assert_allclose(on_disk, np.mean(alone, axis=0), rtol=0, atol=1e-6)
    lifted = [(frames[0][0] + 5, frames[0][1]), frames[1]]
    matched, _ = reproject_and_coadd(lifted, target, match_background=True, **options)
    assert np.std(matched - np.mean(alone, axis=0)) < 1e-3


def test_what_is_no_image_of_the_sky_is_refused():
    image, wcs = noise(), wcs_of(size=200)
    cube = WCS(naxis=3)
    cube.wcs.ctype = "RA---TAN", "DEC--TAN", "WAVE"
    with pytest.raises(ValueError, match="the input has 3 pixel axes"):
        reproject_lanczos3((np.zeros((3, 9, 9)), cube), wcs, (3, 64, 64))
    with pytest.raises(ValueError, match="leading axes differ"):
        reproject_lanczos3((np.zeros((3, 200, 220)), wcs), wcs_of(), (2, 64, 64))
    with pytest.raises(ValueError, match="conserve_flux needs an output"):
        reproject_lanczos3((image, wcs), wcs_of(ra=0.0, dec=-30.0), (64, 64), conserve_flux=True)
