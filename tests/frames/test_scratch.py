"""Frames that are not kept: fetched ahead in the order of reading, within a bound, gone when read."""

import os
import threading
import time
from contextlib import closing

import pytest
import tenacity
from tests.fixtures.frame_server import FRAME, content, frame_server

from sdss_photoz.archive import http
from sdss_photoz.config import Archive
from sdss_photoz.errors import UserError
from sdss_photoz.frames.scratch import RESERVED_BYTES, Scratch

FRAMES = [FRAME._replace(field=11 + k) for k in range(24)]


@pytest.fixture
def archive(monkeypatch):
    monkeypatch.setattr(http, "_backoff", tenacity.wait_fixed(0.01))
    with frame_server() as server:
        yield server


def scratch(folder, archive, frames=FRAMES, gigabytes=0.1, connections=3, **settings):
    settings = Archive(timeout_seconds=2.0, patience_minutes=0.01, **settings)
    return Scratch(folder, frames, archive.url, 12, settings, gigabytes=gigabytes, connections=connections)


def read(source, frame):
    with closing(source.copies(frame)) as copies:
        return next(copies).read_bytes()


def wait_for(happened, seconds=30):
    give_up = time.monotonic() + seconds
    while not happened() and time.monotonic() < give_up:
        time.sleep(0.01)


def large(frame, megabytes):
    """A file with the two ends of a frame and any bytes between them."""
    return content(frame, size=100) + os.urandom(megabytes * 1_000_000) + content(frame, size=100)


def size(folder):
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # renamed or gone meanwhile
                continue
    return total


class Sampled(threading.Thread):
    """The largest size that a folder has, looked at without a pause."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.largest, self.looks, self.stop = folder, 0, 0, threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join()

    def run(self):
        while not self.stop.is_set():
            self.largest = max(self.largest, size(self.folder))
            self.looks += 1
            time.sleep(0.001)


def test_folder_never_holds_more_than_its_bound_and_nothing_at_the_end(tmp_path, archive):
    """Two dozen frames of 12 MB through a tenth of a gigabyte, read more slowly than they come."""
    for frame in FRAMES:
        archive.add(frame, large(frame, 12))
    with Sampled(tmp_path / "s") as sampled, scratch(tmp_path / "s", archive) as source:
        wait_for(lambda: size(tmp_path / "s") > 36_000_000)
        for frame in FRAMES:
            seen = sampled.looks
            wait_for(lambda seen=seen: sampled.looks > seen + 3)
            assert read(source, frame) == archive.body(frame)
    assert 36_000_000 < sampled.largest <= 100_000_000
    assert not (tmp_path / "s").exists()
    assert len(archive.asked) == len(FRAMES)


def test_frames_come_ahead_of_the_reading_in_its_order_and_go_with_it(tmp_path, archive):
    for frame in FRAMES:
        archive.add(frame, content(frame, size=10_000), faults=["slow"])
    order = FRAMES[::-1]
    with scratch(tmp_path / "s", archive, order, connections=2) as source:
        wait_for(lambda: len(list((tmp_path / "s").rglob("frame-*.bz2"))) == len(order))
        held = [len(list((tmp_path / "s").rglob("frame-*.bz2")))]
        for frame in order:
            read(source, frame)
            held.append(len(list((tmp_path / "s").rglob("frame-*.bz2"))))
    assert held == list(range(len(order), -1, -1))
    assert archive.asked[0] in {f"/sas/{frame.path()}" for frame in order[:2]}
    assert [f"/sas/{frame.path()}" for frame in order] == sorted(archive.asked, reverse=True)
    assert archive.most_at_once == 2


def test_leftovers_of_a_killed_job_go_first(tmp_path, archive):
    archive.add(FRAME)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "frame-of-a-killed-job").write_bytes(bytes(1000))
    with scratch(tmp_path / "s", archive, [FRAME]) as source:
        assert not (tmp_path / "s" / "frame-of-a-killed-job").exists()
        read(source, FRAME)


def test_damaged_frame_comes_once_more_within_the_bound(tmp_path, archive):
    for frame in FRAMES[:6]:
        archive.add(frame, large(frame, 20))
    with Sampled(tmp_path / "s") as sampled, scratch(tmp_path / "s", archive, FRAMES[:6]) as source:
        wait_for(lambda: size(tmp_path / "s") > 36_000_000)
        for frame in FRAMES[:6]:
            with closing(source.copies(frame)) as copies:
                assert [path.read_bytes() == archive.body(frame) for path in copies] == [True, True]
    assert sampled.largest <= 100_000_000
    assert len(archive.asked) == 12


def test_frames_that_the_archive_lacks_are_left_out_up_to_the_configured_fraction(tmp_path, archive, capsys):
    for frame in FRAMES[:6]:
        archive.add(frame)
    with scratch(tmp_path / "s", archive, FRAMES[:8], missing_fraction=0.25) as source:
        found = [len(list(source.copies(frame))) for frame in FRAMES[:8]]
    assert found == [2] * 6 + [0] * 2
    assert set(source.missing.values()) == {"not in the archive"}
    assert f"{FRAMES[7].name} is left out: not in the archive" in capsys.readouterr().err
    with scratch(tmp_path / "s", archive, FRAMES[:8], missing_fraction=0.2) as source:
        for frame in FRAMES[:7]:
            list(source.copies(frame))
        with pytest.raises(UserError, match=r"2 of 8 frames are missing from http.*missing_fraction to at least 0.25"):
            list(source.copies(FRAMES[7]))


def test_archive_that_is_down_stops_the_reading_and_the_fetching(tmp_path, archive):
    for frame in FRAMES:
        archive.add(frame, faults=[503] * 999)
    with (
        pytest.raises(UserError, match=r"could not be fetched .*HTTP 503"),
        scratch(tmp_path / "s", archive) as source,
    ):
        read(source, FRAMES[0])
    asked = len(archive.asked)
    time.sleep(0.3)
    assert len(archive.asked) == asked
    assert not (tmp_path / "s").exists()


def test_reader_that_gives_up_stops_threads_that_wait_for_room(tmp_path, archive):
    for frame in FRAMES:
        archive.add(frame)
    before = threading.active_count()
    with pytest.raises(KeyError), scratch(tmp_path / "s", archive, gigabytes=2.1 * RESERVED_BYTES / 1e9):
        raise KeyError
    assert threading.active_count() <= before + 2  # the server's own
    assert not (tmp_path / "s").exists()


def test_no_frames_make_no_folder(tmp_path, archive):
    with scratch(tmp_path / "s", archive, []):
        assert not (tmp_path / "s").exists()


def test_frame_that_is_read_twice_is_fetched_twice_and_gone_each_time(tmp_path, archive):
    for frame in FRAMES[:3]:
        archive.add(frame)
    order = [*FRAMES[:3], *FRAMES[:3]]
    with scratch(tmp_path / "s", archive, order) as source:
        wait_for(lambda: len(archive.asked) == 6)  # the second ones are here before the first ones are read
        found = [read(source, frame) for frame in order]
        assert size(tmp_path / "s") == 0
    assert found[:3] == found[3:] == [archive.files[f"/sas/{frame.path()}"] for frame in order[:3]]
