"""Download of a file over HTTP: resumed after interruptions, validated, and written atomically."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import requests

from sdss_photoz.archive.http import (
    CONNECT_SECONDS,
    Response,
    TransientError,
    check_status,
    describe_error,
    retrying,
    session,
)
from sdss_photoz.errors import UserError
from sdss_photoz.files import DISK_FULL

CHUNK_BYTES = 1 << 16  # at most so much is lost by a kill
CONFIRMATIONS = 3  # responses that a file is missing or wrong, before it counts as such
ENCODINGS = {"gzip", "x-gzip", "deflate", "br", "zstd"}  # that requests would decode, to any size


class FileRefused(Exception):
    """The archive has no such file, or a wrong one; the message is the reason in a few words."""


class UnusableDownload(TransientError):
    """The downloaded part is useless: the next attempt starts from the beginning."""


class _UnconfirmedRefusal(UnusableDownload):
    """The file is missing or wrong, which counts after `CONFIRMATIONS` such responses."""


class _PartialFile:
    """The part of a file that is downloaded, under a unique temporary name, and its ETag.

    A record beside it (ETag, names) lets a later job continue. That job copies the part of a killed one: a job that was
    only suspended may still write to its own.
    """

    def __init__(self, file: Path):
        self.path, self.etag = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part"), ""
        self._record = file.with_name(f".{file.name}.etag")

    def adopt(self) -> None:
        """Continue with a copy of the longest part that killed jobs left."""
        left = self._record.read_text().split("\n") if self._record.exists() else []
        parts = [part for name in left[1:] if (part := self.path.with_name(name)).is_file()]
        if parts:
            self._write_record(left[0], *parts)
            shutil.copyfile(max(parts, key=lambda part: part.stat().st_size), self.path)
            for part in parts:
                part.unlink(missing_ok=True)

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, etag: str) -> None:
        """Start a version of the file: remove the old part, then record the ETag, so that the two always match."""
        self.path.unlink(missing_ok=True)
        self._write_record(etag)

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.remove_record()

    def remove_record(self) -> None:
        self._record.unlink(missing_ok=True)

    def _write_record(self, etag, *others):
        self.etag, new = etag, self.path.with_suffix(".etag")
        new.write_text("\n".join((etag, self.path.name, *(other.name for other in others))))
        new.replace(self._record)


def fetch(url: str, path: Path, archive, flaw: Callable, max_bytes: int) -> None:
    """Download a file, with retries.

    The downloaded part and a record with its ETag are kept beside the file, so that another attempt, or another process
    after a kill, requests only the rest. The caller holds a lock; should two processes download the same file after
    all, each puts a whole file in place.

    Parameters
    ----------
    url : str
        Address; redirects are followed.
    path : Path
        File to write; an existing one is replaced.
    archive : config.Archive
        Timeouts and retries.
    flaw : callable
        Validates a download. Its arguments are the path, and whether the length is known to be right; it returns what
        is wrong in a few words or None, or raises `UnusableDownload` to have it retried.
    max_bytes : int
        Larger files are refused.

    Raises
    ------
    FileRefused
        If the file is missing or wrong in `CONFIRMATIONS` responses: a short outage may look like a missing file, and a
        broken connection like a wrong one.
    UserError
        After the last retry.
    OSError
        If it cannot be written; on a full disk the part is removed.
    """
    part, before, refusals = _PartialFile(path), _inode(path), 0

    def attempt():
        nonlocal refusals
        try:
            found = flaw(part.path, _resume(url, part, archive.timeout_seconds, max_bytes))
            if found is not None:
                raise _UnconfirmedRefusal(found)
            part.path.replace(path)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            if _inode(path) == before:
                raise UnusableDownload("another job took over what came") from None
        except UnusableDownload as unusable:
            part.drop()
            refusals += isinstance(unusable, _UnconfirmedRefusal)
            if refusals == CONFIRMATIONS:
                raise FileRefused(str(unusable)) from None
            raise

    try:
        part.adopt()
        retrying(archive, path.name)(attempt)
        part.remove_record()
    except (TransientError, requests.RequestException) as error:
        raise UserError(
            f"{url} could not be fetched within {archive.patience_minutes:g} minutes ({describe_error(error)}): see "
            "that the archive can be reached and run again; what was fetched is kept."
        ) from None
    except OSError as error:
        if error.errno in DISK_FULL:
            part.drop()
        raise


def _inode(path: Path):
    """Inode and change time, which differ after the file is replaced; None if there is no file."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_ctime_ns


def _resume(url, part: _PartialFile, timeout, max_bytes) -> bool:
    """Download the missing rest of a part; return whether the response announced its length."""
    have, known = part.size(), part.etag
    range_headers = {"Range": f"bytes={have}-", "If-Range": known} if have and known else {}
    timeouts = (min(CONNECT_SECONDS, timeout), timeout)
    with session().get(url, headers=range_headers, stream=True, timeout=timeouts) as response:
        _check(response)
        if response.status_code == 410:
            raise FileRefused("not in the archive")
        if response.status_code == 404:
            raise _UnconfirmedRefusal("not in the archive")
        encoding = response.headers.get("Content-Encoding", "").lower()
        if ENCODINGS & {word.strip() for word in encoding.split(",")}:
            raise _UnconfirmedRefusal(f"sent in the encoding {encoding}")
        if range_headers and response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{have}":
            return True  # killed after the last byte
        given = _etag(response.headers)
        resumed = range_headers and response.status_code == 206
        if response.status_code in (206, 416) and not (
            resumed and given in ("", known) and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        ):
            raise UnusableDownload("the archive's file is not the one whose beginning came")
        if response.status_code not in (200, 206):
            raise UserError(
                f"{url} is answered with HTTP {response.status_code} {response.reason}: check archive.sas and "
                "archive.release."
            )
        have = have if resumed else 0
        length = response.headers.get("Content-Length", "")[:20]  # more digits are too large anyway
        if not resumed:
            part.begin(given)
        with open(part.path, "r+b" if resumed else "wb") as file:
            file.seek(have)
            if length.isdecimal() and have + int(length) > max_bytes:
                raise _UnconfirmedRefusal(f"larger than {max_bytes / 1e6:g} MB")
            for piece in response.iter_content(CHUNK_BYTES):  # raises if the body is shorter than announced
                have += len(piece)
                if have > max_bytes:
                    raise _UnconfirmedRefusal(f"larger than {max_bytes / 1e6:g} MB")
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        return length.isdecimal()


def _check(response) -> None:
    """Raise `TransientError` for a transient status; the beginning of the body tells a web page."""
    head = b"" if response.ok else next(response.iter_content(1000), b"")
    check_status(Response(response.status_code, response.headers, head, response.reason))


def _etag(headers) -> str:
    """Identifier of a file's version: strong ETag or time of modification; empty if there is none or it is too long."""
    etag = headers.get("ETag", "")
    known = headers.get("Last-Modified", "") if etag.startswith("W/") else etag or headers.get("Last-Modified", "")
    return known if len(known) < 200 and known.isascii() else ""
