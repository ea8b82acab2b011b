"""Corrected frames from the Science Archive Server or a mirror: `ensure` gives the file of any frame."""

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd

from sdss_photoz import files
from sdss_photoz.archive.http import WEB_PAGE, is_web_page
from sdss_photoz.config import Archive
from sdss_photoz.errors import UserError
from sdss_photoz.frames.fetch import FileRefused, UnusableDownload, fetch
from sdss_photoz.frames.flaws import NO_BZIP2, NO_END, flaw, is_complete
from sdss_photoz.locks import exclusive
from sdss_photoz.progress import progress
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import Frame

OK = "ok"
LATER = "later"  # state of a frame that the cubes job will fetch
PROBE_FRAMES = 100  # if all of the first ones are missing, the others are not requested
MAX_FRAME_BYTES = 32_000_000  # a frame has 12.7 MB before compression and about 3 MB after it
COLUMNS = ["run", "camcol", "field", "band", "path", "bytes", "sha256", "state"]

_DEFAULT = Archive()
_log = logging.getLogger(__name__)


class FrameMissing(UserError):
    """The archive has no such frame, or a damaged one; `reason` is a few words without a path or address."""

    def __init__(self, frame: Frame, reason: str):
        self.reason = reason
        super().__init__(
            f"frame {frame.name} is missing: {reason}; restore it in the archive or mirror, or allow for missing "
            "frames with archive.missing_fraction."
        )


def ensure(frame: Frame, mirror, sas: str, release: int = 12, archive: Archive = _DEFAULT) -> Path:
    """Return the path of a complete frame, fetching it unless the mirror has it.

    An archive that is a folder (file://) is read in place. From an http(s) archive a frame is downloaded to a temporary
    name in the mirror, validated and renamed, under a lock per frame, so that any number of jobs on any machines may
    request it. A download that was killed is resumed.

    Parameters
    ----------
    frame : Frame
        Run, camcol, field and band.
    mirror : str or Path
        Folder of fetched frames, in the archive's layout.
    sas : str
        Root of the archive: file:// or http(s):// URL.
    release : int
        Data release.
    archive : config.Archive
        Timeouts and retries.

    Returns
    -------
    Path
        File of the frame, compressed with bzip2.

    Raises
    ------
    FrameMissing
        If the archive has no such frame, or a wrong one.
    UserError
        If the archive cannot be reached, or the mirror cannot be read, written or is full.
    """
    root = archive_folder(sas)
    path = Path(mirror if root is None else root) / frame.path(release)
    with disk_errors_as_user_error(path):
        if is_complete(path):
            return path
        if root is not None:
            raise FrameMissing(
                frame, "truncated in the archive: its end is missing" if path.exists() else "not in the archive"
            )
        with _download_lock(path):
            if not is_complete(path):  # another job may have fetched it while this one waited
                _fetch(frame, path, sas, release, archive)
    return path


def is_in_mirror(frame: Frame, mirror, release: int = 12) -> bool:
    """Whether a folder in the archive's layout holds the complete file of a frame.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    path = Path(mirror) / frame.path(release)
    with disk_errors_as_user_error(path):
        return is_complete(path)


def refetch(frame: Frame, mirror, sas: str, release: int = 12, archive: Archive = _DEFAULT) -> Path:
    """Fetch a frame again because the mirror's copy is damaged, and replace it.

    Parameters, result and errors are those of :func:`ensure`; the archive must be http(s).
    """
    path = Path(mirror) / frame.path(release)
    _log.warning("%s is damaged: it is fetched once more", frame.name)
    with disk_errors_as_user_error(path), _download_lock(path):
        _fetch(frame, path, sas, release, archive)
    return path


def copies(frame: Frame, mirror, sas: str, release: int = 12, archive: Archive = _DEFAULT):
    """Yield the path of a frame, then, if the caller finds it damaged and continues, that of a new download.

    An archive that is a folder is never written to: it has only one copy. Parameters and errors are those of
    :func:`ensure`.
    """
    yield ensure(frame, mirror, sas, release, archive)
    if archive_folder(sas) is None:
        yield refetch(frame, mirror, sas, release, archive)


def archive_folder(sas: str) -> Path | None:
    """Folder of an archive with a file:// URL; None for http(s).

    Raises
    ------
    UserError
        For another URL.
    """
    parts = urlsplit(sas)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    if parts.scheme in ("http", "https") and parts.netloc:
        return None
    raise UserError(f"archive.sas is {sas!r}, but must be a file:/// or http(s):// URL.")


def _fetch(frame: Frame, path: Path, sas: str, release: int, archive: Archive) -> None:
    def check(part: Path, length_known: bool) -> str | None:
        reason = flaw(part, frame)
        if reason == NO_BZIP2 or (reason == NO_END and not length_known):  # an error page, or a broken connection
            with open(part, "rb") as file:
                page = is_web_page(file.read(1000))
            raise UnusableDownload(f"the answer is {WEB_PAGE if page else reason}")
        return reason

    try:
        fetch(f"{sas.rstrip('/')}/{frame.path(release)}", path, archive, check, MAX_FRAME_BYTES)
    except FileRefused as refused:
        raise FrameMissing(frame, str(refused)) from None


@contextmanager
def _download_lock(path: Path):
    """Hold the lock of a file, so that no other job downloads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.with_name(f".{path.name}.lease")):
        yield


@contextmanager
def disk_errors_as_user_error(path: Path):
    """Convert errors of the disk (full, no permission) to a `UserError` that names the file, or else `path`."""
    try:
        yield
    except OSError as error:
        place = error.filename or path
        if error.errno in files.DISK_FULL:
            raise UserError(
                f"the disk of {path.parent} is full ({error.strerror}): free some space, or set archive.mirror to a "
                "folder on another disk, and run again; frames that are there are kept."
            ) from None
        raise UserError(
            f"{place} cannot be read or written ({error.strerror or error}): give yourself permission for it, or set "
            "archive.mirror to a folder of your own."
        ) from None


def list_frames(frames: pd.DataFrame) -> list[Frame]:
    """The distinct frames of a table, ordered by run, camcol, field, band (ugriz)."""
    pairs = frames[["run", "camcol", "field", "band"]].drop_duplicates()
    return sorted(
        (Frame(int(run), int(camcol), int(field), str(band)) for run, camcol, field, band in pairs.itertuples(False)),
        key=lambda frame: (*frame[:3], SDSS.index(frame.band)),
    )


def deferred_manifest(frames: pd.DataFrame, release: int = 12) -> pd.DataFrame:
    """The table of :func:`manifest`, with state "later", of frames that the cubes job will fetch."""
    return pd.DataFrame([_row(frame, release, LATER) for frame in list_frames(frames)], columns=COLUMNS)


def _row(frame: Frame, release: int, state: str, size: int = 0, digest: str = "") -> dict:
    return {**frame._asdict(), "path": frame.path(release), "bytes": size, "sha256": digest, "state": state}


def manifest(
    frames: pd.DataFrame,
    *,
    sas: str,
    mirror,
    release: int = 12,
    archive: Archive = _DEFAULT,
    missing_fraction: float = 0.0,
    workers: int = 4,
    label: str = "frames",
) -> pd.DataFrame:
    """Fetch all frames and list them.

    Parameters
    ----------
    frames : DataFrame
        run, camcol, field, band; duplicates are dropped.
    sas, mirror, release, archive
        As for :func:`ensure`.
    missing_fraction : float
        Largest allowed fraction of missing frames.
    workers : int
        Simultaneous connections to the archive.
    label : str
        Name of the progress bar.

    Returns
    -------
    DataFrame
        run, camcol, field, band, path (below the archive's root), bytes, sha256, state ("ok", or why it is missing),
        ordered by run, camcol, field, band (ugriz).

    Raises
    ------
    UserError
        If more frames are missing than allowed (the first are named; if all of the first `PROBE_FRAMES` are missing the
        others are not requested), or the archive cannot be reached.
    """
    wanted = list_frames(frames)
    source = (mirror, sas, release, archive)

    def entry(frame: Frame) -> tuple[dict, bool]:
        """Row of a frame, and whether it was present before."""
        there = archive_folder(sas) is not None or is_in_mirror(frame, mirror, release)
        try:
            path = ensure(frame, *source)
            with disk_errors_as_user_error(path):
                reason = flaw(path, frame)
                if reason is not None and archive_folder(sas) is None:  # written by another program
                    path, reason = refetch(frame, *source), None
                if reason is not None:
                    raise FrameMissing(frame, reason)
                return _row(frame, release, OK, path.stat().st_size, files.sha256(path)), there
        except FrameMissing as missing:
            return _row(frame, release, missing.reason), there

    rows, size, fetched, start = [], 0.0, 0.0, time.monotonic()
    executor = ThreadPoolExecutor(workers)
    try:
        with progress(total=len(wanted), unit="frame", label=label) as bar:
            parts = (
                executor.map(entry, part) for part in (wanted[:PROBE_FRAMES], wanted[PROBE_FRAMES:])
            )  # the rest only after the check below
            for row, there in chain.from_iterable(parts):
                rows.append(row)
                size += row["bytes"] / 1e6
                fetched += 0 if there else row["bytes"] / 1e6
                rate = fetched / (time.monotonic() - start)
                bar.set_postfix_str(f"{size:,.0f} MB, {rate:.1f} MB/s fetched", refresh=False)
                bar.update()
                if (
                    len(rows) == PROBE_FRAMES > missing_fraction * len(wanted) and not size
                ):  # else the error comes after hours
                    raise UserError(
                        f"none of the first {PROBE_FRAMES} frames is in {sas} ({row['path']}: {row['state']}): check "
                        "archive.sas and archive.release."
                    )
    finally:
        executor.shutdown(cancel_futures=True)
    table = pd.DataFrame(rows, columns=COLUMNS)
    missing = table[table["state"] != OK]
    check_missing_fraction(
        dict(zip(list_frames(missing), missing["state"], strict=True)), len(table), sas, missing_fraction
    )
    return table


def check_missing_fraction(missing: dict[Frame, str], frames: int, sas: str, missing_fraction: float) -> None:
    """Raise a `UserError` if more frames are missing than allowed; it names the first ones with their reasons."""
    if len(missing) > missing_fraction * frames:
        enough = math.ceil(1e4 * len(missing) / frames) / 1e4  # rounded up, or it might not suffice
        named = "; ".join(f"{frame.name} ({reason})" for frame, reason in list(missing.items())[:3])
        raise UserError(
            f"{len(missing)} of {frames} frames are missing from {sas}: {named}{' …' if len(missing) > 3 else ''}: "
            f"restore them, or set archive.missing_fraction to at least {enough:g}."
        )
