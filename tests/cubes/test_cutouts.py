"""`sdss-photoz cutouts`: cubes for any table of positions from any folder of corrected frames."""

import bz2
import errno
import os
import resource
import shutil

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sdss_photoz import files
from sdss_photoz.cli import main
from sdss_photoz.cubes import cutouts as module
from sdss_photoz.cubes.cutouts import cutouts, find_frames
from sdss_photoz.cubes.store import load_cubes, open_store
from sdss_photoz.errors import UserError
from sdss_photoz.survey import FRAME_SHAPE, Frame

GALAXY = (38.35503888, -0.15572588)
NOWHERE = (200.0, -80.0)


@pytest.fixture
def folder(tmp_path, real_frame):
    """A user's own folder: two real frames, not in the archive's folders, and other files."""
    folder = tmp_path / "my frames"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(real_frame(2820, 3, 122, "u"), folder / "deep")
    shutil.copy(real_frame(4948, 3, 199, "u"), folder)
    (folder / "frame-u-004948-3-0199.fits.bz2.md5").write_text("0")
    (folder / "frame-list.fits").write_text("0")
    return folder


def write(path, positions, **columns):
    table = pd.DataFrame(positions, columns=["ra", "dec"]).assign(**columns)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return str(path)


def test_store_is_in_the_order_of_the_table_with_repeats_and_places_without_frames(tmp_path, folder, capsys):
    positions = [NOWHERE, GALAXY, (GALAXY[0] - 360, GALAXY[1]), (38.3, -0.1), GALAXY]
    table = write(tmp_path / "positions.csv", positions, name="a galaxy")
    out = tmp_path / "new" / "cubes.zarr"
    assert main(["cutouts", table, "--frames", str(folder), "--out", str(out)]) == 0
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


def test_parquet_tables_and_any_number_of_threads_give_the_same_bytes(tmp_path, folder):
    for name, suffix, threads in [("a", "csv", "1"), ("b", "parquet", "2")]:
        table = write(tmp_path / f"{name}.{suffix}", [GALAXY, (38.3, -0.1)])
        words = ["cutouts", table, "--frames", str(folder), "--out", str(tmp_path / name), "--threads", threads]
        assert main(words) == 0
    for file in (tmp_path / "a").rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()


def test_identical_copies_of_a_frame_count_once(tmp_path, folder):
    shutil.copy(folder / "deep" / "frame-u-002820-3-0122.fits.bz2", folder)
    assert list(find_frames(folder)) == [Frame(2820, 3, 122, "u"), Frame(4948, 3, 199, "u")]
    depth = cutouts(pd.DataFrame([GALAXY], columns=["ra", "dec"]), folder, tmp_path / "cubes.zarr")
    assert depth.tolist() == [[2, 0, 0, 0, 0]]


def test_copies_of_one_frame_are_told_apart_by_what_they_hold(tmp_path, folder, capsys):
    frame = folder / "frame-u-004948-3-0199.fits.bz2"
    plain = folder / "deep" / frame.name.removesuffix(".bz2")
    plain.write_bytes(bz2.decompress(frame.read_bytes()))
    positions = pd.DataFrame([GALAXY], columns=["ra", "dec"])
    assert cutouts(positions, folder, tmp_path / "a.zarr").tolist() == [[2, 0, 0, 0, 0]]
    content = bytearray(plain.read_bytes())
    content[5_000_000] ^= 1  # one bit of one pixel
    plain.write_bytes(content)
    with pytest.raises(
        UserError, match=r"^[^\n]* have the name of one frame but not the same content: [^\n]*$"
    ) as error:
        cutouts(positions, folder, tmp_path / "b.zarr")
    assert str(frame) in str(error.value)
    assert str(plain) in str(error.value)
    assert not (tmp_path / "b.zarr").exists()
    elsewhere = pd.DataFrame([NOWHERE], columns=["ra", "dec"])
    assert cutouts(elsewhere, folder, tmp_path / "c.zarr").sum() == 0  # nothing depends on the frame


def test_missing_position_is_a_row_of_nan_beside_the_others(tmp_path, write_frame, capsys):
    folder = write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0).parent
    here = (180.0, 30.0)
    positions = [here, (np.nan, np.nan), (np.nan, 30.0), (180.0, None), here]
    table = write(tmp_path / "positions.csv", positions, object_id=[9, 8, 7, 6, 2**60])
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
    table = write(tmp_path / "positions.csv", [(180.0, 30.0), (np.nan, np.nan)], **{column: given})
    out = tmp_path / "cubes.zarr"
    assert main(["cutouts", table, "--frames", str(folder), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"object_id is its {column}\n" in said
    assert "without a position: ra has no value in 1\n" in said
    assert open_store(out)["object_id"][:].tolist() == kept
    assert main(["verify", str(out)]) == 0


def test_rows_are_numbered_only_where_nothing_identifies_them_and_that_is_said(tmp_path, write_frame, capsys):
    folder = write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0).parent
    table = write(tmp_path / "positions.csv", [(180.0, 30.0), (180.0, -9999)])
    assert main(["cutouts", table, "--frames", str(folder), "--out", str(tmp_path / "cubes.zarr")]) == 0
    said = capsys.readouterr().out
    assert "object_id is the numbers of the rows, for no column is called so, objID or the like" in said
    assert "without a position: dec is -9999 in 1" in said
    assert open_store(tmp_path / "cubes.zarr")["object_id"][:].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["1237646587172782081", ""], "column 'objID' .* has no identifier in row 2 \\(1 of 2 rows\\)"),
        (["1.23766E+18", "1.23766E+18"], "column 'objID' .* is 1.23766E\\+18, .* in row 1: its last digits are lost"),
        ([1.237646587172782e18, np.nan], "is 1.2376465871727821e\\+18, a floating point number"),
    ],
)
def test_identifiers_that_are_missing_or_rounded_are_refused_by_row(tmp_path, given, sentence):
    with pytest.raises(UserError, match=sentence):
        cutouts(pd.DataFrame({"objID": given, "ra": 1.0, "dec": 1.0}), tmp_path, tmp_path / "cubes.zarr")


def test_a_comma_at_the_end_of_rows_moves_no_position(tmp_path, folder, capsys):
    table = tmp_path / "p.csv"
    table.write_text("ra,dec,z\n38.35503888,-0.15572588,0.085529,\n")
    assert main(["cutouts", str(table), "--frames", str(folder), "--out", str(tmp_path / "cubes.zarr")]) == 1
    assert "row 1 has 4 values, the header 3 names" in capsys.readouterr().err


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


REFUSED = {
    "no WCS": ({"CTYPE1": None, "CTYPE2": None}, "has no world coordinates"),
    "another projection": ({"CTYPE1": "RA---ARC", "CTYPE2": "DEC--ARC"}, "has the projection RA---ARC, DEC--ARC"),
    "a distorted projection": ({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"}, "has the projection RA---TPV, DEC--TPV"),
}


@pytest.mark.parametrize(("change", "sentence"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("band", "rz")
def test_frame_without_plain_tan_coordinates_is_refused_by_name(tmp_path, write_frame, capsys, change, sentence, band):
    """Whether it is the frame of its field whose header places the field, or another."""
    paths = {}
    for other in "rz":
        frame = Frame(94, 1, 11, other)
        paths[other] = tmp_path / "mirror" / frame.name.removesuffix(".bz2")
        write_frame(paths[other], 1.0, frame, change=change if other == band else {})
    words = [write(tmp_path / "p.csv", [(180.0, 30.0)]), "--frames", str(tmp_path / "mirror")]
    assert main(["cutouts", *words, "--out", str(tmp_path / "cubes.zarr")]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"{paths[band]} {sentence}" in message
    assert not (tmp_path / "cubes.zarr").exists()


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
    table = write(tmp_path / "p.csv", [(180.0, 30.0)])
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


def test_mirror_of_links_is_searched_once(tmp_path, folder):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "disk").symlink_to(folder)
    (mirror / "again").symlink_to(mirror)  # a loop
    frames = find_frames(mirror)
    assert list(frames) == [Frame(2820, 3, 122, "u"), Frame(4948, 3, 199, "u")]
    assert frames[Frame(4948, 3, 199, "u")] == mirror / "disk" / "frame-u-004948-3-0199.fits.bz2"


def test_place_where_nothing_can_be_written_is_named(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/cubes.zarr cannot be made"):
        cutouts(pd.DataFrame([GALAXY], columns=["ra", "dec"]), folder, tmp_path / "file" / "cubes.zarr")


@pytest.fixture
def full_disk():
    """A function that lets a file of this process grow to so many bytes and no further."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_without_room_is_one_sentence_before_any_work(tmp_path, write_frame, full_disk, capfd):
    write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0)
    table, out = write(tmp_path / "p.csv", [(180.0, 30.0)] * 3), tmp_path / "out" / "cubes.zarr"
    full_disk(200_000)
    assert main(["cutouts", table, "--frames", str(tmp_path / "mirror"), "--out", str(out)]) == 1
    said = capfd.readouterr().err
    assert "has no room for the cubes of 3 positions (File too large: " in said
    assert f"bytes are free, {3 * (2 * 81920 + 100) + 2**17:,} are needed): make room there, or write to" in said
    assert "the disk mounted at /" in said
    assert said.count("\n") == 1
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("precision", ["float32", "float16", "bits10"])
def test_the_room_for_all_cubes_is_taken_before_any_frame_is_stacked_and_is_enough(
    tmp_path, write_frame, monkeypatch, precision
):
    """The map that cubes are stacked in has no holes, and the store needs no more than was taken for it."""
    write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0)
    positions, taken = pd.DataFrame([(180.0, 30.0)] * 30, columns=["ra", "dec"]), {}
    stack_cubes = module.stack_cubes

    def noise(ra, dec, groups, copies, flux, *rest, **how):
        (folder,) = tmp_path.glob(".cubes.zarr.*.part")
        taken.update({path.name: path.stat() for path in folder.iterdir() if path.is_file()})
        made = stack_cubes(ra, dec, groups, copies, flux, *rest, **how)
        random = np.random.default_rng(0)  # all bits vary, which compresses worst
        flux[:] = np.ldexp(random.uniform(-2, 2, flux.shape), random.integers(-120, 14, flux.shape))
        return made

    monkeypatch.setattr(module, "stack_cubes", noise)
    cutouts(positions, tmp_path / "mirror", tmp_path / "cubes.zarr", precision=precision)
    assert taken["flux"].st_size == 30 * 81920
    assert all(512 * found.st_blocks >= found.st_size for found in taken.values())
    stored = sum(path.stat().st_size for path in (tmp_path / "cubes.zarr").rglob("*") if path.is_file())
    assert 0.8 * taken["room"].st_size < stored < taken["room"].st_size


def test_a_disk_that_somebody_else_fills_meanwhile_is_one_sentence(tmp_path, write_frame, monkeypatch):
    write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "write_shard", full)
    positions = pd.DataFrame([(180.0, 30.0)], columns=["ra", "dec"])
    with pytest.raises(UserError, match=r"no room for the cubes of 1 positions \(No space left on device: "):
        cutouts(positions, tmp_path / "mirror", tmp_path / "cubes.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["mirror"]


@pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_reserved_file_has_no_holes_also_where_the_disk_cannot_reserve(tmp_path, monkeypatch, number):
    def unknown(*_):
        raise OSError(number, os.strerror(number))

    if number is not None:
        monkeypatch.setattr(os, "posix_fallocate", unknown)
    files.reserve(tmp_path / "file", 3_000_001)
    assert (tmp_path / "file").read_bytes() == bytes(3_000_001)
    assert (tmp_path / "file").stat().st_blocks * 512 >= 3_000_001


def test_output_that_exists_is_refused_and_untouched(tmp_path, folder, capsys):
    out = tmp_path / "cubes.zarr"
    out.mkdir()
    (out / "precious").write_text("data")
    table = write(tmp_path / "positions.csv", [GALAXY])
    assert main(["cutouts", table, "--frames", str(folder), "--out", str(out)]) == 1
    assert f"{out} exists already" in capsys.readouterr().err
    assert (out / "precious").read_text() == "data"


BAD_POSITIONS = {
    "all NaN": ([(np.nan, 0.0), (1.0, np.nan)], "no position: ra or dec is missing in each of its 2 rows"),
    "right ascension": (
        [GALAXY, (398.4, 0.0)],
        "'ra' .* is 398.4 in row 2, but right ascensions lie in -360 to 360 degrees",
    ),
    "infinity": ([(10.0, -np.inf)], "no position"),
    "declination": (
        [(10.0, 91.0), (10.0, -95.0)],
        r"'dec' .* is 91 in row 1, but declinations lie in -90 to 90 .*2 of 2",
    ),
    "text": ([("here", 1.0)], "'ra' .* holds text, 'here' in row 1, but right ascensions are numbers"),
    "none": ([], "empty"),
}


@pytest.mark.parametrize(("positions", "sentence"), BAD_POSITIONS.values(), ids=BAD_POSITIONS)
def test_position_that_is_none_is_named_by_its_row(tmp_path, positions, sentence):
    table = pd.DataFrame(positions, columns=["ra", "dec"])
    with pytest.raises(UserError, match=sentence):
        cutouts(table, tmp_path, tmp_path / "cubes.zarr")


@pytest.mark.parametrize("column", ["ra", "dec"])
def test_table_without_a_column_is_refused_from_python_too(tmp_path, column):
    table = pd.DataFrame([GALAXY], columns=["ra", "dec"]).drop(columns=column)
    with pytest.raises(UserError, match=f"the table of positions has no column '{column}'"):
        cutouts(table, tmp_path, tmp_path / "cubes.zarr")


def test_bad_tables_and_folders_are_named(tmp_path, folder, capsys):
    frames = ["--frames", str(folder), "--out", str(tmp_path / "cubes.zarr")]
    cases = [
        ([str(tmp_path / "none.csv"), *frames], "none.csv does not exist"),
        ([write(tmp_path / "a.csv", [GALAXY]), "--frames", str(tmp_path / "no"), *frames[2:]], "is not a folder"),
        ([write(tmp_path / "b.csv", [GALAXY]), "--frames", str(tmp_path / "e"), *frames[2:]], "no corrected frame"),
    ]
    (tmp_path / "e").mkdir()
    (tmp_path / "c.csv").write_text("RA,DEC\n1,2\n")
    cases.append(([str(tmp_path / "c.csv"), *frames], "no column 'ra', right ascensions: did you mean 'RA'?"))
    cases.append(([write(tmp_path / "a.csv", [GALAXY]), *frames, "--threads", "0"], "--threads is 0"))
    (tmp_path / "d.parquet").write_text("not parquet")
    cases.append(([str(tmp_path / "d.parquet"), *frames], "d.parquet cannot be read as a parquet table"))
    for words, sentence in cases:
        assert main(["cutouts", *words]) == 1
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "cubes.zarr").exists()


def test_truncated_frame_is_named_even_where_its_missing_rows_are_not_needed(tmp_path, folder, capsys):
    path = folder / "frame-u-004948-3-0199.fits.bz2"
    path.write_bytes(path.read_bytes()[:2_800_000])
    out = tmp_path / "cubes.zarr"
    assert main(["cutouts", write(tmp_path / "p.csv", [GALAXY]), "--frames", str(folder), "--out", str(out)]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"{path} is truncated" in message
    assert not out.exists()


def test_frame_that_turns_out_damaged_half_way_leaves_nothing_behind(tmp_path, folder, capsys):
    path = folder / "frame-u-004948-3-0199.fits.bz2"
    content = bytearray(path.read_bytes())
    content[500_000] ^= 8
    path.write_bytes(content)
    out = tmp_path / "out" / "cubes.zarr"
    assert main(["cutouts", write(tmp_path / "p.csv", [GALAXY]), "--frames", str(folder), "--out", str(out)]) == 1
    assert f"{path} is damaged" in capsys.readouterr().err.splitlines()[-1]
    assert list(out.parent.iterdir()) == []
