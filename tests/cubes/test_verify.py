"""`sdss-photoz verify` accepts a whole store alone, and names each file that is wrong with its chunk."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import zarr
from tests.conftest import ROOT

from sdss_photoz.app.cli import main
from sdss_photoz.cubes import VERSION
from sdss_photoz.cubes.layout import PRECISIONS, create_store, layout_paths
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import open_store, record_digests, shard_files, write_shard
from sdss_photoz.cubes.verify import verify
from sdss_photoz.files import write_parquet

ROWS = [range(0, 5), range(5, 9)]


def galaxies(n=9):
    return pd.DataFrame({"object_id": 1000 + np.arange(n), "ra": np.linspace(10, 20, n), "dec": np.linspace(0, 1, n)})


def note(store, chunk, rows, digests):
    """A chunk's quality table, as far as `verify` reads it."""
    table = pd.DataFrame({"object_id": 1000 + np.array(rows), "row": rows, "version": VERSION})
    table["selection"] = open_store(store).attrs["selection"]
    table["flux_sha256"], table["depth_sha256"] = digests["flux"], digests["depth"]
    write_parquet(store.parent / "cubes" / f"quality-{chunk}.parquet", table)


def make(folder, precision="float32", tables=True):
    """A store of nine noisy cubes in two chunks, with quality tables as of the workflow or without as of cutouts."""
    store = folder / "cubes.zarr"
    quality = "../cubes/quality-{chunk}.parquet" if tables else None
    create_store(store, galaxies(), 2, precision=precision, quality=quality)
    flux = np.random.default_rng(1).normal(size=(9, 64, 64, 5)).astype("f4")
    digests = [write_shard(store, k, flux[rows], np.full((len(rows), 5), 1 + k)) for k, rows in enumerate(ROWS)]
    if tables:
        for chunk, rows in enumerate(ROWS):
            note(store, chunk, rows, digests[chunk])
    else:
        record_digests(store, digests)
    return store


def flaws(store):
    """Chunk and file of each flaw."""
    return [(flaw.chunk, str(flaw.file.relative_to(store) if store in flaw.file.parents else flaw.file.name))
            for flaw in verify(store)]  # fmt: skip


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tables", [True, False], ids=["workflow", "cutouts"])
def test_a_whole_store_is_accepted_with_one_line(tmp_path, capsys, precision, tables):
    store = make(tmp_path, precision, tables)
    assert main(["verify", str(store)]) == 0
    assert capsys.readouterr().out == f"{store} is whole: 9 cubes in 2 chunks.\n"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_store_of_cutouts_is_accepted_until_a_shard_of_it_is_altered(tmp_path, write_frame, capsys, precision):
    write_frame(tmp_path / "frames" / "frame-r-000094-1-0011.fits", 0.7)
    out, table = tmp_path / "out.zarr", tmp_path / "positions.csv"
    table.write_text("ra,dec\n180,30\n,\n20,-80\n")  # one on the frame, one missing, one beside
    words = ["--frames", str(tmp_path / "frames"), "--out", str(out), "--precision", precision]
    assert main(["cutouts", str(table), *words]) == 0
    np.testing.assert_allclose(load_cubes(out, range(3))[..., 2].mean(axis=(1, 2)), [0.7, 0, 0], rtol=2**-10)
    assert main(["verify", str(out)]) == 0
    assert main(["verify", str(out)]) == 0  # as often as one likes
    shard = shard_files(out, 0)[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["verify", str(out)]) == 1
    output = capsys.readouterr()
    assert output.out.startswith(f"chunk 0: {shard} is not the file that was written")
    assert output.err.endswith(f"{out} is not whole: remove it and run sdss-photoz cutouts again.\n")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tables", [True, False], ids=["workflow", "cutouts"])
@pytest.mark.parametrize("name", ["flux/c/1/0/0/0", "depth/c/1/0"])
def test_a_shard_that_is_missing_truncated_or_altered_by_one_bit_is_named(tmp_path, precision, tables, name):
    store = make(tmp_path, precision, tables)
    file = store / name
    whole = file.read_bytes()
    places = {0, len(whole) - 1, *random.Random(1).choices(range(len(whole)), k=10)}
    for damaged in (
        *(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places),
        *(whole[: int(share * len(whole))] for share in (0, 0.5, 0.999)),
        whole + b"\0",
    ):
        file.write_bytes(damaged)
        assert flaws(store) == [(1, name)]
    file.unlink()
    assert flaws(store) == [(1, name)]
    file.write_bytes(whole)
    assert not flaws(store)


def test_an_empty_shard_is_named_also_where_its_table_is_wrong(tmp_path):
    store = make(tmp_path)
    (tmp_path / "cubes" / "quality-1.parquet").unlink()
    (store / "depth/c/1/0").write_bytes(b"")
    assert flaws(store) == [(1, "quality-1.parquet"), (1, "depth/c/1/0")]


@pytest.mark.parametrize("tables", [True, False], ids=["workflow", "cutouts"])
def test_swapped_shards_of_two_chunks_are_named(tmp_path, tables):
    store = make(tmp_path, tables=tables)
    for one, other in zip(shard_files(store, 0), shard_files(store, 1), strict=True):
        one.rename(store / "aside")
        other.rename(one)
        (store / "aside").rename(other)
    assert flaws(store) == [(0, "flux/c/0/0/0/0"), (0, "depth/c/0/0"), (1, "flux/c/1/0/0/0"), (1, "depth/c/1/0")]


def test_shards_swapped_with_their_tables_are_named_for_their_galaxies(tmp_path):
    store = make(tmp_path)
    tables = [store.parent / "cubes" / f"quality-{chunk}.parquet" for chunk in (0, 1)]
    for one, other in zip((*shard_files(store, 0), tables[0]), (*shard_files(store, 1), tables[1]), strict=True):
        one.rename(tmp_path / "aside")
        other.rename(one)
        (tmp_path / "aside").rename(other)
    assert flaws(store) == [(0, "quality-0.parquet"), (1, "quality-1.parquet")]
    assert "another chunk's galaxies" in next(verify(store)).what


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"selection": "0" * 64}, "another selection"),
        ({"version": VERSION - 1}, f"version {VERSION - 1} of the stage cubes, not {VERSION}"),
        ({"object_id": 1}, "another chunk's galaxies"),
        ({"flux_sha256": None}, "SHA-256"),
    ],
    ids=["selection", "version", "galaxies", "digest"],
)
def test_a_table_of_another_selection_version_or_shard_is_named(tmp_path, change, what):
    store = make(tmp_path)
    table = tmp_path / "cubes" / "quality-1.parquet"
    pd.read_parquet(table).assign(**change).to_parquet(table)
    (flaw,) = verify(store)
    assert flaw.chunk == 1
    assert what in flaw.what


def test_a_table_that_is_missing_damaged_or_of_an_older_release_is_named(tmp_path):
    store = make(tmp_path)
    table = tmp_path / "cubes" / "quality-0.parquet"
    pd.read_parquet(table).drop(columns="flux_sha256").to_parquet(table)
    assert flaws(store) == [(0, "quality-0.parquet")]
    table.write_bytes(table.read_bytes()[:-100])
    assert flaws(store) == [(0, "quality-0.parquet")]
    table.unlink()
    shard_files(store, 0)[1].unlink()
    assert [str(flaw) for flaw in verify(store)] == [
        f"chunk 0: {tmp_path}/cubes/quality-0.parquet is missing",
        f"chunk 0: {store}/depth/c/0/0 is missing",
    ]


def test_shards_left_from_another_precision_are_named(tmp_path):
    store = make(tmp_path)
    for precision in ("float16", "bits10"):
        create_store(store, galaxies(), 2, precision=precision, quality="../cubes/quality-{chunk}.parquet")
        assert flaws(store) == [(0, "flux/c/0/0/0/0"), (1, "flux/c/1/0/0/0")]


def test_shards_left_from_another_selection_are_named(tmp_path):
    store = make(tmp_path)
    create_store(store, galaxies()[::-1], 2, quality="../cubes/quality-{chunk}.parquet")
    assert flaws(store) == [(0, "quality-0.parquet"), (1, "quality-1.parquet")]


def test_coordinates_that_are_missing_or_altered_are_named_as_the_stores_own(tmp_path):
    store = make(tmp_path)
    for file in layout_paths(store):
        content = file.read_bytes()
        file.unlink()
        assert flaws(store) == [(None, str(file.relative_to(store)))]
        file.write_bytes(content)
    for name in ("object_id", "ra", "dec"):
        file = store / name / "c" / "0"
        content = file.read_bytes()
        file.write_bytes(content[:9] + bytes([content[9] ^ 1]) + content[10:])
        assert [flaw.chunk for flaw in verify(store)] == [None]
        file.write_bytes(content)
        with contextlib.suppress(ValueError):
            zarr.open_group(store, mode="r+")[name][3] = 5  # whole, but other galaxies
        assert [flaw.chunk for flaw in verify(store)] == [None]
        file.write_bytes(content)
    assert not flaws(store)


@pytest.mark.parametrize("name", ["zarr.json", "flux/zarr.json", "depth/zarr.json"])
def test_metadata_that_are_not_as_they_were_made_are_named_as_the_stores_own(tmp_path, name):
    store = make(tmp_path)
    whole = (store / name).read_text()
    for old, new in [("9,", "8,"), ("5,", "4,"), ("64", "32"), ("float", "int"), ("crc", "xrc"), ("galaxy", "star"),
                     ("{", ""), ("band", "bend"), ("quality", "qualitx")]:  # fmt: skip
        changed = whole.replace(old, new)
        if changed != whole:
            (store / name).write_text(changed)
            assert [flaw.chunk for flaw in verify(store)] == [None], (old, new)
    (store / name).write_text(whole)
    assert not flaws(store)


def test_what_is_wrong_is_a_line_each_and_one_sentence_says_what_to_do(tmp_path, capsys):
    store = make(tmp_path)
    shard_files(store, 1)[0].write_bytes(b"")
    assert main(["verify", str(store)]) == 1
    output = capsys.readouterr()
    assert output.out == (
        f"chunk 1: {store}/flux/c/1/0/0/0 is not the file that was written: its SHA-256 is another one\n"
    )
    assert output.err.splitlines()[-1] == (
        f"sdss-photoz verify: {store} is not whole: run snakemake --cores all --force {store}/flux/c/1/0/0/0, with the "
        "--configfile of its run."
    )
    shutil.rmtree(store)
    assert main(["verify", str(store)]) == 1
    assert "is not a store of cubes" in capsys.readouterr().err


# Forks writers: what takes long, the imports, is done once. A line "STORE SECONDS VALUE..." starts a writer for each
# value, which makes chunk 0 as the workflow does, its shards and then its table, with that value in all pixels; SECONDS
# later they are killed, if they have not ended.
WRITERS = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from sdss_photoz.cubes.store import write_shard
from tests.cubes.test_verify import ROWS, note

def write(store, value):
    flux = np.full((len(ROWS[0]), 64, 64, 5), value, "f4")
    note(store, 0, ROWS[0], write_shard(store, 0, flux, np.full((len(ROWS[0]), 5), value)))

for line in sys.stdin:
    store, seconds, *values = line.split()
    children = []
    for value in values:
        child = os.fork()
        if not child:
            try:
                write(Path(store), int(value))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    start = time.monotonic()
    if seconds != "never":
        time.sleep(float(seconds))
        for child in children:
            os.kill(child, signal.SIGKILL)
    ends = [os.waitpid(child, 0)[1] for child in children]
    print(time.monotonic() - start, *ends, flush=True)
"""


@pytest.fixture(scope="module")
def writers():
    """A function that has writers write at once; the seconds that it took, and how each ended (0: well)."""
    words = [sys.executable, "-c", WRITERS]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def write(store, values, seconds="never"):
            print(store, seconds, *values, file=server.stdin, flush=True)
            took, *ends = server.stdout.readline().split()
            return float(took), list(map(int, ends))

        yield write
        server.stdin.close()


def values_of(store):
    """Values in the shards of chunk 0."""
    group = open_store(store)
    return {*np.unique(group["flux"][:5]), *np.unique(group["depth"][:5])}


def test_a_kill_at_any_moment_leaves_a_chunk_that_is_whole_or_named(tmp_path, writers):
    store = make(tmp_path)
    took = max(writers(store, [1])[0] for _ in range(3))
    moments = random.Random(1)
    killed = named = 0
    for value in itertools.count(2):
        if killed == 15:
            break
        _, (end,) = writers(store, [value], moments.uniform(0, took))
        killed += end == signal.SIGKILL
        found = list(verify(store))
        assert {flaw.chunk for flaw in found} <= {0}
        named += bool(found)
        assert found or len(values_of(store)) == 1  # never the flux of one and the depth of another
    print(f"{killed} of {value - 2} writers killed, {named} left a chunk that is named")
    assert writers(store, [1])[1] == [0]
    assert not list(verify(store))
    assert values_of(store) == {1}


def test_a_kill_of_a_job_that_makes_a_good_chunk_again_destroys_nothing(tmp_path, writers):
    store = make(tmp_path)
    took = max(writers(store, [7])[0] for _ in range(3))
    moments = random.Random(2)
    for _ in range(20):
        writers(store, [7], moments.uniform(0, took))
        assert not list(verify(store))
    assert values_of(store) == {7}


@pytest.mark.parametrize("values", [[7, 7], [7, 8]], ids=["same", "different"])
def test_two_jobs_that_write_one_chunk_at_once_leave_it_whole_or_named(tmp_path, writers, values):
    store = make(tmp_path)
    for _ in range(10):
        assert writers(store, values)[1] == [0, 0]
        found = list(verify(store))
        if values == [7, 7]:
            assert not found
        assert {flaw.chunk for flaw in found} <= {0}
        assert found or len(values_of(store)) == 1
    writers(store, [9])
    assert not list(verify(store))
    assert not list(store.rglob(".*"))


def test_a_temporary_file_of_a_killed_writer_goes_when_nobody_has_touched_it_for_long(tmp_path, writers):
    store = make(tmp_path)
    folder = shard_files(store, 0)[0].parent
    for name in (".0.old.part", ".0.new.part"):
        (folder / name).touch()
    os.utime(folder / ".0.old.part", (0, 0))
    assert not list(verify(store))
    writers(store, [1])
    assert {path.name for path in folder.iterdir()} == {"0", ".0.new.part"}
