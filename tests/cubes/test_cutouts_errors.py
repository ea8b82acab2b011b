"""`sdss-photoz cutouts` refuses wrong tables, folders and frames by name and leaves nothing behind."""

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.frames import GALAXY, write_positions

from sdss_photoz.app.cli import main
from sdss_photoz.cubes.cutouts import cutouts
from sdss_photoz.errors import UserError
from sdss_photoz.surveys.sdss import Frame


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


def test_a_comma_at_the_end_of_rows_moves_no_position(tmp_path, frames_folder, capsys):
    table = tmp_path / "p.csv"
    table.write_text("ra,dec,z\n38.35503888,-0.15572588,0.085529,\n")
    assert main(["cutouts", str(table), "--frames", str(frames_folder), "--out", str(tmp_path / "cubes.zarr")]) == 1
    assert "row 1 has 4 values, the header 3 names" in capsys.readouterr().err


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
    words = [write_positions(tmp_path / "p.csv", [(180.0, 30.0)]), "--frames", str(tmp_path / "mirror")]
    assert main(["cutouts", *words, "--out", str(tmp_path / "cubes.zarr")]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"{paths[band]} {sentence}" in message
    assert not (tmp_path / "cubes.zarr").exists()


def test_place_where_nothing_can_be_written_is_named(tmp_path, frames_folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/cubes.zarr cannot be made"):
        cutouts(pd.DataFrame([GALAXY], columns=["ra", "dec"]), frames_folder, tmp_path / "file" / "cubes.zarr")


def test_output_that_exists_is_refused_and_untouched(tmp_path, frames_folder, capsys):
    out = tmp_path / "cubes.zarr"
    out.mkdir()
    (out / "precious").write_text("data")
    table = write_positions(tmp_path / "positions.csv", [GALAXY])
    assert main(["cutouts", table, "--frames", str(frames_folder), "--out", str(out)]) == 1
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


def test_bad_tables_and_folders_are_named(tmp_path, frames_folder, capsys):
    frames = ["--frames", str(frames_folder), "--out", str(tmp_path / "cubes.zarr")]
    cases = [
        ([str(tmp_path / "none.csv"), *frames], "none.csv does not exist"),
        (
            [write_positions(tmp_path / "a.csv", [GALAXY]), "--frames", str(tmp_path / "no"), *frames[2:]],
            "is not a folder",
        ),
        (
            [write_positions(tmp_path / "b.csv", [GALAXY]), "--frames", str(tmp_path / "e"), *frames[2:]],
            "no corrected frame",
        ),
    ]
    (tmp_path / "e").mkdir()
    (tmp_path / "c.csv").write_text("RA,DEC\n1,2\n")
    cases.append(([str(tmp_path / "c.csv"), *frames], "no column 'ra', right ascensions: did you mean 'RA'?"))
    cases.append(([write_positions(tmp_path / "a.csv", [GALAXY]), *frames, "--threads", "0"], "--threads is 0"))
    (tmp_path / "d.parquet").write_text("not parquet")
    cases.append(([str(tmp_path / "d.parquet"), *frames], "d.parquet cannot be read as a parquet table"))
    for words, sentence in cases:
        assert main(["cutouts", *words]) == 1
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "cubes.zarr").exists()


def test_truncated_frame_is_named_even_where_its_missing_rows_are_not_needed(tmp_path, frames_folder, capsys):
    path = frames_folder / "frame-u-004948-3-0199.fits.bz2"
    path.write_bytes(path.read_bytes()[:2_800_000])
    out = tmp_path / "cubes.zarr"
    table = write_positions(tmp_path / "p.csv", [GALAXY])
    assert main(["cutouts", table, "--frames", str(frames_folder), "--out", str(out)]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"{path} is truncated" in message
    assert not out.exists()


def test_frame_that_turns_out_damaged_half_way_leaves_nothing_behind(tmp_path, frames_folder, capsys):
    path = frames_folder / "frame-u-004948-3-0199.fits.bz2"
    content = bytearray(path.read_bytes())
    content[500_000] ^= 8
    path.write_bytes(content)
    out = tmp_path / "out" / "cubes.zarr"
    table = write_positions(tmp_path / "p.csv", [GALAXY])
    assert main(["cutouts", table, "--frames", str(frames_folder), "--out", str(out)]) == 1
    assert f"{path} is damaged" in capsys.readouterr().err.splitlines()[-1]
    assert list(out.parent.iterdir()) == []
