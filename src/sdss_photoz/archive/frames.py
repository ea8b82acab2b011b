"""Corrected frames from the Science Archive Server or a mirror of it: one function opens every frame."""

import bz2
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import requests
from filelock import FileLock

from sdss_photoz import __version__, files
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.survey import Frame

OK = "ok"
ATTEMPTS = 4
FIRST_PAUSE = 1.0  # seconds before the second attempt; doubles with each
TIMEOUT = (20, 60)  # seconds to connect, and between two pieces
PIECE = 1 << 20  # bytes
BZIP2_END = 0x177245385090  # 48 bits that close a bzip2 stream, followed by its CRC of 32, at any bit
GONE = (404, 410)
FRAMES_LATER = {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}  # the sky drifts over the filters in this order

_threads = threading.local()


class Missing(UserError):
    """The archive has no such frame, or a damaged one; `reason` says which in a few words that name no place."""

    def __init__(self, frame: Frame, reason: str):
        self.reason = reason
        super().__init__(
            f"frame {frame.name} is missing: {reason}; restore it in the archive or mirror, or allow for missing "
            "frames with archive.missing_fraction."
        )


class _Attempt(Exception):
    """One attempt to fetch failed in a way that another one may mend."""


def ensure(frame: Frame, mirror, sas: str, release: int = 12) -> Path:
    """Give the path of a whole frame, fetching it where the mirror has none.

    An archive that is a folder (file://) is read in place. From an http(s) archive a frame is fetched to a temporary
    name in the mirror, verified and renamed, under a lock of its own, so that any number of jobs may ask for it.

    Parameters
    ----------
    frame : Frame
        Run, camcol, field and band.
    mirror : str or Path
        Folder where fetched frames are kept, in the archive's layout.
    sas : str
        Root of the archive: file:// or http(s):// URL.
    release : int
        Data release.

    Returns
    -------
    Path
        File of the frame, compressed with bzip2.

    Raises
    ------
    Missing
        Where the archive has no such frame, or a damaged one.
    UserError
        Where the archive cannot be reached.
    """
    root = archive_folder(sas)
    if root is not None:
        path = root / frame.path(release)
        if not path.is_file():
            raise Missing(frame, "not in the archive")
        if not ends_whole(path):
            raise Missing(frame, "truncated in the archive: its end is missing")
        return path
    path = Path(mirror) / frame.path(release)
    if ends_whole(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not ends_whole(path):  # another job may have fetched it while this one waited
            for leftover in path.parent.glob(f".{path.name}.*.part"):
                leftover.unlink()
            _fetch(frame, f"{sas.rstrip('/')}/{frame.path(release)}", path)
    return path


def archive_folder(sas: str) -> Path | None:
    """Folder of an archive that is given as file:// URL; None where it is http(s).

    Raises
    ------
    UserError
        Where it is neither.
    """
    parts = urlsplit(sas)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    if parts.scheme in ("http", "https") and parts.netloc:
        return None
    raise UserError(f"archive.sas is {sas!r}, but must be a file:/// or http(s):// URL.")


def ends_whole(path) -> bool:
    """Whether a file exists and ends as a bzip2 stream does: a truncated one does not."""
    try:
        with open(path, "rb") as file:
            file.seek(-11, 2)
            end = int.from_bytes(file.read(), "big")
    except OSError:
        return False
    return any((end >> (32 + padding)) & (2**48 - 1) == BZIP2_END for padding in range(8))


def flaw(path, frame: Frame) -> str | None:
    """What is wrong with a frame's file, in a few words; None where its two ends and its header are right.

    The pixels between are checked where they are decompressed: each bzip2 block has a CRC.
    """
    with open(path, "rb") as file:
        magic = file.read(3)
    if magic != b"BZh":
        return "not a bzip2 file"
    if not ends_whole(path):
        return "truncated: its end is missing"
    try:
        with bz2.open(path) as file:  # a third of indexed_bzip2's time for the first block, and without the GIL
            header = file.read(2880 * 4)
    except (OSError, EOFError):
        return "damaged: its first block does not decompress"
    if not header.startswith(b"SIMPLE  ="):
        return "not a FITS file"
    cards = {header[start : start + 8]: header[start + 10 : start + 80] for start in range(0, len(header), 80)}
    run, camcol, number, band = (
        cards.get(key, b"").split(b"/")[0].strip(b" '").decode("ascii", "replace")
        for key in (b"RUN     ", b"CAMCOL  ", b"FRAME   ", b"FILTER  ")
    )
    numbers = [int(text) if text.isdigit() else -1 for text in (run, camcol, number)]
    if not is_named(frame, *numbers, band):
        return f"another frame: its header says run {run}, camcol {camcol}, frame {number}, filter {band}"
    return None


def is_named(frame: Frame, run: int, camcol: int, number: int, band: str) -> bool:
    """Whether a header's RUN, CAMCOL, FRAME and FILTER are those of a frame.

    FRAME counts the camera's frames: the sky of one field passes the five filters one after the other, so it is the
    field's number in r and 2, 4, 6 and 8 more in i, u, z and g.
    """
    expected = (frame.run, frame.camcol, frame.field + FRAMES_LATER[frame.band], frame.band)
    return (run, camcol, number, band) == expected


def _fetch(frame: Frame, url: str, path: Path) -> None:
    """Fetch a frame, with patience for an archive that falters."""
    for attempt in range(ATTEMPTS):
        try:
            with files.whole(path) as part:
                _download(frame, url, part)
                wrong = flaw(part, frame)
                if wrong in ("not a bzip2 file", "truncated: its end is missing"):
                    raise _Attempt(f"the answer is {wrong}")  # an error page, or a broken connection
                if wrong is not None:
                    raise Missing(frame, wrong)
            return
        except (_Attempt, requests.RequestException) as error:
            if attempt == ATTEMPTS - 1:
                raise UserError(
                    f"{url} could not be fetched in {ATTEMPTS} attempts ({error}): see that the archive can be "
                    "reached and run again; what was fetched is kept."
                ) from None
            time.sleep(FIRST_PAUSE * 2**attempt)


def _download(frame: Frame, url: str, part: Path) -> None:
    with _session().get(url, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code in GONE:
            raise Missing(frame, "not in the archive")
        if answer.status_code != 200:
            raise _Attempt(f"HTTP {answer.status_code} {answer.reason}")
        with open(part, "wb") as file:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
        expected = answer.headers.get("Content-Length")
        if expected is not None and int(expected) != part.stat().st_size:
            raise _Attempt(f"{part.stat().st_size} of {expected} bytes came")


def _session() -> requests.Session:
    """A session for each thread, so that connections are used again."""
    if not hasattr(_threads, "session"):
        _threads.session = requests.Session()
        _threads.session.headers.update({"User-Agent": f"sdss-photoz/{__version__}", "Accept-Encoding": "identity"})
    return _threads.session


def manifest(
    frames: pd.DataFrame,
    *,
    sas: str,
    mirror,
    release: int = 12,
    missing_fraction: float = 0.0,
    workers: int = 4,
    label: str = "frames",
) -> pd.DataFrame:
    """Make every frame ready and list what came.

    Parameters
    ----------
    frames : DataFrame
        run, camcol, field, band; repeats are dropped.
    sas, mirror, release
        As for :func:`ensure`.
    missing_fraction : float
        Largest fraction of the frames that may be missing.
    workers : int
        Frames fetched at a time.
    label : str
        Name of the progress bar.

    Returns
    -------
    DataFrame
        run, camcol, field, band, path (below the archive's root), bytes, sha256, state ("ok", or the reason why there
        is none), ordered by run, camcol, field, band (ugriz).

    Raises
    ------
    UserError
        Where more frames are missing than allowed (the first ones are named), or the archive cannot be reached.
    """
    pairs = frames[["run", "camcol", "field", "band"]].drop_duplicates()
    wanted = sorted(
        (Frame(int(run), int(camcol), int(field), str(band)) for run, camcol, field, band in pairs.itertuples(False)),
        key=lambda frame: (*frame[:3], "ugriz".index(frame.band)),
    )

    def entry(frame: Frame) -> dict:
        state, size, digest = OK, 0, ""
        try:
            path = ensure(frame, mirror, sas, release)
            state = flaw(path, frame) or OK
            if state == OK:
                size, digest = path.stat().st_size, files.sha256(path)
        except Missing as missing:
            state = missing.reason
        return {**frame._asdict(), "path": frame.path(release), "bytes": size, "sha256": digest, "state": state}

    executor = ThreadPoolExecutor(workers)
    try:
        rows = list(progress(executor.map(entry, wanted), total=len(wanted), unit="frame", label=label))
    finally:
        executor.shutdown(cancel_futures=True)
    columns = ["run", "camcol", "field", "band", "path", "bytes", "sha256", "state"]
    table = pd.DataFrame(rows, columns=columns)
    missing = table[table["state"] != OK]
    if len(missing) > missing_fraction * len(table):
        named = "; ".join(f"{row.path.rsplit('/', 1)[1]} ({row.state})" for row in missing.head(3).itertuples())
        raise UserError(
            f"{len(missing)} of {len(table)} frames are missing from {sas}: {named}{' …' if len(missing) > 3 else ''}: "
            f"restore them, or set archive.missing_fraction to at least {len(missing) / len(table):.2g}."
        )
    return table
