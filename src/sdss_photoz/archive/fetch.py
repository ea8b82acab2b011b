"""A file over HTTP: resumed where it was cut, looked at before it counts, whole or absent."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import requests

from sdss_photoz.archive.http import CONNECT_SECONDS, Answer, Faltering, check_status, explain, patient, session
from sdss_photoz.errors import UserError
from sdss_photoz.files import FULL

PIECE = 1 << 16  # bytes: what a kill may lose
ANSWERS = 3  # that agree, before the archive is believed to have no such file, or a wrong one
ENCODINGS = {"gzip", "x-gzip", "deflate", "br", "zstd"}  # that requests would undo, of any size


class Refused(Exception):
    """The archive has no such file, or one that is not what it should be: the reason in a few words."""


class Spoiled(Faltering):
    """What came is of no use: the next attempt begins anew."""


class _Doubtful(Spoiled):
    """An answer that refuses the file, if it comes again."""


class _Part:
    """What came of a file, under a name that no other job has, and its ETag.

    A note beside the file tells a later job of both. What a killed job left is copied, not gone on with: a job that was
    only silent may write to it still.
    """

    def __init__(self, file: Path):
        self.path, self.etag = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part"), ""
        self._note = file.with_name(f".{file.name}.etag")

    def inherit(self) -> None:
        """Go on from what a job that was killed left."""
        left = self._note.read_text().split("\n") if self._note.exists() else []
        parts = [part for name in left[1:] if (part := self.path.with_name(name)).is_file()]
        if parts:
            self._tell(left[0], *parts)
            shutil.copyfile(max(parts, key=lambda part: part.stat().st_size), self.path)
            for part in parts:
                part.unlink(missing_ok=True)

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def begin(self, etag: str) -> None:
        """Make ready for the first byte of a version of the file: no byte ever has another version's ETag."""
        self.path.unlink(missing_ok=True)
        self._tell(etag)

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        self._note.unlink(missing_ok=True)

    def _tell(self, etag, *others):
        self.etag, new = etag, self.path.with_suffix(".etag")
        new.write_text("\n".join((etag, self.path.name, *(other.name for other in others))))
        new.replace(self._note)


def fetch(url: str, path: Path, archive, flaw: Callable, largest: int) -> None:
    """Fetch a file with patience.

    What came lies beside it under a name of its own with the ETag in a third file, so that another attempt, or another
    process after a kill, asks for the rest alone. The caller sees to it that no two do so at a time; where two do all
    the same, each puts a whole file in place.

    Parameters
    ----------
    url : str
        Where it is; redirects are followed.
    path : Path
        Where it goes; a file that is there is replaced.
    archive : config.Archive
        Timeouts and patience.
    flaw : callable
        From the path of what came, and whether its length is known to be right, to what is wrong with it in a few
        words, None, or `Spoiled` raised where asking again is worth all patience.
    largest : int
        Bytes above which a file is refused.

    Raises
    ------
    Refused
        Where the archive says so several times: a short outage may look like a missing file, and a broken connection
        like a wrong one.
    UserError
        Where patience ends.
    OSError
        Where it cannot be written; of a full disk nothing is kept.
    """
    part, before, doubts = _Part(path), _inode(path), 0

    def once():
        nonlocal doubts
        try:
            wrong = flaw(part.path, _continue(url, part, archive.timeout_seconds, largest))
            if wrong is not None:
                raise _Doubtful(wrong)
            part.path.replace(path)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            if _inode(path) == before:
                raise Spoiled("another job took over what came") from None
        except Spoiled as spoiled:
            part.drop()
            doubts += isinstance(spoiled, _Doubtful)
            if doubts == ANSWERS:
                raise Refused(str(spoiled)) from None
            raise

    try:
        part.inherit()
        patient(archive, path.name)(once)
        part.forget()
    except (Faltering, requests.RequestException) as error:
        raise UserError(
            f"{url} could not be fetched within {archive.patience_minutes:g} minutes ({explain(error)}): see that the "
            "archive can be reached and run again; what was fetched is kept."
        ) from None
    except OSError as error:
        if error.errno in FULL:
            part.drop()
        raise


def _inode(path: Path):
    """What tells a file from the one that replaces it; None where there is none."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_ctime_ns


def _continue(url, part: _Part, timeout, largest) -> bool:
    """Ask for what is not there yet and write it; whether the answer told its length."""
    have, known = part.size(), part.etag
    asked = {"Range": f"bytes={have}-", "If-Range": known} if have and known else {}
    patience = (min(CONNECT_SECONDS, timeout), timeout)
    with session().get(url, headers=asked, stream=True, timeout=patience) as answer:
        _check(answer)
        if answer.status_code == 410:
            raise Refused("not in the archive")
        if answer.status_code == 404:
            raise _Doubtful("not in the archive")
        encoding = answer.headers.get("Content-Encoding", "").lower()
        if ENCODINGS & {word.strip() for word in encoding.split(",")}:
            raise _Doubtful(f"sent in the encoding {encoding}")
        if asked and answer.status_code == 416 and answer.headers.get("Content-Range") == f"bytes */{have}":
            return True  # a kill came after the last byte
        given = _etag(answer.headers)
        resumed = asked and answer.status_code == 206
        if answer.status_code in (206, 416) and not (
            resumed and given in ("", known) and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        ):
            raise Spoiled("the archive's file is not the one whose beginning came")
        if answer.status_code not in (200, 206):
            raise UserError(
                f"{url} is answered with HTTP {answer.status_code} {answer.reason}: check archive.sas and "
                "archive.release."
            )
        have = have if resumed else 0
        length = answer.headers.get("Content-Length", "")[:20]  # more digits would be too large all the same
        if not resumed:
            part.begin(given)
        with open(part.path, "r+b" if resumed else "wb") as file:
            file.seek(have)
            if length.isdecimal() and have + int(length) > largest:
                raise _Doubtful(f"larger than {largest / 1e6:g} MB")
            for piece in answer.iter_content(PIECE):  # a body that is cut raises, for its length is checked
                have += len(piece)
                if have > largest:
                    raise _Doubtful(f"larger than {largest / 1e6:g} MB")
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        return length.isdecimal()


def _check(response) -> None:
    """Raise `Faltering` for a status that passes; a look at the beginning of its body tells a web page."""
    head = b"" if response.ok else next(response.iter_content(1000), b"")
    check_status(Answer(response.status_code, response.headers, head, response.reason))


def _etag(headers) -> str:
    """What tells one version of a file from another; empty where nothing does, or where it is absurdly long."""
    etag = headers.get("ETag", "")
    known = headers.get("Last-Modified", "") if etag.startswith("W/") else etag or headers.get("Last-Modified", "")
    return known if len(known) < 200 and known.isascii() else ""
