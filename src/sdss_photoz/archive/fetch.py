"""A file over HTTP: resumed where it was cut, looked at before it counts, whole or absent."""

import os
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


def fetch(url: str, path: Path, archive, flaw: Callable, largest: int) -> None:
    """Fetch a file with patience.

    What came lies beside it under a name of its own with the ETag in a third file, so that another attempt, or another
    process after a kill, asks for the rest alone. The caller sees to it that no two do so at a time.

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
    part = path.with_name(f".{path.name}.part")
    etag = path.with_name(f".{path.name}.etag")
    doubts = 0

    def once():
        nonlocal doubts
        try:
            wrong = flaw(part, _continue(url, part, etag, archive.timeout_seconds, largest))
            if wrong is not None:
                raise _Doubtful(wrong)
        except Spoiled as spoiled:
            _drop(part, etag)
            doubts += isinstance(spoiled, _Doubtful)
            if doubts == ANSWERS:
                raise Refused(str(spoiled)) from None
            raise

    try:
        patient(archive, path.name)(once)
        part.replace(path)
        etag.unlink(missing_ok=True)
    except (Faltering, requests.RequestException) as error:
        raise UserError(
            f"{url} could not be fetched within {archive.patience_minutes:g} minutes ({explain(error)}): see that the "
            "archive can be reached and run again; what was fetched is kept."
        ) from None
    except OSError as error:
        if error.errno in FULL:
            _drop(part, etag)
        raise


def _drop(part, etag) -> None:
    part.unlink(missing_ok=True)
    etag.unlink(missing_ok=True)


def _continue(url, part: Path, etag: Path, timeout, largest) -> bool:
    """Ask for what is not there yet and write it; whether the answer told its length."""
    have, known = part.stat().st_size if part.exists() else 0, etag.read_text() if etag.exists() else ""
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
        with open(part, "ab" if resumed else "wb") as file:
            if not resumed:  # after the old bytes went and before new ones come: it never belongs to others
                etag.write_text(given)
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
