"""A frame is read as astropy reads it; every damage is named with the file."""

import bz2
import gzip

import numpy as np
import pytest
from astropy.io import fits

from sdss_photoz.cubes.frame import OpenFrame, read_frame
from sdss_photoz.errors import UserError
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame


@pytest.mark.parametrize("key", [(2820, 3, 122, "g"), (3900, 6, 269, "u")])
def test_real_frame_reads_as_astropy_reads_it(real_frame, key):
    path = real_frame(*key)
    with fits.open(path) as hdus:
        image, header = hdus[0].data, hdus[0].header
    ours = read_frame(path)
    assert ours.image.dtype == np.float32
    assert ours.image.dtype.isnative
    np.testing.assert_array_equal(ours.image, image)
    assert (ours.wcs.ra, ours.wcs.dec) == (header["CRVAL1"], header["CRVAL2"])
    assert (ours.wcs.x, ours.wcs.y) == (header["CRPIX1"] - 1, header["CRPIX2"] - 1)
    assert ours.wcs.cd == tuple(header[f"CD{i}_{j}"] for i in (1, 2) for j in (1, 2))


def test_rows_after_the_last_needed_one_are_not_read(real_frame):
    path = real_frame(2820, 3, 122, "r")
    whole = read_frame(path).image
    part = read_frame(path, last_row=400).image
    assert part.shape == (401, FRAME_SHAPE[1])
    np.testing.assert_array_equal(part, whole[:401])
    assert read_frame(path, last_row=10**6).image.shape == FRAME_SHAPE


def test_threads_change_no_pixel(real_frame):
    path = real_frame(2820, 3, 122, "r")
    with OpenFrame(path, threads=2) as opened:
        np.testing.assert_array_equal(opened.read(), read_frame(path).image)


def test_plain_gzip_and_bzip2_frames_read_alike(tmp_path, write_frame):
    image = np.arange(FRAME_SHAPE[0] * FRAME_SHAPE[1], dtype="f4").reshape(FRAME_SHAPE)
    plain = write_frame(tmp_path / "frame-r-000094-1-0011.fits", image)
    packed = tmp_path / "frame-r-000094-1-0011.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), 1))
    squeezed = tmp_path / "frame-r-000094-1-0011.fits.bz2"
    squeezed.write_bytes(bz2.compress(plain.read_bytes(), 1))
    for path in (plain, packed, squeezed):
        np.testing.assert_array_equal(read_frame(path).image, image)


def test_field_number_in_the_header_is_ahead_by_the_filters_that_came_before(real_frame):
    for band in "ugriz":  # real headers of field 122 say FRAME = 126, 130, 122, 124, 128
        with OpenFrame(real_frame(2820, 3, 122, band), frame=Frame(2820, 3, 122, band)):
            pass
        with pytest.raises(UserError, match="holds another frame: its header says run 2820"):
            OpenFrame(real_frame(2820, 3, 122, band), frame=Frame(2820, 3, 121, band))


DAMAGES = {
    "not there": (None, "cannot be read"),
    "empty": (b"", "not a FITS file"),
    "a web page": (b"<html><title>503</title></html>" * 200, "not a FITS file"),
    "a web page, compressed": (bz2.compress(b"<html></html>" * 400), "not a FITS file"),
    "an end within the header": (b"SIMPLE  =                    T".ljust(2000), "ends within its header"),
}


@pytest.mark.parametrize(("content", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_file_that_is_no_frame_is_named(tmp_path, content, sentence):
    path = tmp_path / "frame-r-000094-1-0011.fits.bz2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as error:
        read_frame(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cut", [0.002, 0.5, 0.85])
def test_truncated_real_frame_is_named(tmp_path, real_frame, cut, threads):
    content = real_frame(2820, 3, 122, "u").read_bytes()
    path = tmp_path / "frame-u-002820-3-0122.fits.bz2"
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(UserError, match="truncated") as error, OpenFrame(path, threads) as opened:
        opened.read()
    assert str(path) in str(error.value)


def test_flipped_bit_of_a_real_frame_is_found(tmp_path, real_frame):
    content = bytearray(real_frame(2820, 3, 122, "u").read_bytes())
    content[len(content) // 2] ^= 4
    path = tmp_path / "frame-u-002820-3-0122.fits.bz2"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_frame(path)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("place", [1_320_000, 1_400_000, 1_480_000])
def test_flipped_bit_is_found_where_only_part_of_its_block_is_needed(tmp_path, real_frame, place, threads):
    """Rows 659 to 769 are one bzip2 block: its pixels are there before its CRC is."""
    content = bytearray(real_frame(2820, 3, 122, "u").read_bytes())
    content[place] ^= 4
    path = tmp_path / "frame-u-002820-3-0122.fits.bz2"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged") as error, OpenFrame(path, threads) as opened:
        opened.read(last_row=699)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("last_row", [None, 100])
def test_flipped_bit_of_a_gzip_frame_is_found(tmp_path, real_frame, last_row):
    content = bytearray(gzip.compress(bz2.decompress(real_frame(2820, 3, 122, "u").read_bytes()), 1))
    content[400_000] ^= 4
    path = tmp_path / "frame-u-002820-3-0122.fits.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged") as error:
        read_frame(path, last_row)
    assert str(path) in str(error.value)


def test_truncated_plain_frame_names_the_row(tmp_path, write_frame):
    path = write_frame(tmp_path / "frame-r-000094-1-0011.fits", 1.0)
    path.write_bytes(path.read_bytes()[: 2880 * 2 + 4 * 2048 * 700])
    with pytest.raises(UserError, match="truncated: its image ends in row 70"):
        read_frame(path)


HEADERS = {
    "no WCS": ({"CTYPE1": None, "CTYPE2": None}, "has no world coordinates"),
    "a distortion": ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}, "RA---TAN-SIP"),
    "another projection": ({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"}, "RA---SIN"),
    "no CD matrix": ({"CD1_2": None}, "CD1_2 missing"),
    "a singular CD matrix": ({"CD1_1": 0.0, "CD1_2": 0.0}, "cannot be inverted"),
}


@pytest.mark.parametrize(("change", "sentence"), HEADERS.values(), ids=HEADERS)
def test_frame_without_usable_coordinates_is_refused_by_name(tmp_path, write_frame, change, sentence):
    path = write_frame(tmp_path / "frame-r-000094-1-0011.fits", 1.0, change=change, angle=20)
    with pytest.raises(UserError, match=sentence) as error:
        read_frame(path)
    assert str(path) in str(error.value)


def test_frame_of_another_shape_is_refused(tmp_path, write_frame):
    path = write_frame(tmp_path / "frame-r-000094-1-0011.fits", np.zeros((1361, 2048)))
    with pytest.raises(UserError, match=r"1361 x 2048 pixels .* 1489 x 2048"):
        read_frame(path)
    content = path.read_bytes()
    for axis, said in [(b"NAXIS1  = 'wide'".ljust(80), "1361 x wide"), (b"COMMENT".ljust(80), "says 1361 pixels")]:
        place = content.index(b"NAXIS1  =")
        path.write_bytes(content[:place] + axis + content[place + 80 :])
        with pytest.raises(UserError, match=f"holds another image: .*{said}"):
            read_frame(path)
    fits.PrimaryHDU().writeto(path, overwrite=True)
    with pytest.raises(UserError, match="says no pixels"):
        read_frame(path)


def test_header_with_hostile_values_is_refused_by_name(tmp_path, write_frame):
    path = write_frame(tmp_path / "frame-r-000094-1-0011.fits", 1.0)
    content = path.read_bytes()
    for card in (b"RUN     = 'a path/../../'", b"RUN     = 1E999", b"RUN     = T", b"RUN     ="):
        place = content.index(b"RUN     =")
        path.write_bytes(content[:place] + card.ljust(80) + content[place + 80 :])
        with pytest.raises(UserError, match="holds another frame: its header says run"):
            OpenFrame(path, frame=Frame(94, 1, 11, "r"))
    for axis in (b"NAXIS1  = 999999999999", b"NAXIS1  = -2048", b"NAXIS1  = 1E999", b"NAXIS1  = 2047.9"):
        place = content.index(b"NAXIS1  =")
        path.write_bytes(content[:place] + axis.ljust(80) + content[place + 80 :])
        with pytest.raises(UserError, match="holds another image: its header says 1489 x"):
            OpenFrame(path)


def test_gzip_frame_that_never_ends_is_refused(tmp_path, write_frame):
    plain = write_frame(tmp_path / "frame-r-000094-1-0011.fits", 1.0).read_bytes()
    packed = tmp_path / "frame-r-000094-1-0011.fits.gz"
    packed.write_bytes(gzip.compress(plain, 1) + gzip.compress(bytes(50_000_000), 1) * 4)
    with pytest.raises(UserError, match="holds more than 64 MB behind its image"):
        read_frame(packed)


def test_calibration_is_that_of_the_header_or_none(tmp_path, write_frame, real_frame):
    with OpenFrame(real_frame(2820, 3, 122, "r")) as opened:
        assert opened.nanomaggies_per_count == fits.getval(opened.path, "NMGY")
    for value in (None, "0.005", 0.0, -1.0, True):
        change = {} if value is None else {"NMGY": value}
        with OpenFrame(write_frame(tmp_path / "frame-r-000094-1-0011.fits", change=change)) as opened:
            assert opened.nanomaggies_per_count is None


def test_frame_full_of_nan_is_refused_but_one_good_pixel_is_data(tmp_path, write_frame):
    image = np.full(FRAME_SHAPE, np.nan, "f4")
    path = write_frame(tmp_path / "frame-r-000094-1-0011.fits", image)
    with pytest.raises(UserError, match="full of NaN"):
        read_frame(path)
    image[701, 33] = 1
    write_frame(path, image)
    assert np.isfinite(read_frame(path).image).sum() == 1
