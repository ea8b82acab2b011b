"""Corrected frames from the Science Archive Server or a mirror of it: one function opens every frame."""

import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd

from sdss_photoz import files
from sdss_photoz.archive.fetch import Refused, Spoiled, fetch
from sdss_photoz.archive.flaws import NO_BZIP2, NO_END, ends_whole, flaw
from sdss_photoz.archive.http import PAGE, is_page
from sdss_photoz.config import Archive
from sdss_photoz.errors import UserError
from sdss_photoz.locks import alone
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS, Frame

OK = "ok"
LATER = "later"  # the cubes job fetches it
FIRST = 100  # frames: where none of so many is there, the rest are not asked for
LARGEST = 32_000_000  # bytes: a frame has 12.7 MB before compression and about 3 MB after it
COLUMNS = ["run", "camcol", "field", "band", "path", "bytes", "sha256", "state"]

_DEFAULT = Archive()


class Missing(UserError):
    """The archive has no such frame, or a damaged one; `reason` says which in a few words that name no place."""

    def __init__(self, frame: Frame, reason: str):
        self.reason = reason
        super().__init__(
            f"frame {frame.name} is missing: {reason}; restore it in the archive or mirror, or allow for missing "
            "frames with archive.missing_fraction."
        )


def ensure(frame: Frame, mirror, sas: str, release: int = 12, archive: Archive = _DEFAULT) -> Path:
    """Give the path of a whole frame, fetching it where the mirror has none.

    An archive that is a folder (file://) is read in place. From an http(s) archive a frame is fetched to another
    name in the mirror, verified and renamed, under a lock of its own, so that any number of jobs, on any machine, may
    ask for it. What came before a kill is not fetched again.

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
    archive : config.Archive
        Timeouts and patience.

    Returns
    -------
    Path
        File of the frame, compressed with bzip2.

    Raises
    ------
    Missing
        Where the archive has no such frame, or a wrong one.
    UserError
        Where the archive cannot be reached, or the mirror cannot be read, written or is full.
    """
    root = archive_folder(sas)
    path = Path(mirror if root is None else root) / frame.path(release)
    with disk_in_one_sentence(path):
        if ends_whole(path):
            return path
        if root is not None:
            raise Missing(
                frame, "truncated in the archive: its end is missing" if path.exists() else "not in the archive"
            )
        with _alone(path):
            if not ends_whole(path):  # another job may have fetched it while this one waited
                _fetch(frame, path, sas, release, archive)
    return path


def is_there(frame: Frame, mirror, release: int = 12) -> bool:
    """Whether a folder in the archive's layout holds the whole file of a frame.

    Raises
    ------
    UserError
        Where it cannot be read.
    """
    path = Path(mirror) / frame.path(release)
    with disk_in_one_sentence(path):
        return ends_whole(path)


def renew(frame: Frame, mirror, sas: str, release: int = 12, archive: Archive = _DEFAULT) -> Path:
    """Fetch a frame once more, for the mirror's copy is damaged; it is replaced when a verified one has come.

    Parameters, result and errors are those of :func:`ensure`; the archive must be http(s).
    """
    path = Path(mirror) / frame.path(release)
    print(f"{frame.name} is damaged: it is fetched once more", file=sys.stderr)  # before what may fail
    with disk_in_one_sentence(path), _alone(path):
        _fetch(frame, path, sas, release, archive)
    return path


def copies(frame: Frame, mirror, sas: str, release: int = 12, archive: Archive = _DEFAULT):
    """Yield the path of a frame and, to a caller that found it damaged and comes back, one that was fetched anew.

    An archive that is a folder is never written to: it has one copy. Parameters and errors are those of
    :func:`ensure`.
    """
    yield ensure(frame, mirror, sas, release, archive)
    if archive_folder(sas) is None:
        yield renew(frame, mirror, sas, release, archive)


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


def _fetch(frame: Frame, path: Path, sas: str, release: int, archive: Archive) -> None:
    def wrong(part: Path, measured: bool) -> str | None:
        reason = flaw(part, frame)
        if reason == NO_BZIP2 or (reason == NO_END and not measured):  # an error page, or a broken connection
            with open(part, "rb") as file:
                page = is_page(file.read(1000))
            raise Spoiled(f"the answer is {PAGE if page else reason}")
        return reason

    try:
        fetch(f"{sas.rstrip('/')}/{frame.path(release)}", path, archive, wrong, LARGEST)
    except Refused as refused:
        raise Missing(frame, str(refused)) from None


@contextmanager
def _alone(path: Path):
    """Keep other jobs from fetching the same file; nothing but the file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_name(f".{path.name}.lease")):
        yield


@contextmanager
def disk_in_one_sentence(path: Path):
    """Turn the disk's refusals (full, no permission) into a `UserError` that names the place, `path` if no other."""
    try:
        yield
    except OSError as error:
        place = error.filename or path
        if error.errno in files.FULL:
            raise UserError(
                f"the disk of {path.parent} is full ({error.strerror}): free some space, or set archive.mirror to a "
                "folder on another disk, and run again; frames that are there are kept."
            ) from None
        raise UserError(
            f"{place} cannot be read or written ({error.strerror or error}): give yourself permission for it, or set "
            "archive.mirror to a folder of your own."
        ) from None


def list_frames(frames: pd.DataFrame) -> list[Frame]:
    """Each frame of a table once, ordered by run, camcol, field, band (ugriz)."""
    pairs = frames[["run", "camcol", "field", "band"]].drop_duplicates()
    return sorted(
        (Frame(int(run), int(camcol), int(field), str(band)) for run, camcol, field, band in pairs.itertuples(False)),
        key=lambda frame: (*frame[:3], BANDS.index(frame.band)),
    )


def later(frames: pd.DataFrame, release: int = 12) -> pd.DataFrame:
    """List frames that the cubes job will fetch: the table of :func:`manifest` with the state "later"."""
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
    """Make every frame ready and list what came.

    Parameters
    ----------
    frames : DataFrame
        run, camcol, field, band; repeats are dropped.
    sas, mirror, release, archive
        As for :func:`ensure`.
    missing_fraction : float
        Largest fraction of the frames that may be missing.
    workers : int
        Connections to the archive.
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
        Where more frames are missing than allowed (the first ones are named; where none of the first 100 is there the
        others are not asked for), or the archive cannot be reached.
    """
    wanted = list_frames(frames)
    source = (mirror, sas, release, archive)

    def entry(frame: Frame) -> tuple[dict, bool]:
        """What is listed of a frame, and whether it was there before."""
        there = archive_folder(sas) is not None or is_there(frame, mirror, release)
        try:
            path = ensure(frame, *source)
            with disk_in_one_sentence(path):
                reason = flaw(path, frame)
                if reason is not None and archive_folder(sas) is None:  # put there by something else
                    path, reason = renew(frame, *source), None
                if reason is not None:
                    raise Missing(frame, reason)
                return _row(frame, release, OK, path.stat().st_size, files.sha256(path)), there
        except Missing as missing:
            return _row(frame, release, missing.reason), there

    rows, size, fetched, start = [], 0.0, 0.0, time.monotonic()
    executor = ThreadPoolExecutor(workers)
    try:
        with progress(total=len(wanted), unit="frame", label=label) as bar:
            parts = (executor.map(entry, part) for part in (wanted[:FIRST], wanted[FIRST:]))  # the rest after a look
            for row, there in chain.from_iterable(parts):
                rows.append(row)
                size += row["bytes"] / 1e6
                fetched += 0 if there else row["bytes"] / 1e6
                rate = fetched / (time.monotonic() - start)
                bar.set_postfix_str(f"{size:,.0f} MB, {rate:.1f} MB/s fetched", refresh=False)
                bar.update()
                if len(rows) == FIRST > missing_fraction * len(wanted) and not size:  # else it takes hours to say so
                    raise UserError(
                        f"none of the first {FIRST} frames is in {sas} ({row['path']}: {row['state']}): check "
                        "archive.sas and archive.release."
                    )
    finally:
        executor.shutdown(cancel_futures=True)
    table = pd.DataFrame(rows, columns=COLUMNS)
    missing = table[table["state"] != OK]
    refuse_missing(dict(zip(list_frames(missing), missing["state"], strict=True)), len(table), sas, missing_fraction)
    return table


def refuse_missing(missing: dict[Frame, str], frames: int, sas: str, missing_fraction: float) -> None:
    """Raise one `UserError` where more frames are missing than allowed; the first are named with their reasons."""
    if len(missing) > missing_fraction * frames:
        enough = math.ceil(1e4 * len(missing) / frames) / 1e4  # rounded to the nearest it may be too little
        named = "; ".join(f"{frame.name} ({reason})" for frame, reason in list(missing.items())[:3])
        raise UserError(
            f"{len(missing)} of {frames} frames are missing from {sas}: {named}{' …' if len(missing) > 3 else ''}: "
            f"restore them, or set archive.missing_fraction to at least {enough:g}."
        )
