"""`sdss-photoz cutouts`: cubes for any table of positions from any folder of corrected frames."""

import shutil

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.cli import main
from sdss_photoz.cubes.cutouts import cutouts, find_frames
from sdss_photoz.cubes.store import load_cubes, open_store
from sdss_photoz.errors import UserError
from sdss_photoz.survey import Frame

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
    assert "5 cubes; with at least one frame in u 4, g 0" in capsys.readouterr().out
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


def test_same_frame_twice_counts_once(tmp_path, folder):
    shutil.copy(folder / "deep" / "frame-u-002820-3-0122.fits.bz2", folder)
    assert list(find_frames(folder)) == [Frame(2820, 3, 122, "u"), Frame(4948, 3, 199, "u")]
    depth = cutouts(pd.DataFrame([GALAXY], columns=["ra", "dec"]), folder, tmp_path / "cubes.zarr")
    assert depth.tolist() == [[2, 0, 0, 0, 0]]


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


def test_output_that_exists_is_refused_and_untouched(tmp_path, folder, capsys):
    out = tmp_path / "cubes.zarr"
    out.mkdir()
    (out / "precious").write_text("data")
    table = write(tmp_path / "positions.csv", [GALAXY])
    assert main(["cutouts", table, "--frames", str(folder), "--out", str(out)]) == 1
    assert f"{out} exists already" in capsys.readouterr().err
    assert (out / "precious").read_text() == "data"


BAD_POSITIONS = {
    "NaN": ([GALAXY, (np.nan, 0.0)], r"1 of 2 positions are none, the first in row 2 \(ra nan"),
    "right ascension": ([GALAXY, (398.4, 0.0)], r"1 of 2 positions are none, the first in row 2 \(ra 398.4"),
    "infinity": ([(10.0, -np.inf)], "dec -inf"),
    "declination": ([(10.0, 91.0), (10.0, -95.0)], r"2 of 2 positions are none, the first in row 1 \(ra 10.0, dec 91"),
    "text": ([("here", 1.0)], "ra here"),
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
        ([str(tmp_path / "none.csv"), *frames], "none.csv cannot be read"),
        ([write(tmp_path / "a.csv", [GALAXY]), "--frames", str(tmp_path / "no"), *frames[2:]], "is not a folder"),
        ([write(tmp_path / "b.csv", [GALAXY]), "--frames", str(tmp_path / "e"), *frames[2:]], "no corrected frame"),
    ]
    (tmp_path / "e").mkdir()
    (tmp_path / "c.csv").write_text("RA,DEC\n1,2\n")
    cases.append(
        ([str(tmp_path / "c.csv"), *frames], "no column 'ra': it needs ra and dec in degrees, and has RA, DEC")
    )
    cases.append(([write(tmp_path / "a.csv", [GALAXY]), *frames, "--threads", "0"], "--threads is 0"))
    (tmp_path / "d.parquet").write_text("not parquet")
    cases.append(([str(tmp_path / "d.parquet"), *frames], "d.parquet cannot be read as a table"))
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
