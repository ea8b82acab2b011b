"""Wide images show the sky where it is, from as few frames as fill them."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from tests.fixtures.frames import header

from sdss_photoz.cubes.frame import OpenFrame
from sdss_photoz.report.colour import BLANK
from sdss_photoz.report.sections.context import (
    SIDE,
    SIZE,
    fields_wanted,
    grid,
    wide_images,
    wide_pictures,
    write_context,
)
from sdss_photoz.surveys import CUBE, SDSS
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE, Frame

STEP = SDSS.pixel_scale / 3600
DEC = 0.0
MIDDLE = (FRAME_SHAPE[0] / 2, FRAME_SHAPE[1] / 2)  # row, column
RUNS = {94: 0.0, 125: 0.01}  # runs, and how far one lies North of the other (degrees)
FIELDS = (11, 12)  # adjacent, the second to the East
SEAM = 180 + (FIELD_ROWS / 2) * STEP  # right ascension in the middle of what both hold
STARS = [(SEAM + 0.012, DEC), (SEAM, DEC + 0.006)]  # one East of the seam, one North of its middle


def fields_table():
    """The fields on the equator, whose great circle is that of right ascension: rows run East, columns North."""
    rows = []
    for run, north in RUNS.items():
        for field in FIELDS:
            ra = 180 + (field - 11) * FIELD_ROWS * STEP
            terms = {"a": ra - MIDDLE[0] * STEP, "b": STEP, "c": 0.0, "d": DEC + north - MIDDLE[1] * STEP, "e": 0.0}
            rows.append({"run": run, "camcol": 1, "field": field, "node": 95.0, "incl": 0.0, **terms, "f": STEP})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Frames of one run with the stars, brightest in i, and the tables that name them."""
    folder = tmp_path_factory.mktemp("context")
    fields_table().to_parquet(folder / "fields.parquet")
    rows = []
    for field in FIELDS:
        for band, flux in zip("gri", (1.0, 2.0, 4.0), strict=True):
            frame = Frame(94, 1, field, band)
            ra = 180 + (field - 11) * FIELD_ROWS * STEP
            cards = header(frame, ra=ra, dec=DEC, angle=90.0)
            cards["CRPIX1"], cards["CRPIX2"] = MIDDLE[1] + 0.5, MIDDLE[0] + 0.5
            path = folder / "sas" / frame.path()
            path.parent.mkdir(parents=True, exist_ok=True)
            image = fits.PrimaryHDU(frame_with_stars(ra, flux), cards)
            image.writeto(path.with_suffix(""))
            path.with_suffix("").rename(path)  # a frame is known by its first bytes
            rows.append({**frame._asdict(), "state": "ok"})
    pd.DataFrame(rows).to_parquet(folder / "chunk-0.parquet")
    return folder


def frame_with_stars(ra, flux):
    """Image of the frame whose middle lies at `ra`."""
    image = np.full(FRAME_SHAPE, 0.01, np.float32)
    for star_ra, star_dec in STARS:
        row, column = (star_ra - ra) / STEP + MIDDLE[0] - 0.5, (star_dec - DEC) / STEP + MIDDLE[1] - 0.5
        near = np.s_[max(int(row) - 12, 0) : int(row) + 13, int(column) - 12 : int(column) + 13]
        y, x = np.indices(FRAME_SHAPE)[(slice(None), *near)]
        image[near] += flux * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 1.5**2))
    return image.astype(">f4")


GALAXIES = pd.DataFrame({"object_id": [7, 8], "ra": [SEAM, 180.0], "dec": [DEC, DEC], "z_spec": [0.1, 0.2]})


def states():
    return {Frame(94, 1, field, band): "ok" for field in FIELDS for band in "gri"}


def images_of(archive, known, galaxies=GALAXIES):
    wanted = [fields_wanted(galaxy.ra, galaxy.dec, archive / "fields.parquet") for galaxy in galaxies.itertuples()]
    return wide_images(galaxies, wanted, known, archive / "sas", 12)


def test_no_more_fields_than_fill_the_picture_the_nearest_first(archive):
    table = archive / "fields.parquet"
    assert fields_wanted(180.0, DEC, table) == [(94, 1, 11)]
    assert fields_wanted(180.0, DEC + 0.009, table) == [(125, 1, 11)]
    assert set(fields_wanted(SEAM, DEC, table)) == {(94, 1, 11), (94, 1, 12)}
    assert fields_wanted(SEAM - 0.01, DEC, table)[0] == (94, 1, 11)
    corner = fields_wanted(180.0, DEC + 1023 * STEP, table)  # the other run reaches farther North
    assert corner == [(125, 1, 11)]
    assert fields_wanted(90.0, DEC, table) == []


def test_stars_lie_where_the_sky_has_them_north_up_and_east_left(archive):
    image = images_of(archive, states())[0]
    assert np.isfinite(image[..., 1:4]).all()
    assert np.isnan(image[..., [0, 4]]).all()
    for ra, dec in STARS:
        x, y = grid(SEAM, DEC).wcs_world2pix(ra, dec, 0)
        near = np.s_[int(y) - 7 : int(y) + 9, int(x) - 7 : int(x) + 9]
        light = image[(*near, SDSS.band_names.index("r"))] - 0.01
        rows, columns = np.mgrid[near]
        assert (light * columns).sum() / light.sum() == pytest.approx(float(x), abs=0.02)
        assert (light * rows).sum() / light.sum() == pytest.approx(float(y), abs=0.02)
    bright = image[..., SDSS.band_names.index("r")]
    assert bright[:, : SIZE // 2 - 20].max() > 1.5  # East
    assert bright[SIZE // 2 + 20 :].max() > 1.5  # North
    assert bright[:, SIZE // 2 + 20 :].max() < 0.1
    assert bright[: SIZE // 2 - 20].max() < 0.1
    assert image[..., SDSS.band_names.index("i")].max() - 0.01 == pytest.approx(2 * (bright.max() - 0.01), rel=1e-5)


def test_a_frame_that_is_damaged_or_missing_leaves_its_part_blank_with_a_warning(archive, tmp_path, caplog):
    whole = images_of(archive, states())
    path = archive / "sas" / Frame(94, 1, 12, "g").path()
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    try:
        known = states() | {Frame(94, 1, 12, "r"): "not in the archive"}
        del known[Frame(94, 1, 12, "i")]
        images = images_of(archive, known)
    finally:
        path.write_bytes(sound)
    warnings = caplog.text
    assert "frame-g-000094-1-0012.fits.bz2 is left out of the wide images: " in warnings
    assert "is truncated" in warnings
    assert "frame-r-000094-1-0012.fits.bz2 is left out of the wide images: not in the archive" in warnings
    assert "frame-i-000094-1-0012.fits.bz2 is left out of the wide images: no cube needs it" in warnings
    east = images[0][:, : SIZE // 4]
    assert np.isnan(east).all()
    read = np.isfinite(images)
    np.testing.assert_allclose(images[read], whole[read], rtol=0, atol=1e-3)  # both frames have the seam
    assert np.isfinite(images[1][..., 1:4]).all()


def test_a_frame_with_a_wrong_header_is_placed_by_its_great_circle_terms_with_a_warning(archive, caplog):
    whole = images_of(archive, states())
    frame = Frame(94, 1, 12, "g")
    path = archive / "sas" / frame.path()
    sound = path.read_bytes()
    table = fields_table()
    row = table[(table["run"] == frame.run) & (table["field"] == frame.field)].iloc[0]
    numbers = {"RUN": frame.run, "CAMCOL": frame.camcol, "FIELD": frame.field}
    degrees = {name.upper(): row[name] for name in ("node", "incl", *"abcdef")}
    degrees |= {f"D{axis}{power}": 0.0 for axis in ("ROW", "COL") for power in range(4)}
    columns = [fits.Column(name, "J", array=[value]) for name, value in numbers.items()]
    columns += [fits.Column(name, "D", array=[value]) for name, value in degrees.items()]
    columns += [fits.Column("FILTER", "1A", array=[frame.band])]
    try:
        with fits.open(path) as hdus:
            hdus[0].header["CRPIX1"] += 120.0
            hdus.append(fits.BinTableHDU.from_columns(columns))
            hdus.writeto(path, overwrite=True)
        images = images_of(archive, states())
    finally:
        path.write_bytes(sound)
    warnings = caplog.text
    assert f"headers are more than 1 pixel off: {frame.name} (1" in warnings
    np.testing.assert_allclose(images, whole, atol=0.02 * np.nanmax(whole))  # to 0.03 pixels


def test_each_frame_is_read_once(archive, monkeypatch):
    opened = []
    read = OpenFrame.__init__
    monkeypatch.setattr(OpenFrame, "__init__", lambda self, path, **k: (opened.append(path), read(self, path, **k))[1])
    images_of(archive, states(), pd.concat([GALAXIES, GALAXIES]))
    assert len(opened) == len(set(opened)) == 6


def test_same_frames_give_the_same_bytes(archive, tmp_path):
    for name in ("one.png", "two.png"):
        write_context(
            tmp_path / name,
            galaxies=GALAXIES,
            fields=archive / "fields.parquet",
            manifests=[archive / "chunk-0.parquet"],
            folder=archive / "sas",
            release=12,
        )
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").stat().st_size > 5_000


def test_pictures_have_the_cubes_outline_a_scale_and_their_words():
    image = np.full((SIZE, SIZE, 3), BLANK, np.uint8)
    figure = wide_pictures([image] * 2, GALAXIES)
    pixel = SIDE / SIZE
    for axis in figure.axes:
        (outline,) = axis.patches
        assert outline.get_width() * pixel == pytest.approx(CUBE.size * SDSS.pixel_scale)
        assert outline.get_x() + outline.get_width() / 2 == pytest.approx((SIZE - 1) / 2)
        assert np.ptp(axis.lines[0].get_xdata()) * pixel == pytest.approx(30)
        assert {"30″", "N", "E"} <= {text.get_text() for text in axis.texts}
    assert [text.get_text() for text in figure.texts] == ["7\nz = 0.100", "8\nz = 0.200"]
