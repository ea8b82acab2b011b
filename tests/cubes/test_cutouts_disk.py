"""`sdss-photoz cutouts` allocates the disk for all cubes before it stacks any."""

import errno
import os
import resource

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.frames import write_positions

from sdss_photoz import files
from sdss_photoz.app.cli import main
from sdss_photoz.cubes import cutouts as module
from sdss_photoz.cubes.cutouts import cutouts
from sdss_photoz.errors import UserError


@pytest.fixture
def full_disk():
    """A function that lets a file of this process grow to so many bytes and no further."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_without_room_is_one_sentence_before_any_work(tmp_path, write_frame, full_disk, capfd):
    write_frame(tmp_path / "mirror" / "frame-r-000094-1-0011.fits", 1.0)
    table, out = write_positions(tmp_path / "p.csv", [(180.0, 30.0)] * 3), tmp_path / "out" / "cubes.zarr"
    full_disk(200_000)
    assert main(["cutouts", table, "--frames", str(tmp_path / "mirror"), "--out", str(out)]) == 1
    output = capfd.readouterr().err
    assert "has no room for the cubes of 3 positions (File too large: " in output
    assert f"bytes are free, {3 * (2 * 81920 + 100) + 2**17:,} are needed): make room there, or write to" in output
    assert "the disk mounted at /" in output
    assert output.count("\n") == 1
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
    files.preallocate(tmp_path / "file", 3_000_001)
    assert (tmp_path / "file").read_bytes() == bytes(3_000_001)
    assert (tmp_path / "file").stat().st_blocks * 512 >= 3_000_001
