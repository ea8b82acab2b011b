"""A chunk's cubes: each frame decompressed once, one band after the other, missing frames left out."""

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.archive.frames import manifest
from sdss_photoz.cubes import make
from sdss_photoz.cubes.frame import OpenFrame, read_wcs
from sdss_photoz.cubes.make import group_overlaps, make_chunk, stack_cubes
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.stack import median_stack
from sdss_photoz.cubes.store import create_store, load_cubes, open_store, selection_digest, shard_files
from sdss_photoz.errors import UserError
from sdss_photoz.survey import Frame

BOTH = [Frame(94, 1, 11, "r"), Frame(125, 1, 40, "r")]
ALL = [*BOTH, Frame(94, 1, 11, "g"), Frame(94, 1, 11, "i")]
LOW, MIDDLE, HIGH = (np.frombuffer(bytes([byte] * 4), ">f4")[0] for byte in (0x3F, 0x40, 0x41))  # quick to compress


@pytest.fixture(scope="module")
def sky(tmp_path_factory, write_frame):
    """An archive of two runs that see the same sky in r, one of them in g too, the second 0.25 degrees off in i."""
    folder = tmp_path_factory.mktemp("sas")
    for value, frame, ra in [
        (MIDDLE, BOTH[0], 180.0),
        (HIGH, BOTH[1], 180.0),
        (LOW, Frame(94, 1, 11, "g"), 180.0),
        (LOW, Frame(94, 1, 11, "i"), 180.3),
    ]:
        write_frame(folder / frame.path(), value, frame, ra=ra)
    return folder


def galaxies(n=5, first=0):
    ra = 180.0 + 0.01 * np.arange(n)
    return pd.DataFrame(
        {"object_id": 1000 + np.arange(n), "ra": ra, "dec": 30.0, "row": first + np.arange(n), "chunk": 0}
    )


def overlap_table(n=5, frames=ALL):
    return pd.DataFrame([{"galaxy": k, **frame._asdict()} for k in range(n) for frame in frames])


def run(tmp_path, sky, table, overlaps, listed=None, n=None, chunks=1, chunk=0):
    store, n = tmp_path / "cubes.zarr", n or len(table)
    create_store(store, n, chunks, selection_digest(range(n), np.zeros(n), np.zeros(n), chunks))
    sas = sky.as_uri()
    listed = manifest(overlaps, sas=sas, mirror=tmp_path / "mirror") if listed is None else listed
    return store, make_chunk(table, overlaps, listed, store, chunk, sas=sas, mirror=tmp_path / "mirror")


def test_chunk_holds_the_median_of_the_runs_and_says_so(tmp_path, sky):
    store, quality = run(tmp_path, sky, galaxies(), overlap_table())
    flux, depth = open_store(store)["flux"][:], open_store(store)["depth"][:]
    np.testing.assert_allclose(flux[..., 2], (MIDDLE + HIGH) / 2, rtol=1e-5)
    np.testing.assert_allclose(flux[..., 1], LOW, rtol=1e-5)
    assert np.isnan(flux[..., [0, 3, 4]]).all()
    np.testing.assert_array_equal(depth, [[0, 1, 2, 0, 0]] * 5)
    assert quality["object_id"].tolist() == [1000, 1001, 1002, 1003, 1004]
    assert quality["frames_r"].tolist() == [2] * 5
    assert quality["frames_i"].tolist() == [0] * 5
    assert quality["coverage_g"].tolist() == [1.0] * 5
    assert quality["coverage_z"].tolist() == [0.0] * 5
    assert set(quality["selection"]) == {open_store(store).attrs["selection"]}
    assert (load_cubes(store, [4])[..., 0] == 0).all()


def test_each_frame_is_opened_once_and_bands_one_after_the_other(tmp_path, sky, monkeypatch):
    opened = []

    class Counted(OpenFrame):
        def __init__(self, path, *words):
            opened.append(Frame.from_path(path))
            super().__init__(path, *words)

    monkeypatch.setattr(make, "OpenFrame", Counted)
    run(tmp_path, sky, galaxies(), overlap_table())
    assert len(opened) == len(set(opened)) == 4
    assert [frame.band for frame in opened] == ["g", "r", "r", "i"]


def test_frame_that_the_archive_lacks_is_left_out(tmp_path, sky):
    overlaps = overlap_table(frames=(*BOTH, Frame(9999, 1, 11, "r")))
    listed = manifest(overlaps, sas=sky.as_uri(), mirror=tmp_path, missing_fraction=0.5)
    assert listed.set_index("run")["state"].to_dict() == {94: "ok", 125: "ok", 9999: "not in the archive"}
    store, quality = run(tmp_path, sky, galaxies(), overlaps, listed)
    assert quality["frames_r"].tolist() == [2] * 5
    np.testing.assert_allclose(open_store(store)["flux"][..., 2], (MIDDLE + HIGH) / 2, rtol=1e-5)


def test_short_last_chunk_fills_its_part_of_the_shard(tmp_path, sky):
    store, quality = run(tmp_path, sky, galaxies(2, first=3), overlap_table(2), n=5, chunks=2, chunk=1)
    assert quality["row"].tolist() == [3, 4]
    assert shard_files(store, 1)[0].is_file()
    np.testing.assert_allclose(load_cubes(store, [3, 4])[..., 2], (MIDDLE + HIGH) / 2, rtol=1e-5)


def test_galaxies_of_another_chunk_and_frames_without_manifest_are_refused(tmp_path, sky):
    with pytest.raises(UserError, match="holds rows 0 to 2"):
        run(tmp_path, sky, galaxies(2, first=3), overlap_table(2), n=5, chunks=2, chunk=0)
    listed = manifest(overlap_table(frames=BOTH[1:]), sas=sky.as_uri(), mirror=tmp_path)
    with pytest.raises(UserError, match=r"manifest of chunk 0 lacks 3 frames, among them frame-g-000094-1-0011"):
        run(tmp_path, sky, galaxies(), overlap_table(), listed)
    assert not shard_files(tmp_path / "cubes.zarr", 0)[0].exists()


def test_frame_under_a_wrong_name_is_named(tmp_path, sky, write_frame):
    wrong = Frame(777, 1, 11, "r")
    write_frame(tmp_path / "sas" / wrong.path(), LOW, BOTH[0])
    overlaps = overlap_table(frames=[wrong])
    listed = overlaps.drop(columns="galaxy").drop_duplicates().assign(state="ok")
    with pytest.raises(UserError, match=r"frame-r-000777-1-0011.fits.bz2 holds another frame: .* run 94"):
        run(tmp_path, tmp_path / "sas", galaxies(), overlaps, listed)


def test_frame_damaged_in_its_middle_is_named_in_one_sentence_and_leaves_no_shard(tmp_path, real_frame):
    """The manifest looks at the two ends of a frame; what lies between shows where it is decompressed."""
    frame = Frame(2820, 3, 122, "u")
    path = tmp_path / "sas" / frame.path()
    path.parent.mkdir(parents=True)
    content = bytearray(real_frame(*frame).read_bytes())
    content[1_480_000] ^= 4
    path.write_bytes(content)
    ra, dec = Projection(read_wcs(path)).centre((2 * 663 + 1, 2048))  # the last row that its grid reads is 698
    table = galaxies(1).assign(ra=ra, dec=dec)
    listed = manifest(overlap_table(1, [frame]), sas=(tmp_path / "sas").as_uri(), mirror=tmp_path / "mirror")
    assert listed["state"].tolist() == ["ok"]
    with pytest.raises(UserError, match="is damaged") as error:
        run(tmp_path, tmp_path / "sas", table, overlap_table(1, [frame]), listed)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not shard_files(tmp_path / "cubes.zarr", 0)[0].exists()


def test_order_of_the_overlaps_changes_no_bit(tmp_path, sky):
    """Rows of a real query come in any order."""
    results = []
    for order, name in [(1, "a"), (-1, "b")]:
        overlaps = overlap_table()[::order]
        store, _ = run(tmp_path / name, sky, galaxies(), overlaps)
        results.append(shard_files(store, 0)[0].read_bytes())
    assert results[0] == results[1]


def test_galaxy_is_stacked_and_let_go_as_soon_as_its_last_frame_was_read(sky, monkeypatch):
    """So a chunk's memory does not grow with the number of frames: here a strip of six, two galaxies on each."""
    events = []
    path = sky / BOTH[0].path()

    class Watched(OpenFrame):
        def __init__(self, _, threads, frame):
            events.append(f"read {frame.field}")
            super().__init__(path, threads)

    monkeypatch.setattr(make, "OpenFrame", Watched)
    monkeypatch.setattr(make, "median_stack", lambda layers: events.append("stack") or median_stack(layers))
    overlaps = [(Frame(94, 1, 11 + k, "r"), np.array([k, k + 1])) for k in range(6)]
    flux, depth = np.empty((7, 64, 64, 5), "f4"), np.empty((7, 5), "u2")
    copies = lambda _: (path for _ in [0])
    counts, _ = stack_cubes(np.full(7, 180.0), np.full(7, 30.0), overlaps, copies, flux, depth)
    assert counts[:, 2].tolist() == [1, 2, 2, 2, 2, 2, 1]
    assert events == [event for k in range(6) for event in (f"read {11 + k}", "stack")] + ["stack"]


def test_overlaps_are_grouped_along_the_galaxies():
    table = pd.DataFrame(
        [(2, 9, 1, 5, "r"), (0, 9, 1, 6, "r"), (1, 9, 1, 5, "r"), (1, 9, 1, 6, "r")],
        columns=["galaxy", "run", "camcol", "field", "band"],
    )
    for listed in (table, pd.concat([table, table])):  # a field listed twice is still one frame
        groups = group_overlaps(listed)
        assert [(frame.field, rows.tolist()) for frame, rows in groups] == [(6, [0, 1]), (5, [1, 2])]
