"""Temporary frames of a cubes job in a folder of bounded size: prefetched in reading order, removed after use."""

import logging
import shutil
import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from sdss_photoz.config import Archive
from sdss_photoz.frames.mirror import MAX_FRAME_BYTES, FrameMissing, check_missing_fraction, ensure, refetch
from sdss_photoz.surveys.sdss import Frame

RESERVED_BYTES = MAX_FRAME_BYTES + 4096  # for a frame until its size is known, and for the record of its download

_log = logging.getLogger(__name__)


class Scratch:
    """Frames of one cubes job. A context manager: it removes what a killed job left, and the folder at the end.

    Parameters
    ----------
    folder : str or Path
        The job's own folder, created when there are frames.
    frames : sequence of Frame
        In reading order; a frame that is read more than once is fetched each time.
    sas, release, archive
        As for :func:`sdss_photoz.frames.mirror.ensure`; the archive must be http(s).
    gigabytes : float
        Largest size of the folder (GB), at least 0.1.
    connections : int
        Number of simultaneous downloads.
    needed : int, optional
        Number of frames to which `archive.missing_fraction` applies; default: the number of distinct `frames`.

    Attributes
    ----------
    missing : dict
        Frames that the archive does not have, with the reason.
    """

    def __init__(
        self,
        folder,
        frames: Sequence[Frame],
        sas: str,
        release: int,
        archive: Archive,
        *,
        gigabytes: float,
        connections: int,
        needed: int | None = None,
    ):
        self._folder, self._source = Path(folder), (sas, release, archive)
        self._downloads = defaultdict(
            deque
        )  # by frame: for each time it is read, its folder, and its path once it is fetched
        self._queue = deque()
        for frame in frames:
            download = Path(folder, f"time-{len(self._downloads[frame])}"), Future()
            self._downloads[frame].append(download)
            self._queue.append((frame, *download))
        self._needed, self._fraction = len(self._downloads) if needed is None else needed, archive.missing_fraction
        self._free = int(gigabytes * 1e9) - RESERVED_BYTES  # the rest is for a damaged frame that is fetched again
        self._queue_lock, self._condition, self._closed = threading.Lock(), threading.Condition(), False
        self._threads = [threading.Thread(target=self._prefetch, daemon=True) for _ in range(max(connections, 1))]
        self.missing = {}

    def __enter__(self):
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._downloads:
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, *_):
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._downloads:
            for thread in self._threads:
                thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def copies(self, frame: Frame):
        """Yield the path of a frame, then, if the caller finds it damaged and continues, that of another copy.

        A missing frame yields nothing. The file is removed when the generator is closed.

        Raises
        ------
        UserError
            If the archive cannot be reached, more frames are missing than allowed, or the disk is full.
        """
        size = 0
        folder, download = self._downloads[frame].popleft()
        try:
            path = download.result()
            size = path.stat().st_size
            yield path
            path.unlink()
            yield refetch(frame, folder, *self._source)
        except FrameMissing as missing:
            _log.warning("%s is left out: %s", frame.name, missing.reason)
            self.missing[frame] = missing.reason
            check_missing_fraction(self.missing, self._needed, self._source[0], self._fraction)
        finally:
            (folder / frame.path(self._source[1])).unlink(missing_ok=True)
            self._release(size)

    def _prefetch(self) -> None:
        while True:
            with self._queue_lock:  # in reading order: the next frame to be read never waits behind others
                if not self._queue or not self._reserve():
                    return
                frame, folder, download = self._queue.popleft()
            try:
                path = ensure(frame, folder, *self._source)
                self._release(RESERVED_BYTES - path.stat().st_size)
                download.set_result(path)
            except BaseException as error:
                self._release(RESERVED_BYTES)
                download.set_exception(error)

    def _reserve(self) -> bool:
        """Wait for `RESERVED_BYTES`; False if the context ended first."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._free >= RESERVED_BYTES)
            self._free -= RESERVED_BYTES
            return not self._closed

    def _release(self, size: int) -> None:
        with self._condition:
            self._free += size
            self._condition.notify_all()
