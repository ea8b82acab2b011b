"""A job that is killed on another machine holds no other job back, also where the file system has no flock."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import filelock
import numpy as np
import pytest

from sdss_photoz import locks
from sdss_photoz.archive.http import RateLimiter
from sdss_photoz.config import Archive
from sdss_photoz.frames.mirror import ensure
from tests.conftest import skip
from tests.fixtures.frame_server import FRAME, content, frame_server

WITHOUT_FLOCK = """
import errno, fcntl, os, signal, socket, sys, time
def missing(*_): raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = missing
socket.gethostname = lambda: {node!r}
from pathlib import Path
from sdss_photoz import locks
locks.LEASE_SECONDS, locks.NOTICE_SECONDS = {lease}, 0.3
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
"""
FETCH = """
from sdss_photoz.frames import mirror
from sdss_photoz.config import Archive
from sdss_photoz.surveys.sdss import Frame
mirror.ensure(Frame(94, 1, 11, "r"), sys.argv[1], sys.argv[2], archive=Archive(timeout_seconds=20.0))
"""
HOLD = "with locks.exclusive(Path(sys.argv[1])): print('held', flush=True); {what}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A lease of a second, and a word after a third of one."""
    monkeypatch.setattr(locks, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "NOTICE_SECONDS", 0.3)


@pytest.fixture(params=["exchange", "no exchange"])
def disk(request, monkeypatch):
    """File systems that exchange two names in one step, and those that refuse it, as NFS and SMB do."""
    if request.param == "no exchange":
        monkeypatch.setattr(filelock._soft, "exchange_names", lambda *_: False)


@pytest.fixture
def archive():
    with frame_server() as server:
        yield server


def on(node, code, *words, lease=1.0, **options):
    """A process on a machine of another name, whose file system has no flock."""
    code = WITHOUT_FLOCK.format(node=node, lease=lease) + code
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], text=True, **options)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def part_of(folder, size):
    """The part of the frame that has come, when it has some bytes."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        for part in folder.rglob(f".{FRAME.name}.*.part"):
            if part.stat().st_size > size:
                return part
        time.sleep(0.01)
    return pytest.fail("the fetch did not come so far")


def left_by_a_job_killed_on(node, lock):
    """The lock of a job that was killed on another machine as it held it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    killed = on(node, HOLD.format(what="kill()"), lock, stdout=subprocess.PIPE)
    assert killed.communicate(timeout=60)[0] == "held\n"
    assert killed.returncode == -signal.SIGKILL
    assert lock.is_file()


# The case: a fetch killed on node A, and the job that goes on on node B.


def test_fetch_killed_on_another_node_is_continued_after_a_message_that_names_the_lock(tmp_path, archive, disk, capfd):
    archive.add(FRAME, content(size=1_500_000), faults=["slow"])
    fetching = on("nodeA", FETCH, tmp_path, archive.url)
    came = part_of(tmp_path, 200_000)
    fetching.kill()
    fetching.wait()
    size = came.stat().st_size
    path = ensure(FRAME, tmp_path, archive.url, archive=Archive(timeout_seconds=20.0))
    assert path.read_bytes() == archive.body(FRAME)
    assert archive.requests[-1].range == f"bytes={size}-"
    lock = path.with_name(f".{FRAME.name}.lease")
    messages = [line for line in capfd.readouterr().err.splitlines() if line.startswith("waiting for")]
    assert len(messages) == 1
    assert f"waiting for {lock}, held by process {fetching.pid} on nodeA" in messages[0]
    assert files(tmp_path) == [FRAME.name]


def test_fetch_killed_on_the_same_node_is_continued_at_once(tmp_path, archive, monkeypatch):
    monkeypatch.setattr(locks, "LEASE_SECONDS", 60.0)
    archive.add(FRAME, content(size=1_500_000), faults=["slow"])
    fetching = on(os.uname().nodename, FETCH, tmp_path, archive.url, lease=60.0)
    part_of(tmp_path, 200_000)
    fetching.kill()
    fetching.wait()
    began = time.monotonic()
    ensure(FRAME, tmp_path, archive.url, archive=Archive(timeout_seconds=20.0))
    assert time.monotonic() - began < 30


# A lease that expires while its holder lives.


def test_two_that_fetch_one_frame_at_once_leave_one_whole_frame(tmp_path, archive):
    """The first was silent (stopped) for longer than its lease, and goes on when the second has half of the file."""
    archive.add(FRAME, content(size=1_500_000), faults=["slow", "slow"])
    first = on("nodeA", FETCH, tmp_path, archive.url)
    part = part_of(tmp_path, 200_000)
    first.send_signal(signal.SIGSTOP)
    try:
        second = on("nodeB", FETCH, tmp_path, archive.url)
        give_up = time.monotonic() + 60
        while part.exists() and time.monotonic() < give_up:
            time.sleep(0.01)
        part_of(tmp_path, 600_000)
    finally:
        first.send_signal(signal.SIGCONT)
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert (tmp_path / FRAME.path()).read_bytes() == archive.body(FRAME)
    assert files(tmp_path) == [FRAME.name]


def test_lock_is_kept_as_long_as_its_holder_gives_signs_of_life(tmp_path, disk, capfd):
    lock = tmp_path / "a.lease"
    with on("nodeA", HOLD.format(what="time.sleep(3.5)"), lock, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with locks.exclusive(lock):
            assert time.monotonic() - began > 3
            assert holder.wait(5) == 0
    assert f"waiting for {lock}, held by process {holder.pid} on nodeA" in capfd.readouterr().err
    assert files(tmp_path) == []


# Other things that are waited for.


def test_pace_goes_on_when_a_job_was_killed_on_another_node(tmp_path, disk):
    left_by_a_job_killed_on("nodeA", tmp_path / ".last-request.lease")
    began = time.monotonic()
    RateLimiter(tmp_path, 6000).wait()
    assert time.monotonic() - began < 10
    assert files(tmp_path) == [".last-request"]


def test_copy_of_the_cubes_goes_on_when_a_job_was_killed_on_another_node(tmp_path, capfd):
    from sdss_photoz.training.data import float16
    from tests.training.data.test_float16 import _store

    store = _store(tmp_path / "cubes.zarr", np.zeros((2, 64, 64, 5)))
    cubes, _ = float16.float16_copy(store, tmp_path / "scratch")
    (copy,) = (tmp_path / "scratch").iterdir()
    kind, store_digest, *_ = copy.name.split("-")
    lock = copy.with_name(f"{kind}-{store_digest}.lease")
    copy.unlink()
    left_by_a_job_killed_on("nodeA", lock)
    again, _ = float16.float16_copy(store, tmp_path / "scratch")
    assert (again == cubes).all()
    assert f"waiting for {lock}, held by process" in capfd.readouterr().err
    assert list((tmp_path / "scratch").iterdir()) == [copy]


@pytest.mark.parametrize("body", ["", "half a rec"], ids=["nothing", "half a record"])
def test_lock_whose_maker_was_killed_before_it_wrote_its_name_is_taken_over(tmp_path, disk, body, capfd):
    lock = tmp_path / "a.lease"
    lock.write_text(body)
    with locks.exclusive(lock):
        pass
    assert files(tmp_path) == []


@pytest.mark.parametrize("lease", [1.0, 60.0], ids=["the same lease", "another lease"])
def test_lock_of_another_user_is_waited_for(lease):
    if os.geteuid() != 0:
        skip("to be another user needs root")
    with tempfile.TemporaryDirectory() as folder:  # where all may go, which pytest's folders are not
        Path(folder).chmod(0o777)
        lock = Path(folder) / "a.lease"
        with locks.exclusive(lock):
            code = "os.setgid(65534); os.setuid(65534)\n" + HOLD.format(what="")
            other = on("nodeB", code, lock, lease=lease, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert other.stderr.readline().startswith(f"waiting for {lock}")
            assert other.poll() is None
        message, messages = other.communicate(timeout=30)
    assert (other.returncode, message, messages) == (0, "held\n", "")


def test_folder_that_is_not_there_is_no_endless_wait(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError), locks.exclusive(tmp_path / "file" / "a.lease"):
        pass


def test_threads_of_one_process_take_turns(tmp_path):
    inside, most = [], []

    def work():
        with locks.exclusive(tmp_path / "a.lease"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
