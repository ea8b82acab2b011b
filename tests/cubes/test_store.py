"""A store's shards are whole or absent, of one selection, and every damage is named."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import zarr

from sdss_photoz.cubes.store import create_store, layout_files, load_cubes, selection_digest, shard_files, write_shard
from sdss_photoz.errors import UserError


def table(n=300):
    """Galaxies as they stand in a store."""
    return pd.DataFrame({"object_id": 1000 + np.arange(n), "ra": np.linspace(10, 20, n), "dec": np.linspace(0, 1, n)})


def digest(n=300, chunks=2):
    return selection_digest(*(table(n)[name] for name in ("object_id", "ra", "dec")), chunks)


def fill(path, n=300, chunks=2, missing=True, **options):
    """A store whose cube k holds k everywhere, with uncovered pixels."""
    create_store(path, table(n), chunks, **options)
    flux = np.broadcast_to(np.arange(n, dtype="f4")[:, None, None, None], (n, 64, 64, 5)).copy()
    if missing:
        flux[:, :8, :, 2] = np.nan
    shard = zarr.open_group(path)["flux"].shards[0]
    for chunk in range(chunks):
        rows = slice(chunk * shard, (chunk + 1) * shard)
        write_shard(path, chunk, flux[rows], np.full((len(flux[rows]), 5), 2))
    return flux


def test_store_is_plain_zarr_that_says_what_it_holds(tmp_path):
    flux = fill(tmp_path / "cubes.zarr")
    group = zarr.open_group(tmp_path / "cubes.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    assert group.metadata.consolidated_metadata is None
    assert group["flux"].metadata.dimension_names == ("galaxy", "y", "x", "band")
    assert group["flux"].attrs["units"] == "nanomaggy"
    assert list(group["band"][:]) == list("ugriz")
    assert group.attrs["selection"] == digest()
    assert group["flux"].dtype == np.float32
    assert np.isnan(group["flux"].fill_value)
    assert group["flux"].shards == (150, 64, 64, 5)
    assert group["flux"].chunks == (75, 64, 64, 5)
    np.testing.assert_array_equal(group["flux"][:], flux)
    assert (group["depth"][:] == 2).all()


def test_shard_of_a_chunk_is_one_file_even_where_nothing_is_covered(tmp_path):
    path = tmp_path / "cubes.zarr"
    create_store(path, table(5), 2)
    write_shard(path, 1, np.full((2, 64, 64, 5), np.nan, "f4"), np.zeros((2, 5)))
    assert [file.is_file() for file in shard_files(path, 1)] == [True, True]
    assert [file.is_file() for file in shard_files(path, 0)] == [False, False]
    assert shard_files(path, 1)[0] == path / "flux/c/1/0/0/0"
    assert shard_files(path, 1)[1] == path / "depth/c/1/0"
    assert np.isnan(zarr.open_group(path, mode="r")["flux"][:3]).all()  # never zeros
    assert (load_cubes(path, [3, 4]) == 0).all()


def test_same_cubes_give_the_same_bytes(tmp_path):
    for name in "ab":
        fill(tmp_path / name, n=130)
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert len(files) == len(layout_files("")) + 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_creating_a_store_again_keeps_its_shards_and_its_bytes(tmp_path):
    path = tmp_path / "cubes.zarr"
    flux = fill(path, n=20)
    before = [file.read_bytes() for file in layout_files(path)]
    for file in layout_files(path):  # as Snakemake does before it runs the rule again
        file.unlink()
    create_store(path, table(20), 2)
    assert [file.read_bytes() for file in layout_files(path)] == before
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["flux"][:], flux)


def test_cubes_come_in_the_order_asked_for_with_zeros_where_uncovered(tmp_path):
    flux = fill(tmp_path / "cubes.zarr")
    rows = np.random.default_rng(0).integers(0, 300, 500)
    cubes = load_cubes(tmp_path / "cubes.zarr", rows, digest())
    assert cubes.dtype == np.float32
    np.testing.assert_array_equal(cubes, np.nan_to_num(flux[rows]))
    assert load_cubes(tmp_path / "cubes.zarr", []).shape == (0, 64, 64, 5)


def test_rewriting_over_a_damaged_shard_heals_it(tmp_path):
    path = tmp_path / "cubes.zarr"
    flux = fill(path, n=9)
    for file in shard_files(path, 1):
        file.write_bytes(b"broken")
    write_shard(path, 1, flux[5:], np.full((4, 5), 2))
    np.testing.assert_array_equal(load_cubes(path, np.arange(9)), np.nan_to_num(flux))


@pytest.mark.parametrize("place", [1000, -5, "end"])
def test_damaged_shard_never_reads_back(tmp_path, place):
    path = tmp_path / "cubes.zarr"
    fill(path, n=9)
    file = shard_files(path, 1)[0]
    content = bytearray(file.read_bytes())
    if place == "end":
        content = content[: len(content) // 2]
    else:
        content[place] ^= 1
    file.write_bytes(content)
    assert load_cubes(path, [0])[0, 0, 0, 0] == 0
    with pytest.raises(UserError, match="damaged") as error:
        load_cubes(path, [0, 8])
    assert str(file) in str(error.value)


def test_missing_chunk_is_named(tmp_path):
    path = tmp_path / "cubes.zarr"
    fill(path, n=9)
    shard_files(path, 1)[0].unlink()
    with pytest.raises(UserError, match=r"chunk 1 of .* has not been made"):
        load_cubes(path, [8])
    with pytest.raises(UserError, match="not a store of cubes"):
        load_cubes(tmp_path / "nowhere.zarr", [8])
    zarr.create_group(tmp_path / "foreign.zarr").create_array("flux", shape=(9, 64, 64, 5), dtype="f4")
    with pytest.raises(UserError, match="not a store of cubes"):
        load_cubes(tmp_path / "foreign.zarr", [8])
    with pytest.raises(UserError, match="holds 9 cubes, but rows 0 to 9"):
        load_cubes(path, [0, 9])


def test_shard_of_another_selection_is_refused(tmp_path):
    path = tmp_path / "cubes.zarr"
    fill(path, n=9, quality="../cubes/quality-{chunk}.parquet")
    (tmp_path / "cubes").mkdir()
    other = selection_digest([2, 1], [10.0, 20.0], [0.0, 1.0], 2)
    own = digest(9)
    assert other != own
    for chunk, selection in enumerate([own, other]):
        pd.DataFrame({"selection": [selection] * 3}).to_parquet(tmp_path / f"cubes/quality-{chunk}.parquet")
    assert len(load_cubes(path, [0, 4], own)) == 2
    with pytest.raises(UserError, match=r"quality-1.parquet was made for another selection"):
        load_cubes(path, [0, 8], own)
    with pytest.raises(UserError, match=r"cubes.zarr was made for another selection"):
        load_cubes(path, [0], other)
    (tmp_path / "cubes/quality-0.parquet").unlink()
    with pytest.raises(UserError, match=r"quality-0.parquet cannot be read"):
        load_cubes(path, [0])


def test_digest_follows_galaxies_order_positions_and_chunks():
    digests = {
        selection_digest([1, 2], [10.0, 20.0], [0.0, 1.0], 2),
        selection_digest([2, 1], [20.0, 10.0], [1.0, 0.0], 2),
        selection_digest([1, 3], [10.0, 20.0], [0.0, 1.0], 2),
        selection_digest([1, 2], [10.0, 20.0], [0.0, 1.0 + 1e-12], 2),
        selection_digest([1, 2], [10.0, 20.0], [0.0, 1.0], 3),
    }
    assert len(digests) == 5


WRITER = """
import resource, signal, sys
import numpy as np
from sdss_photoz.cubes.store import write_shard
path, most = sys.argv[1], int(sys.argv[2])
flux = np.full((256, 64, 64, 5), 7, "f4")
if most:  # the kernel kills the process in the middle of its write
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
print("ready", flush=True)
write_shard(path, 0, flux, np.ones((256, 5)))
print("written", flush=True)
"""


def start_writer(path, most=0):
    command = [sys.executable, "-c", WRITER, str(path), str(most)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "ready\n"
    return writer


def test_writer_killed_in_the_middle_of_a_write_leaves_no_shard(tmp_path):
    path = tmp_path / "cubes.zarr"
    create_store(path, table(256), 1)
    writer = start_writer(path, most=256 * 64 * 64 * 5 * 4 // 2)
    assert writer.wait() == -signal.SIGXFSZ
    (leftover,) = shard_files(path, 0)[0].parent.iterdir()
    assert leftover.suffix == ".part"
    assert leftover.stat().st_size > 0
    os.utime(leftover, (0, 0))
    write_shard(path, 0, np.full((256, 64, 64, 5), 8, "f4"), np.ones((256, 5)))
    assert (load_cubes(path, [0, 255]) == 8).all()
    assert list(shard_files(path, 0)[0].parent.iterdir()) == [shard_files(path, 0)[0]]


@pytest.mark.parametrize("wait", [0.0, 0.02, 0.05, None])
def test_writer_killed_at_any_moment_leaves_a_whole_shard_or_none(tmp_path, wait):
    path = tmp_path / "cubes.zarr"
    create_store(path, table(256), 1)
    writer = start_writer(path)
    if wait is None:
        assert writer.stdout.readline() == "written\n"
    else:
        time.sleep(wait)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert shard_files(path, 0)[0].is_file() or wait is not None
    if shard_files(path, 0)[0].is_file():
        assert (zarr.open_group(path, mode="r")["flux"][:] == 7).all()
