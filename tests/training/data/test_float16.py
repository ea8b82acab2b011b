"""The float16 copy of the cubes is written once, whole or not at all."""

import resource
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.training.data import float16, load
from sdss_photoz.training.data.float16 import float16_copy
from sdss_photoz.training.data.residence import Pinned, Streamed


def _store(path, flux):
    count = len(flux)
    galaxies = pd.DataFrame({"object_id": 1000 + np.arange(count), "ra": 10.0 + np.arange(count), "dec": 0.0})
    create_store(path, galaxies, 1)
    write_shard(path, 0, flux.astype(np.float32), np.ones((count, 5), np.uint16))
    return path


@pytest.fixture
def store(tmp_path):
    flux = np.random.default_rng(0).standard_normal((7, 64, 64, 5))
    flux[2, :3] = np.nan  # uncovered
    return _store(tmp_path / "cubes.zarr", flux)


@pytest.fixture
def writes(monkeypatch):
    """A list that grows by one with each copy that is written."""
    made, write = [], float16._write

    def counted(*arguments):
        made.append(1)
        write(*arguments)

    monkeypatch.setattr(float16, "_write", counted)
    return made


def test_the_copy_holds_the_cubes_as_float16_with_nan_where_uncovered(store, tmp_path):
    cubes, _ = float16_copy(store, tmp_path / "scratch")
    expected = load_cubes(store, np.arange(7), uncovered=np.nan).astype(np.float16)
    assert cubes.dtype == np.float16
    assert np.isnan(expected[2, :3]).all()
    assert np.array_equal(cubes.reshape(expected.shape), expected, equal_nan=True)


def test_jobs_that_run_side_by_side_write_the_copy_once(store, tmp_path, writes):
    jobs = [threading.Thread(target=float16_copy, args=(store, tmp_path / "scratch")) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(writes) == 1
    float16_copy(store, tmp_path / "scratch")
    assert len(writes) == 1


def test_other_cubes_have_another_copy_and_the_old_one_goes(store, tmp_path, writes):
    _, before = float16_copy(store, tmp_path / "scratch")
    other = _store(tmp_path / "other.zarr", np.zeros((2, 64, 64, 5)))
    float16_copy(other, tmp_path / "scratch")
    write_shard(store, 0, np.ones((7, 64, 64, 5), np.float32), np.ones((7, 5), np.uint16))
    cubes, after = float16_copy(store, tmp_path / "scratch")
    assert before != after
    assert (cubes == 1).all()
    assert len(list((tmp_path / "scratch").glob("*.npy"))) == 2, "one of each store"
    assert len(writes) == 3


@pytest.mark.parametrize("left", [0, -100])
def test_a_copy_that_was_cut_short_is_written_again_and_what_a_killed_job_left_goes(store, tmp_path, writes, left):
    float16_copy(store, tmp_path / "scratch")
    (path,) = (tmp_path / "scratch").glob("*.npy")
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:left])
    (path.parent / f".{path.name}.abc.part").write_bytes(b"x")
    float16_copy(store, tmp_path / "scratch")
    assert path.read_bytes() == whole
    assert not list(path.parent.glob(".*.part"))
    assert len(writes) == 2


def test_a_job_whose_lock_was_taken_over_as_it_wrote_takes_the_copy_of_the_other_job(store, tmp_path, monkeypatch):
    """It was silent for longer than its lease; the other one removed its part, and wrote the copy."""
    folder, check, met = tmp_path / "scratch", float16.check_flux, []

    def taken_over(*words, **options):
        if not met:
            met.append(1)
            (part,) = folder.glob(".*.part")
            (lock,) = folder.glob("*.lease")
            lock.unlink()
            float16_copy(store, folder)
            assert not part.exists()
        check(*words, **options)

    monkeypatch.setattr(float16, "check_flux", taken_over)
    cubes, _ = float16_copy(store, folder)
    expected = load_cubes(store, np.arange(7), uncovered=np.nan).astype(np.float16)
    assert np.array_equal(cubes.reshape(7, 64, 64, 5), expected, equal_nan=True)
    assert met
    assert [path.suffix for path in folder.iterdir()] == [".npy"]


def test_a_disk_without_room_is_one_sentence_before_anything_is_written(store, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(
        UserError, match=r"scratch has no room .*\(1,000 bytes are free, 290,816 needed\): .*another disk"
    ):
        float16_copy(store, tmp_path / "scratch")
    assert not list((tmp_path / "scratch").glob("*.npy"))


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(store, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the disk of this process: three cubes of seven
    try:
        with pytest.raises(UserError, match=r"no room for the float16 copy of the cubes \(File too large\): free some"):
            float16_copy(store, tmp_path / "scratch")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "scratch").iterdir())


def test_cubes_of_another_selection_are_refused_also_where_their_copy_is_there(store, tmp_path):
    float16_copy(store, tmp_path / "scratch")
    with pytest.raises(UserError, match="made for another selection of galaxies"):
        float16_copy(store, tmp_path / "scratch", "0" * 64)


def test_flux_too_large_for_float16_is_counted_and_its_galaxy_named(tmp_path):
    flux = np.zeros((3, 64, 64, 5))
    flux[1, 5, :4, 2] = [65_504, -65_504, 65_505, -70_000]
    store = _store(tmp_path / "cubes.zarr", flux)
    with pytest.raises(UserError, match="object_id 1001, whose 2 pixels exceed 65,504 nanomaggies"):
        float16_copy(store, tmp_path / "scratch")
    assert not list((tmp_path / "scratch").glob("*.npy"))


def test_an_infinite_pixel_is_refused_by_the_name_of_its_galaxy(tmp_path):
    flux = np.zeros((3, 64, 64, 5))
    flux[2, 5, 6, 2] = np.inf
    with pytest.raises(UserError, match="object_id 1002, whose pixels are infinite"):
        float16_copy(_store(tmp_path / "cubes.zarr", flux), tmp_path / "scratch")


def test_a_card_gets_the_galaxies_of_its_training_from_the_copy(store, tmp_path):
    cubes, _ = float16_copy(store, tmp_path / "scratch")
    rows = np.array([6, 0, 3])
    resident = load._to_device(cubes, rows, torch.device("cpu"))
    table, places = Pinned(torch.from_numpy(cubes), rows, torch.device("cpu")).take(torch.arange(3))
    streamed, _ = Streamed(cubes.filename, cubes.offset, rows, 2, 4, torch.device("cpu")).take(torch.arange(3))
    assert torch.equal(resident, torch.from_numpy(np.array(cubes[rows])))
    assert torch.equal(resident, table[places])
    assert torch.equal(resident, streamed)
