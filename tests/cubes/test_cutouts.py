"""`sdss-photoz cutouts`: cubes for any table of positions from any folder of corrected frames."""

import bz2
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from tests.fixtures.frames import GALAXY, write_positions

from sdss_photoz.app.cli import main
from sdss_photoz.cubes.cutouts import cutouts, find_frames
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import grid_of, open_store
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import PixelGrid
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame

NOWHERE = (200.0, -80.0)


def test_store_is_in_the_order_of_the_table_with_repeats_and_places_without_frames(tmp_path, frames_folder, capsys):
    positions = [NOWHERE, GALAXY, (GALAXY[0] - 360, GALAXY[1]), (38.3, -0.1), GALAXY]
    table = write_positions(tmp_path / "positions.csv", positions, name="a galaxy")
    out = tmp_path / "new" / "cubes.zarr"
    assert main(["cutouts", table, "--frames", str(frames_folder), "--out", str(out)]) == 0
    assert "5 cubes; with at least one frame in u 4, g 0, r 0, i 0, z 0; without any 1" in capsys.readouterr().out
    flux, depth = open_store(out)["flux"][:], open_store(out)["depth"][:]
    assert depth[:, 0].tolist() == [0, 2, 2, 2, 2]
    assert (depth[:, 1:] == 0).all()
    assert np.isnan(flux[0]).all()
    np.testing.assert_array_equal(flux[1], flux[4])
    np.testing.assert_allclose(flux[1, ..., 0], flux[2, ..., 0], atol=1e-6)
    assert np.isfinite(flux[1, ..., 0]).all()
    assert np.unravel_index(flux[1, ..., 0].argmax(), (64, 64)) in [
        (y, x) for y in range(29, 35) for x in range(29, 35)
    ]
    assert load_cubes(out, [0]).sum() == 0
    assert [path.name for path in out.parent.iterdir()] == ["cubes.zarr"]


def test_parquet_tables_and_any_number_of_threads_give_the_same_bytes(tmp_path, frames_folder):
    for name, suffix, threads in [("a", "csv", "1"), ("b", "parquet", "2")]:
        table = write_positions(tmp_path / f"{name}.{suffix}", [GALAXY, (38.3, -0.1)])
        words = ["cutouts", table, "--frames", str(frames_folder), "--out", str(tmp_path / name), "--threads", threads]
        assert main(words) == 0
    for file in (tmp_path / "a").rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_identical_copies_of_a_frame_count_once(tmp_path, frames_folder):
    shutil.copy(frames_folder / "deep" / "frame-u-002820-3-0122.fits.bz2", frames_folder)
    assert list(find_frames(frames_folder)) == [Frame(2820, 3, 122, "u"), Frame(4948, 3, 199, "u")]
    depth = cutouts(pd.DataFrame([GALAXY], columns=["ra", "dec"]), frames_folder, tmp_path / "cubes.zarr")
    assert depth.tolist() == [[2, 0, 0, 0, 0]]


def test_copies_of_one_frame_are_told_apart_by_what_they_hold(tmp_path, frames_folder, capsys):
    frame = frames_folder / "frame-u-004948-3-0199.fits.bz2"
    plain = frames_folder / "deep" / frame.name.removesuffix(".bz2")
    plain.write_bytes(bz2.decompress(frame.read_bytes()))
    positions = pd.DataFrame([GALAXY], columns=["ra", "dec"])
    assert cutouts(positions, frames_folder, tmp_path / "a.zarr").tolist() == [[2, 0, 0, 0, 0]]
    content = bytearray(plain.read_bytes())
    content[5_000_000] ^= 1  # one bit of one pixel
    plain.write_bytes(content)
    with pytest.raises(
        UserError, match=r"^[^\n]* have the name of one frame but not the same content: [^\n]*$"
    ) as error:
        cutouts(positions, frames_folder, tmp_path / "b.zarr")
    assert str(frame) in str(error.value)
    assert str(plain) in str(error.value)
    assert not (tmp_path / "b.zarr").exists()
    elsewhere = pd.DataFrame([NOWHERE], columns=["ra", "dec"])
    assert cutouts(elsewhere, frames_folder, tmp_path / "c.zarr").sum() == 0  # nothing depends on the frame


def test_missing_position_is_a_row_of_nan_beside_the_others(tmp_path, write_frame, capsys):
    folder = write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0).parent
    here = (180.0, 30.0)
    positions = [here, (np.nan, np.nan), (np.nan, 30.0), (180.0, None), here]
    table = write_positions(tmp_path / "positions.csv", positions, object_id=[9, 8, 7, 6, 2**60])
    out = tmp_path / "cubes.zarr"
    assert main(["cutouts", table, "--frames", str(folder), "--out", str(out)]) == 0
    assert "5 cubes; with at least one frame in u 0, g 0, r 2" in capsys.readouterr().out
    group = open_store(out)
    assert group["depth"][:, 2].tolist() == [1, 0, 0, 0, 1]
    assert np.isnan(group["flux"][1:4]).all()
    np.testing.assert_array_equal(group["flux"][0], group["flux"][4])
    assert np.isnan(group["ra"][:]).tolist() == [False, True, True, False, False]
    assert group["object_id"][:].tolist() == [9, 8, 7, 6, 2**60]


IDENTIFIED = {
    "objID": ("objID", ["1237646587172782081", "1237646587172782082"], [1237646587172782081, 1237646587172782082]),
    "above 2**63": ("specObjID", ["14126741881526460416", "7"], [14126741881526460416, 7]),
    "text": ("object_id", ["SDSS J0233-0009", "0266"], ["SDSS J0233-0009", "0266"]),
}


@pytest.mark.parametrize(("column", "given", "kept"), IDENTIFIED.values(), ids=IDENTIFIED)
def test_identifiers_come_into_the_store_to_the_last_digit(tmp_path, write_frame, capsys, column, given, kept):
    folder = write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0).parent
    table = write_positions(tmp_path / "positions.csv", [(180.0, 30.0), (np.nan, np.nan)], **{column: given})
    out = tmp_path / "cubes.zarr"
    assert main(["cutouts", table, "--frames", str(folder), "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert f"object_id is its {column}\n" in output
    assert "without a position: ra has no value in 1\n" in output
    assert open_store(out)["object_id"][:].tolist() == kept
    assert main(["verify", str(out)]) == 0


def test_rows_are_numbered_only_where_nothing_identifies_them_and_that_is_said(tmp_path, write_frame, capsys):
    folder = write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0).parent
    table = write_positions(tmp_path / "positions.csv", [(180.0, 30.0), (180.0, -9999)])
    assert main(["cutouts", table, "--frames", str(folder), "--out", str(tmp_path / "cubes.zarr")]) == 0
    output = capsys.readouterr().out
    assert "object_id is the numbers of the rows, for no column is called so, objID or the like" in output
    assert "without a position: dec is -9999 in 1" in output
    assert open_store(tmp_path / "cubes.zarr")["object_id"][:].tolist() == [0, 1]


def test_columns_of_nan_in_a_frame_are_missing_pixels_and_another_frame_fills_them(tmp_path, write_frame):
    """Two frames of one sky, North up; columns 1020 to 1022 of the first are NaN."""
    image = np.full(FRAME_SHAPE, 2.0, "f4")
    image[:, 1020:1023] = np.nan
    positions = pd.DataFrame([(180.0, 30.0)], columns=["ra", "dec"])
    depth, holes = [], []
    for run, pixels in [(94, image), (95, np.full(FRAME_SHAPE, 4.0, "f4"))]:
        frame = Frame(run, 1, 11, "r")
        write_frame(tmp_path / "mirror" / frame.name.removesuffix(".bz2"), pixels, frame)
        depth.append(int(cutouts(positions, tmp_path / "mirror", tmp_path / f"{run}.zarr")[0, 2]))
        holes.append(open_store(tmp_path / f"{run}.zarr")["flux"][0, :, :, 2])
    assert depth == [1, 2]
    column = np.isnan(holes[0]).any(axis=0)
    np.testing.assert_array_equal(np.isnan(holes[0]), np.broadcast_to(column, (64, 64)))
    assert np.flatnonzero(column).tolist() == list(range(25, 33))  # three columns and their taps
    np.testing.assert_allclose(holes[1], np.broadcast_to(np.where(column, 4.0, 3.0), (64, 64)), rtol=1e-5)


PLACES = {
    "north pole": ((0.0, 89.99), [(0.0, 90.0), (180.0, 89.995), (360.0, 89.98), (-90.0, 90.0)]),
    "south pole": ((200.0, -89.98), [(0.0, -90.0), (200.0, -89.97), (20.0, -89.999)]),
    "RA 0": ((0.01, 12.0), [(0.0, 12.0), (360.0, 12.0), (359.99, 12.0), (-0.01, 12.0)]),
    "RA 360": ((359.99, -40.0), [(0.0, -40.0), (360.0, -40.0), (0.02, -40.01), (-359.98, -40.01)]),
}


@pytest.mark.parametrize(("centre", "positions"), PLACES.values(), ids=PLACES)
def test_poles_and_the_seam_of_right_ascension_are_places_like_others(tmp_path, write_frame, centre, positions):
    """Each cube shows the frame's columns and rows where astropy puts them."""
    y, x = np.indices(FRAME_SHAPE, dtype="f4")
    for run, image in [(94, x + 0.5), (95, y + 0.5)]:
        frame = Frame(run, 1, 11, "rg"[run == 95])
        write_frame(
            tmp_path / "mirror" / frame.name.removesuffix(".bz2"), image, frame, ra=centre[0], dec=centre[1], angle=25
        )
    path = tmp_path / "mirror" / frame.name.removesuffix(".bz2")
    depth = cutouts(pd.DataFrame(positions, columns=["ra", "dec"]), tmp_path / "mirror", tmp_path / "cubes.zarr")
    assert depth[:, [1, 2]].tolist() == [[1, 1]] * len(positions)
    flux = open_store(tmp_path / "cubes.zarr")["flux"][:]
    assert np.isfinite(flux[..., [1, 2]]).all()
    expected = WCS(fits.getheader(path)).wcs_world2pix(positions, 0) + 0.5
    np.testing.assert_allclose(flux[:, 31:33, 31:33, 2].mean(axis=(1, 2)), expected[:, 0], rtol=2e-5)
    np.testing.assert_allclose(flux[:, 31:33, 31:33, 1].mean(axis=(1, 2)), expected[:, 1], rtol=2e-5)


def test_stack_and_overlap_rows_are_those_asked_for(tmp_path, write_frame, capsys):
    """Two fields of one run and one of another, of 1, 2 and 6 nanomaggies, on the same sky."""
    for run, field, value in [(94, 11, 1.0), (94, 12, 2.0), (95, 11, 6.0)]:
        frame = Frame(run, 1, field, "r")
        write_frame(tmp_path / "mirror" / frame.name.removesuffix(".bz2"), value, frame)
    table = write_positions(tmp_path / "p.csv", [(180.0, 30.0)])
    expected = {"median keep": (2.0, 3), "mean keep": (3.0, 3), "median trim": (3.5, 2), "mean trim": (3.5, 2)}
    for words, (value, frames) in expected.items():
        stack, overlap_rows = words.split()
        out = tmp_path / f"{stack}-{overlap_rows}.zarr"
        options = ["--stack", stack, "--overlap-rows", overlap_rows, "--out", str(out)]
        assert main(["cutouts", table, "--frames", str(tmp_path / "mirror"), *options]) == 0
        assert open_store(out)["depth"][0, 2] == frames
        np.testing.assert_allclose(open_store(out)["flux"][0, :, :, 2], value, rtol=1e-5)
    with pytest.raises(SystemExit):
        main(["cutouts", table, "--frames", str(tmp_path / "mirror"), "--out", "no.zarr", "--stack", "mode"])
    assert "choose from" in capsys.readouterr().err


def test_mirror_of_links_is_searched_once(tmp_path, frames_folder):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "disk").symlink_to(frames_folder)
    (mirror / "again").symlink_to(mirror)  # a loop
    frames = find_frames(mirror)
    assert list(frames) == [Frame(2820, 3, 122, "u"), Frame(4948, 3, 199, "u")]
    assert frames[Frame(4948, 3, 199, "u")] == mirror / "disk" / "frame-u-004948-3-0199.fits.bz2"


def test_pixels_and_bands_can_be_chosen_and_a_wrong_one_is_a_sentence(tmp_path, frames_folder, capsys):
    table, out = write_positions(tmp_path / "positions.csv", [GALAXY]), tmp_path / "cubes.zarr"
    given = ["cutouts", table, "--frames", str(frames_folder), "--out", str(out)]
    assert main([*given, "--size", "33", "--pixel-scale", "0.5", "--bands", "ui"]) == 0
    assert "with at least one frame in u 1, i 0;" in capsys.readouterr().out
    assert grid_of(open_store(out)) == PixelGrid(33, 0.5, ("u", "i"))
    flux = open_store(out)["flux"][0, :, :, 0]
    assert np.unravel_index(flux.argmax(), flux.shape) in [(y, x) for y in (15, 16, 17) for x in (15, 16, 17)]
    for words, sentence in ((["--size", "300"], "size is 300, but must be less than or equal to 256"),
                            (["--bands", "uu"], "bands is 'uu', but must be bands of ugriz, each at most once"),
                            (["--bands", "gz"], "holds no frame in g, z")):  # fmt: skip
        assert main([*given[:-1], str(tmp_path / "other.zarr"), *words]) != 0
        assert sentence in capsys.readouterr().err
