"""A chunk stays within `cubes.memory_gb`, whatever its depth, and its bytes do not depend on it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sdss_photoz.cubes.reading_order import LAYER_BYTES, layers_held, reading_order
from sdss_photoz.surveys.sdss import Frame


def made(root, frame, *words):
    done = subprocess.run(
        [sys.executable, "-m", "tests.cubes.memory_of_a_chunk", frame, *map(str, words)],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    print(words, done.stdout)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def frame(tmp_path_factory, write_frame):
    noise = np.random.default_rng(0).normal(size=(1489, 2048)).astype("f4")
    return write_frame(tmp_path_factory.mktemp("memory") / "frame.fits", noise)


def test_galaxies_are_cut_in_parts_where_the_memory_is_little_and_no_byte_changes(root, frame):
    wide, narrow = (made(root, frame, 300, 40, "r", memory_gb) for memory_gb in (4, 0.65))
    assert wide["reads"] == wide["frames"] == 40
    assert narrow["reads"] == 4 * 40  # 197 MB of images in a room of 52: four parts
    assert narrow["flux"] == wide["flux"]
    assert wide["peak_gb"] - narrow["peak_gb"] > 0.1
    assert narrow["peak_gb"] < 0.65


@pytest.mark.slow
def test_a_thousand_galaxies_64_deep_take_less_than_4_gb(root, frame):
    found = made(root, frame, 1000, 64, "r", 4)  # one band after the other, beside the flux of all five
    assert found["reads"] == 64  # each frame once
    assert found["peak_gb"] < 4


def groups(rng, galaxies=60, frames=80, bands="ur"):
    """Frames with runs of galaxies, as they lie along the sky."""
    found = []
    for number in range(frames):
        first = rng.integers(0, galaxies)
        members = np.arange(first, min(first + rng.integers(1, 15), galaxies))
        found.append((Frame(94, 1, 11 + number, bands[number % len(bands)]), members))
    return found


def held_by_simulation(groups):
    """Images in memory, each by its name."""
    last = {galaxy: number for number, (_, galaxies) in enumerate(groups) for galaxy in galaxies}
    held, largest = set(), 0
    for number, (_, galaxies) in enumerate(groups):
        held |= {(galaxy, number) for galaxy in galaxies}
        largest = max(largest, len(held))
        held = {(galaxy, frame) for galaxy, frame in held if last[galaxy] > number}
    return largest


@pytest.mark.parametrize("seed", range(5))
def test_parts_hold_what_they_may_and_read_each_pair_once(seed):
    given = groups(np.random.default_rng(seed))
    whole = reading_order(given)
    by_band = {band: [group for group in whole if group[0].band == band] for band in "ur"}
    assert [group[0].band for group in whole] == ["u"] * 40 + ["r"] * 40
    held = {band: layers_held(of_band) for band, of_band in by_band.items()}
    assert held == {band: held_by_simulation(of_band) for band, of_band in by_band.items()}
    assert len(reading_order(given, LAYER_BYTES * max(held.values()))) == len(whole)  # it fits: nothing is read twice
    room = max(held.values()) // 3
    order = reading_order(given, LAYER_BYTES * room)
    assert len(order) > len(whole)
    for band in "ur":
        parts = [group for group in order if group[0].band == band]
        assert held_by_simulation(parts) <= room
        pairs = sorted((frame, galaxy) for frame, galaxies in parts for galaxy in galaxies)
        assert pairs == sorted((frame, galaxy) for frame, galaxies in by_band[band] for galaxy in galaxies)


def test_one_galaxy_is_no_more_divided():
    deep = [(Frame(94 + run, 1, 11, "r"), np.array([3])) for run in range(9)]
    assert reading_order(deep, -1.0) == deep
    assert reading_order([]) == []
