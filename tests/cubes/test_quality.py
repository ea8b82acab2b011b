"""What the quality table says of a cube is true: shown on a sky that is made for it."""

import numpy as np
import pandas as pd
import pytest
from astropy.wcs import WCS
from tests.fixtures.frames import header

from sdss_photoz import __version__, files
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.make import make_chunk
from sdss_photoz.cubes.quality import SATURATED, Provenance, quality_table
from sdss_photoz.cubes.store import open_store, shard_files
from sdss_photoz.frames.mirror import manifest
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame

FIRST, SECOND = Frame(94, 1, 11, "r"), Frame(125, 1, 40, "r")
BARE, ELSEWHERE = Frame(94, 1, 11, "g"), Frame(94, 1, 11, "i")
BLOCK, COLUMN, NMGY = 20, 1200, 0.004


@pytest.fixture(scope="module")
def sky(tmp_path_factory, write_frame):
    """Two runs in r: a block of saturated pixels in both, a bad column in the second; g without NMGY, i far away."""
    folder = tmp_path_factory.mktemp("sas")
    image = np.zeros(FRAME_SHAPE, "f4")
    image[730 : 730 + BLOCK, 1020 : 1020 + BLOCK] = 1.1 * SATURATED * NMGY
    write_frame(folder / FIRST.path(), image, FIRST, {"NMGY": NMGY})
    image[700:, COLUMN] = np.nan
    write_frame(folder / SECOND.path(), image, SECOND, {"NMGY": 2 * NMGY / 1.9})  # its counts are just above the level
    write_frame(folder / BARE.path(), image, BARE)
    write_frame(folder / ELSEWHERE.path(), 0.0, ELSEWHERE, {"NMGY": NMGY}, ra=180.3)
    return folder


@pytest.fixture(scope="module")
def fields():
    """Seeing and sky of the fields, and of one that no galaxy uses."""
    table = pd.DataFrame({"run": [94, 125, 94], "camcol": 1, "field": [11, 40, 12]})
    return table.assign(psfWidth_r=[1.2, 1.5, 9.0], sky_r=[4.0, 7.0, 90.0], psfWidth_g=[1.3, 9.0, 9.0], sky_g=-9999.0)


def galaxies():
    """One on the block, one on the bad column, each 0.01 pixels off a corner of four: weights are nearly 0 and 1."""
    ra, dec = WCS(header(FIRST)).wcs_pix2world([1030.51, COLUMN + 0.51], [740.51, 760.51], 0)
    return pd.DataFrame({"object_id": [7, 8], "ra": ra, "dec": dec, "row": [0, 1]})


def chunk(folder, sky, fields, frames=(FIRST, SECOND, BARE, ELSEWHERE), **settings):
    overlaps = pd.DataFrame([{"galaxy": k, **frame._asdict()} for k in range(2) for frame in frames])
    listed = manifest(overlaps, sas=sky.as_uri(), mirror=folder, missing_fraction=1.0)
    create_store(folder / "store", galaxies(), 1)
    places = {"sas": sky.as_uri(), "mirror": folder}
    table = make_chunk(galaxies(), overlaps, listed, folder / "store", 0, fields=fields, **places, **settings)
    return folder / "store", listed, table


@pytest.fixture(scope="module")
def made(tmp_path_factory, sky, fields):
    return chunk(tmp_path_factory.mktemp("chunk"), sky, fields)


def test_pixels_are_counted_as_they_were_made(made):
    _, _, table = made
    assert table["saturated_r"].tolist() == [BLOCK**2, 0]
    assert table["missing_r"].tolist() == [0, 6 * 64]  # the columns whose six taps hold the bad one
    assert table["coverage_r"].tolist() == [1, 1]  # the other run covers them
    assert table["missing_g"].tolist() == [0, 6 * 64]
    assert table["coverage_g"].tolist() == [1, 1 - 6 / 64]
    assert table["missing_i"].tolist() == [0, 0]


def test_what_is_not_known_is_missing_and_never_zero(made):
    _, _, table = made
    assert table["saturated_g"].isna().all()  # its frame does not tell its counts
    assert table["sky_g"].isna().all()  # the archive's -9999
    for band in "uiz":  # no frame covers these
        assert table[[f"seeing_{band}", f"sky_{band}", f"saturated_{band}"]].isna().all(axis=None)
        assert table[f"frames_{band}"].tolist() == table[f"coverage_{band}"].tolist() == [0, 0]
        assert table[f"used_{band}"].tolist() == ["", ""]


def test_frames_are_named_with_the_median_of_their_seeing_and_sky(made):
    _, _, table = made
    assert table["used_r"].tolist() == ["94-1-11 125-1-40"] * 2
    assert table["frames_r"].tolist() == [2, 2]
    np.testing.assert_allclose(table["seeing_r"], 1.35)
    np.testing.assert_allclose(table["sky_r"], 5.5)
    np.testing.assert_allclose(table["seeing_g"], 1.3)


def test_files_and_frames_are_those_of_their_digests(made, tmp_path, sky, fields):
    store, listed, table = made
    flux, depth = shard_files(store, 0)
    assert set(table["flux_sha256"]) == {files.sha256(flux)}
    assert set(table["depth_sha256"]) == {files.sha256(depth)}
    assert set(table["code"]) == {__version__}
    rows = sorted(listed[["path", "sha256", "state"]].to_numpy().tolist())
    assert rows[0][1] == files.sha256(sky / rows[0][0])
    assert set(table["frames_digest"]) == {files.digest(rows)}
    _, _, without = chunk(tmp_path, sky, fields, (FIRST, BARE, Frame(9999, 1, 11, "r")))
    assert set(without["frames_digest"]).isdisjoint(table["frames_digest"])
    assert without["used_r"].tolist() == ["94-1-11"] * 2


def test_fields_without_seeing_leave_it_missing(tmp_path, sky, fields):
    """As those of window_flist.fits, and of a table that an earlier version queried."""
    for known in (fields[["run", "camcol", "field"]], fields.assign(psfWidth_r=np.nan, sky_r=np.nan), None):
        _, _, table = chunk(tmp_path, sky, known, [FIRST])
        assert table[["seeing_r", "sky_r"]].isna().all(axis=None)
        assert table["saturated_r"].tolist() == [BLOCK**2, 0]


def test_published_cubes_have_the_same_columns(made, tmp_path):
    store, _, table = made
    coverage = np.array([[1.0] * 5, [1.0, 0.5, 0.0, 1.0, 1.0]])
    shards = {"flux": "a", "depth": "b"}
    published = quality_table(galaxies(), open_store(store), Provenance.unknown(coverage), shards)
    assert published.columns.tolist() == table.columns.tolist()
    assert published.dtypes.equals(table.dtypes)
    assert published["frames_r"].tolist() == [1, 0]
    unknown = ["frames_digest", *(f"{kind}_r" for kind in ("seeing", "sky", "saturated", "missing", "used"))]
    assert published[unknown].isna().all(axis=None)
    published.to_parquet(tmp_path / "quality.parquet", index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "quality.parquet"), published)
