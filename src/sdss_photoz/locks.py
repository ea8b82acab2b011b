"""A lock between processes on any machines that share a file system, with or without `flock`."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

LEASE_SECONDS = 30.0  # since the last heartbeat after which a lock's holder counts as dead
NOTICE_SECONDS = 5.0  # of waiting until a message is logged
POLL_SECONDS = 0.1

_log = logging.getLogger(__name__)


@contextmanager
def exclusive(lock) -> Iterator[SoftFileLease]:
    """Hold a lock between processes within the block; others wait for it, and log a message after five seconds.

    The lock is a file, because some cluster file systems have no `flock`. Its holder touches it every ten seconds. The
    lock of a killed holder is free at once on the same machine and after `LEASE_SECONDS` on another. A holder that was
    suspended for longer may still run when another takes over, so the block must write atomically (`files.whole`)
    from temporary names of its own.

    Parameters
    ----------
    lock : str or Path
        File of the lock, in an existing folder; it is removed when the block ends.

    Yields
    ------
    filelock.SoftFileLease
        Its `compromise` tells afterwards whether another process took the lock over.

    Raises
    ------
    OSError
        If the file cannot be created.
    """
    lock = Path(lock)
    lease = SoftFileLease(lock, lease_duration=LEASE_SECONDS)
    began = changed = time.monotonic()
    last_heartbeat, notified = None, False
    while not _acquire(lease, lock):
        now, heartbeat = time.monotonic(), _heartbeat(lock)
        if heartbeat != last_heartbeat:
            last_heartbeat, changed = heartbeat, now
        elif heartbeat is not None and now - changed > LEASE_SECONDS + NOTICE_SECONDS:
            lock.unlink(missing_ok=True)  # on a file system that cannot exchange two names the lease does not expire
        if now - began > NOTICE_SECONDS and not notified:
            notified = True
            _log.warning(
                "waiting for %s, held by %s; it is taken over after %g s without a sign of life",
                lock,
                _holder(lease),
                LEASE_SECONDS,
            )
        time.sleep(POLL_SECONDS)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(lease: SoftFileLease, lock: Path) -> bool:
    """Try to acquire the lock without waiting; whether it was acquired."""
    try:
        lease.acquire(blocking=False)
    except (Timeout, LeaseSettingsMismatch):  # the latter: held by a version of this program with another duration
        return False
    except PermissionError:  # also raised for a lock that another user holds
        if not lock.exists():
            raise
        return False
    return True


def _heartbeat(lock: Path) -> tuple[int, int, int] | None:
    """Inode and times of the lock's file, which change with each heartbeat; None if there is no lock."""
    try:
        status = os.lstat(lock)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _holder(lease: SoftFileLease) -> str:
    owner = lease.owner
    return "somebody" if owner is None else f"process {owner.pid} on {owner.hostname}"
