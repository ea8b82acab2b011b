"""A chunk's cubes: each frame decompressed once, one band after the other, missing frames left out."""

import numpy as np
import pandas as pd
import pytest
import tenacity
from tests.fixtures.frame_server import frame_server

from sdss_photoz.archive import http
from sdss_photoz.config import Archive
from sdss_photoz.cubes import make
from sdss_photoz.cubes.frame import OpenFrame, read_wcs
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.make import make_chunk, stack_cubes
from sdss_photoz.cubes.reading_order import group_overlaps
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.stack import STACKS, median_stack
from sdss_photoz.cubes.store import open_store, shard_files
from sdss_photoz.errors import UserError
from sdss_photoz.frames.mirror import deferred_manifest, manifest
from sdss_photoz.surveys.sdss import Frame

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


def run(tmp_path, sky, table, overlaps, listed=None, n=None, chunks=1, chunk=0, **settings):
    store, n = tmp_path / "cubes.zarr", n or len(table)
    create_store(store, galaxies(n), chunks)
    sas = sky.as_uri()
    listed = manifest(overlaps, sas=sas, mirror=tmp_path / "mirror") if listed is None else listed
    places = {"sas": sas, "mirror": tmp_path / "mirror"}
    return store, make_chunk(table, overlaps, listed, store, chunk, **places, **settings)


@pytest.fixture
def served(sky, monkeypatch):
    """The same archive behind HTTP."""
    monkeypatch.setattr(http, "_backoff", tenacity.wait_fixed(0.01))
    with frame_server() as server:
        for frame in ALL:
            server.add(frame, (sky / frame.path()).read_bytes())
        yield server


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, write_frame):
    """A frame of many compressed blocks, as bytes."""
    noise = np.random.default_rng(0).choice([LOW, MIDDLE, HIGH], (1489, 2048), p=[0.9, 0.05, 0.05])
    return write_frame(tmp_path_factory.mktemp("noisy") / BOTH[0].name, noise, BOTH[0]).read_bytes()


def run_served(tmp_path, served, listed, overlaps=None, **archive):
    """Make a chunk with frames of the server; the shard's bytes, the mirror's and the scratch folder's paths."""
    store, table = tmp_path / "cubes.zarr", galaxies()
    create_store(store, table, 1)
    archive = Archive(timeout_seconds=2.0, patience_minutes=0.01, **archive)
    overlaps = overlap_table() if overlaps is None else overlaps
    given = {"sas": served.url, "mirror": tmp_path / "mirror", "scratch": tmp_path / "scratch", "connections": 2}
    quality = make_chunk(table, overlaps, listed, store, 0, **given, archive=archive)
    return shard_files(store, 0)[0].read_bytes(), quality


def spoiled(frame_bytes: bytes) -> bytes:
    """A frame whose two ends and header are right: the damage is in a block that the galaxies need."""
    middle = len(frame_bytes) // 2
    return (
        frame_bytes[:middle]
        + bytes(255 - byte for byte in frame_bytes[middle : middle + 8])
        + frame_bytes[middle + 8 :]
    )


@pytest.mark.parametrize(("stack", "expected"), [("median", MIDDLE), ("mean", (2 * MIDDLE + HIGH) / 3)])
def test_of_three_runs_the_middle_one_counts_or_their_mean(tmp_path, write_frame, stack, expected):
    frames = [*BOTH, Frame(1331, 1, 70, "r")]
    for value, frame in zip((MIDDLE, HIGH, MIDDLE), frames, strict=True):
        write_frame(tmp_path / "sas" / frame.path(), value, frame)
    store, _ = run(tmp_path, tmp_path / "sas", galaxies(1), overlap_table(1, frames), stack=stack)
    np.testing.assert_allclose(open_store(store)["flux"][:][..., 2], expected, rtol=1e-5)


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
    listed = overlaps.drop(columns="galaxy").drop_duplicates().assign(sha256="", state="ok")
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


def test_kept_frames_and_frames_that_come_later_give_the_same_cubes(tmp_path, sky, served):
    store, quality = run(tmp_path / "folder", sky, galaxies(), overlap_table())
    folder = shard_files(store, 0)[0].read_bytes()
    kept = manifest(overlap_table(), sas=served.url, mirror=tmp_path / "kept" / "mirror")
    mirrored, of_mirror = run_served(tmp_path / "kept", served, kept)
    assert len(served.asked) == 4  # none of them for the cubes
    listed = deferred_manifest(overlap_table())
    assert listed["state"].tolist() == ["later"] * 4
    assert listed["bytes"].sum() == 0
    assert listed["sha256"].tolist() == [""] * 4
    dropped, of_scratch = run_served(tmp_path / "dropped", served, listed)
    assert len(served.asked) == 8
    assert folder == mirrored == dropped
    pd.testing.assert_frame_equal(quality, of_mirror)
    pd.testing.assert_frame_equal(quality, of_scratch)
    assert not (tmp_path / "dropped" / "mirror").exists()
    assert not (tmp_path / "dropped" / "scratch").exists()


def test_frames_that_are_not_kept_come_from_the_mirror_where_it_has_them(tmp_path, served):
    overlaps = overlap_table(frames=[*BOTH, Frame(9999, 1, 11, "r")])
    listed = deferred_manifest(overlaps)
    straight, _ = run_served(tmp_path / "straight", served, listed, overlaps, missing_fraction=0.34)
    mirror = tmp_path / "part" / "mirror"
    manifest(overlaps[overlaps["run"] == BOTH[0].run], sas=served.url, mirror=mirror)
    served.requests.clear()
    found, _ = run_served(tmp_path / "part", served, deferred_manifest(overlaps), overlaps, missing_fraction=0.34)
    assert found == straight
    assert f"/sas/{BOTH[0].path()}" not in served.asked
    assert [path.name for path in mirror.rglob("*") if path.is_file()] == [BOTH[0].name]


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "later"])
def test_frame_found_damaged_by_its_checksum_is_fetched_once_more(tmp_path, served, noisy, keep):
    served.add(BOTH[0], noisy)
    whole, _ = run_served(tmp_path / "whole", served, deferred_manifest(overlap_table()))
    served.requests.clear()
    served.add(BOTH[0], noisy, faults=["flipped in its middle"])
    overlaps = overlap_table()
    fetched = keep and manifest(overlaps, sas=served.url, mirror=tmp_path / "mirror")
    listed = fetched if keep else deferred_manifest(overlaps)
    shard, _ = run_served(tmp_path, served, listed)
    assert shard == whole
    assert len(served.asked) == 5
    assert served.asked.count(f"/sas/{BOTH[0].path()}") == 2
    if keep:
        assert (tmp_path / "mirror" / BOTH[0].path()).read_bytes() == noisy


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "later"])
def test_frame_damaged_in_the_archive_itself_is_one_sentence_after_a_second_copy(tmp_path, served, noisy, keep):
    served.add(BOTH[0], spoiled(noisy))
    overlaps = overlap_table()
    fetched = keep and manifest(overlaps, sas=served.url, mirror=tmp_path / "mirror")
    listed = fetched if keep else deferred_manifest(overlaps)
    with pytest.raises(UserError, match=r"frame-r-000094-1-0011.fits.bz2 is damaged .* fetched once more") as error:
        run_served(tmp_path, served, listed)
    assert "\n" not in str(error.value)
    assert served.asked.count(f"/sas/{BOTH[0].path()}") == 2
    assert not (tmp_path / "scratch").exists()
    assert not shard_files(tmp_path / "cubes.zarr", 0)[0].exists()


def test_damaged_frame_of_an_archive_that_is_a_folder_is_never_touched(tmp_path, noisy):
    path = tmp_path / "sas" / BOTH[0].path()
    path.parent.mkdir(parents=True)
    path.write_bytes(spoiled(noisy))
    with pytest.raises(UserError, match=r"is damaged .*; delete it and fetch it again\.$"):
        run(tmp_path, tmp_path / "sas", galaxies(), overlap_table(frames=BOTH[:1]))
    assert path.read_bytes() == spoiled(noisy)


def test_frames_that_come_later_may_be_missing_up_to_the_configured_fraction(tmp_path, served):
    overlaps = overlap_table(frames=[*BOTH, Frame(9999, 1, 11, "r")])
    _, quality = run_served(tmp_path / "a", served, deferred_manifest(overlaps), overlaps, missing_fraction=0.34)
    assert quality["frames_r"].tolist() == [2] * 5
    with pytest.raises(UserError, match="1 of 3 frames are missing from http"):
        run_served(tmp_path / "b", served, deferred_manifest(overlaps), overlaps, missing_fraction=0.33)
    assert not shard_files(tmp_path / "b" / "cubes.zarr", 0)[0].exists()


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
    monkeypatch.setitem(STACKS, "median", lambda layers: events.append("stack") or median_stack(layers))

    def copies(frame):
        yield path

    overlaps = [(Frame(94, 1, 11 + k, "r"), np.array([k, k + 1])) for k in range(6)]
    flux, depth = np.empty((7, 64, 64, 5), "f4"), np.empty((7, 5), "u2")
    made = stack_cubes(np.full(7, 180.0), np.full(7, 30.0), overlaps, copies, flux, depth)
    assert made.frames[:, 2].tolist() == [1, 2, 2, 2, 2, 2, 1]
    assert events == [event for k in range(6) for event in (f"read {11 + k}", "stack")] + ["stack"]


def test_parts_of_a_chunk_give_its_bytes_and_its_table(tmp_path, sky, served, monkeypatch):
    """Without memory for layers each galaxy is a part, and frames that are not kept are fetched for each part."""
    store, quality = run(tmp_path / "whole", sky, galaxies(), overlap_table())
    monkeypatch.setattr(make, "_memory_for_layers", lambda *_: 0.0)
    parts, of_parts = run(tmp_path / "parts", sky, galaxies(), overlap_table())
    fetched, of_fetched = run_served(tmp_path / "fetched", served, deferred_manifest(overlap_table()))
    assert len(served.asked) == 5 * len(ALL)
    assert shard_files(store, 0)[0].read_bytes() == shard_files(parts, 0)[0].read_bytes() == fetched
    pd.testing.assert_frame_equal(quality, of_parts)
    pd.testing.assert_frame_equal(quality, of_fetched)
    assert not (tmp_path / "fetched" / "scratch").exists()


def test_threads_change_no_byte(tmp_path, sky):
    store, _ = run(tmp_path / "one", sky, galaxies(), overlap_table())
    other, _ = run(tmp_path / "three", sky, galaxies(), overlap_table(), threads=3)
    assert shard_files(store, 0)[0].read_bytes() == shard_files(other, 0)[0].read_bytes()


def test_chunk_that_cannot_be_written_within_its_memory_is_refused_before_any_frame_is_read(tmp_path, sky):
    with pytest.raises(UserError, match=r"chunk 0 has 5 galaxies, .* cubes.memory_gb is 0.4: raise it, or"):
        run(tmp_path, sky, galaxies(), overlap_table(), memory_gb=0.4)


@pytest.mark.parametrize(("rows", "rule", "expected"), [
    ("keep", "median", MIDDLE), ("trim", "median", (LOW + MIDDLE) / 2), ("keep", "mean", (LOW + MIDDLE + HIGH) / 3),
    ("trim", "mean", (LOW + MIDDLE) / 2),
])  # fmt: skip
def test_two_fields_of_one_run_vote_twice_or_once(tmp_path, write_frame, rows, rule, expected):
    """Against a third run, on a sky where each frame has its own value."""
    frames = [Frame(94, 1, 11, "r"), Frame(94, 1, 12, "r"), Frame(125, 1, 40, "r")]
    for frame, value in zip(frames, (LOW, HIGH, MIDDLE), strict=True):
        write_frame(tmp_path / "sas" / frame.path(), value, frame)
    overlaps = overlap_table(frames=frames[::-1])
    store, quality = run(tmp_path, tmp_path / "sas", galaxies(), overlaps, stack=rule, overlap_rows=rows)
    np.testing.assert_allclose(open_store(store)["flux"][..., 2], expected, rtol=1e-5)
    assert (open_store(store)["depth"][:, 2] == (3 if rows == "keep" else 2)).all()
    assert set(quality["used_r"]) == {"94-1-11 94-1-12 125-1-40" if rows == "keep" else "94-1-11 125-1-40"}


def test_overlaps_are_grouped_along_the_galaxies():
    table = pd.DataFrame(
        [(2, 9, 1, 5, "r"), (0, 9, 1, 6, "r"), (1, 9, 1, 5, "r"), (1, 9, 1, 6, "r")],
        columns=["galaxy", "run", "camcol", "field", "band"],
    )
    for listed in (table, pd.concat([table, table])):  # a field listed twice is still one frame
        groups = group_overlaps(listed)
        assert [(frame.field, rows.tolist()) for frame, rows in groups] == [(6, [0, 1]), (5, [1, 2])]
