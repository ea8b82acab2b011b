"""Writes that are whole or absent."""

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

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk, or a quota, without room says


@contextmanager
def whole(path):
    """Give a temporary path in the same folder; rename it to `path` when the block ends well, remove it when not.

    Parameters
    ----------
    path : str or Path
        The file to write. Its folder is made where it is missing.

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
    """Give an empty folder on the disk of an output, beside it; it goes when the block ends.

    Raises
    ------
    UserError
        Where none can be made there.
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
def full_disk_said(sentence: Callable[[str], str]) -> Iterator[None]:
    """Raise a `UserError` where the disk becomes full: the sentence for what the system says of it."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(sentence(os.strerror(error.errno))) from None


def keep(path) -> None:
    """Keep what a file holds now, where there is one, until `put_back` or `let_go`, whoever removes or replaces it.

    It is a second name of the same bytes, and a copy only where the file system knows no hard links.
    """
    path, kept = Path(path), _kept(path)
    if not path.is_file():
        return  # what was kept before, by a run that was killed, stays
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept)
    except OSError:
        with whole(kept) as part:
            shutil.copyfile(path, part)


def is_kept(path) -> bool:
    """Whether something is kept of a file."""
    return _kept(path).exists()


def put_back(path) -> bool:
    """Give a file that is missing back what was kept of it, and keep it no longer; whether it was given back."""
    missing = is_kept(path) and not Path(path).exists()
    if missing:
        _kept(path).replace(path)
    let_go(path)
    return missing


def let_go(path) -> None:
    """Keep a file no longer."""
    _kept(path).unlink(missing_ok=True)


def _kept(path) -> Path:
    path = Path(path)
    return path.with_name(f".{path.name}.kept")


def reserve(path, size: int) -> None:
    """Make a file of zeros with room on its disk for every byte, now.

    Writing to the memory map of a sparse file is a bus error, and no exception, where the disk is full by then.

    Parameters
    ----------
    path : str or Path
        The file.
    size : int
        Bytes, more than 0.

    Raises
    ------
    OSError
        Where there is no room (`full_disk_said`).
    """
    with open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # the system, or this disk, does not know it
            if getattr(error, "errno", None) in FULL:
                raise
            zeros = bytes(2**20)
            for start in range(0, size, len(zeros)):
                file.write(zeros[: size - start])


def no_room(path, what: str, why: str, needed: int | None = None) -> str:
    """Say that something has no room on the disk of a path: which disk, how much is free, and how much is needed."""
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
    """Write a text file whole."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    """Write a JSON file whole, with sorted keys; NaN is refused, for JSON has none."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path, table: pd.DataFrame) -> None:
    """Write a CSV table whole, without its index."""
    with whole(path) as part:
        table.to_csv(part, index=False)


def write_parquet(path, table: pd.DataFrame) -> None:
    """Write a parquet table whole, without its index."""
    with whole(path) as part:
        table.to_parquet(part, index=False)


def sha256(path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value) -> str:
    """SHA-256 of any JSON value (keys sorted), as hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
