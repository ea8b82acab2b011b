"""Atomic writes, backups of outputs, and errors of full disks."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from sdss_photoz.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a full disk, an exceeded quota, a file too large


@contextmanager
def whole(path):
    """Write a file atomically: yield a temporary path in its folder, renamed to `path` unless the block raises.

    Parameters
    ----------
    path : str or Path
        The file to write. Its folder is created if needed.

    Yields
    ------
    Path
        Where to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide results from the group
        part.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a write to a full disk names no file
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_beside(out) -> Iterator[Path]:
    """Yield a new temporary folder beside an output, on the same disk; it is removed when the block ends.

    Raises
    ------
    UserError
        If it cannot be created.
    """
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise UserError(f"{out} cannot be made ({error.strerror}): give another --out.") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def full_disk_as_user_error(message: Callable[[str], str]) -> Iterator[None]:
    """Convert the error of a full disk within the block to a `UserError`.

    Parameters
    ----------
    message : callable
        From the system's description of the error to the message of the `UserError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(message(os.strerror(error.errno))) from None


def back_up(path) -> None:
    """Back up a file, if it exists, until `restore` or `discard_backup`.

    The backup is a hard link beside it, or a copy on a file system without hard links. If the file does not exist, a
    backup that a killed run left stays.
    """
    path, backup = Path(path), _backup_path(path)
    if not path.is_file():
        return
    backup.unlink(missing_ok=True)
    try:
        os.link(path, backup)
    except OSError:
        with whole(backup) as part:
            shutil.copyfile(path, part)


def has_backup(path) -> bool:
    """Whether a file has a backup."""
    return _backup_path(path).exists()


def restore(path) -> bool:
    """Restore a file that is missing from its backup, and remove the backup. Return whether it was restored."""
    missing = has_backup(path) and not Path(path).exists()
    if missing:
        _backup_path(path).replace(path)
    discard_backup(path)
    return missing


def discard_backup(path) -> None:
    """Remove the backup of a file, if there is one."""
    _backup_path(path).unlink(missing_ok=True)


def _backup_path(path) -> Path:
    path = Path(path)
    return path.with_name(f".{path.name}.kept")


def preallocate(path, size: int) -> None:
    """Create a file of zeros with all its disk blocks allocated.

    Writing to the memory map of a sparse file on a full disk kills the process with a bus error instead of raising.

    Parameters
    ----------
    path : str or Path
        The file.
    size : int
        Bytes, more than 0.

    Raises
    ------
    OSError
        If the disk is full (see `full_disk_as_user_error`).
    """
    with open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # not supported by the system or the file system
            if getattr(error, "errno", None) in DISK_FULL:
                raise
            zeros = bytes(2**20)
            for start in range(0, size, len(zeros)):
                file.write(zeros[: size - start])


def no_room_message(path, what: str, why: str, needed: int | None = None) -> str:
    """Message of a `UserError`: the disk of a path has no room for something.

    Parameters
    ----------
    path : str or Path
        A file on the disk.
    what : str
        What was to be written.
    why : str
        The system's description of the error.
    needed : int, optional
        Bytes needed.
    """
    disk = Path(path).absolute().parent
    free = shutil.disk_usage(disk).free
    while not disk.is_mount():
        disk = disk.parent
    amount = "" if needed is None else f", {needed:,} are needed"
    return (
        f"the disk mounted at {disk} has no room for {what} ({why}: {free:,} bytes are free{amount}): make room there, "
        "or write to another disk."
    )


def write_text(path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    """Write a JSON file atomically, with sorted keys; ValueError for NaN, which JSON does not have."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path, table: pd.DataFrame) -> None:
    """Write a CSV table atomically, without its index."""
    with whole(path) as part:
        table.to_csv(part, index=False)


def write_parquet(path, table: pd.DataFrame) -> None:
    """Write a parquet table atomically, without its index."""
    with whole(path) as part:
        table.to_parquet(part, index=False)


def sha256(path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value) -> str:
    """SHA-256 of any JSON value (keys sorted), as hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
