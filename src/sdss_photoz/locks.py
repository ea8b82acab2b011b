"""Locks that jobs on any machine wait for, whatever their file system can do."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

LEASE = 30.0  # seconds without a sign of life after which a lock's holder counts as dead
WORD = 5.0  # seconds of waiting until it is told
POLL = 0.1  # seconds between looks


@contextmanager
def alone(lock) -> Iterator[SoftFileLease]:
    """Let one job at a time do what the block does; the others wait, and say so after five seconds.

    The lock is a file, not a flock, which some cluster file systems lack. Its holder touches it every ten seconds; of a
    holder killed on this machine it is free at once, of one killed on another machine after half a minute. A holder
    that was silent for so long and lives on is not stopped: what the block writes must be whole (`files.whole`) and
    have names of its own until it is renamed, so that two may do it.

    Parameters
    ----------
    lock : str or Path
        File of the lock, in a folder that is there; it goes with the block.

    Yields
    ------
    filelock.SoftFileLease
        Its `compromise` tells afterwards whether another job took the lock over.

    Raises
    ------
    OSError
        Where it cannot be made.
    """
    lock = Path(lock)
    lease = SoftFileLease(lock, lease_duration=LEASE)
    began = since = time.monotonic()
    seen, told = None, False
    while not _take(lease, lock):
        now, mark = time.monotonic(), _mark(lock)
        if mark != seen:
            seen, since = mark, now
        elif mark is not None and now - since > LEASE + WORD:  # a file system that cannot exchange two names
            lock.unlink(missing_ok=True)
        if now - began > WORD and not told:
            told = True
            print(
                f"waiting for {lock}, held by {_holder(lease)}; it is taken over after {LEASE:g} s without a sign of "
                "life",
                file=sys.stderr,
            )
        time.sleep(POLL)
    try:
        yield lease
    finally:
        lease.release()


def _take(lease, lock) -> bool:
    try:
        lease.acquire(blocking=False)
    except (Timeout, LeaseSettingsMismatch):  # the latter of a version of this program with another lease
        return False
    except PermissionError:  # of a lock that another user holds, too
        if not lock.exists():
            raise
        return False
    return True


def _mark(lock):
    """What changes with each sign of life; None where there is no lock."""
    try:
        status = os.lstat(lock)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _holder(lease) -> str:
    owner = lease.owner
    return "somebody" if owner is None else f"process {owner.pid} on {owner.hostname}"
