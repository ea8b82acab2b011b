"""A bounded folder of frames that are not kept: fetched ahead in the order of reading, each gone once it was read."""

import shutil
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from sdss_photoz.archive.frames import LARGEST, Missing, ensure, refuse_missing, renew
from sdss_photoz.config import Archive
from sdss_photoz.survey import Frame

ROOM = LARGEST + 4096  # bytes that a frame may take until its size is known, with what is kept about it


class Scratch:
    """Frames of one cubes job. Use as a context manager; leftovers of a killed job go first, the folder at the end.

    Parameters
    ----------
    folder : str or Path
        A folder of the job's own. It is made where there are frames.
    frames : sequence of Frame
        In the order in which they will be read; one that will be read more than once is fetched each time.
    sas, release, archive
        As for :func:`sdss_photoz.archive.frames.ensure`; the archive must be http(s).
    gigabytes : float
        What the folder may hold at any time (GB); at least 0.1.
    connections : int
        Frames fetched at a time.
    needed : int, optional
        Frames of which `archive.missing_fraction` may be missing, where these are a part of them.

    Attributes
    ----------
    missing : dict
        Frames that the archive lacks, with the reason.
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
        self._coming = defaultdict(deque)  # of each frame, for each time: its place, and the path when it has come
        self._queue = deque()
        for frame in frames:
            coming = Path(folder, f"time-{len(self._coming[frame])}"), Future()
            self._coming[frame].append(coming)
            self._queue.append((frame, *coming))
        self._needed, self._fraction = len(self._coming) if needed is None else needed, archive.missing_fraction
        self._free = int(gigabytes * 1e9) - ROOM  # what is set aside is for a damaged frame that comes once more
        self._turn, self._room, self._closed = threading.Lock(), threading.Condition(), False
        self._threads = [threading.Thread(target=self._prefetch, daemon=True) for _ in range(max(connections, 1))]
        self.missing = {}

    def __enter__(self):
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._coming:
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, *_):
        with self._room:
            self._closed = True
            self._room.notify_all()
        if self._coming:
            for thread in self._threads:
                thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def copies(self, frame: Frame):
        """Yield the path of a frame and, to a caller that found it damaged and comes back, that of another copy.

        A frame that the archive lacks has none. When the generator is closed the frame goes.

        Raises
        ------
        UserError
            Where the archive cannot be reached, more frames are missing than allowed, or the disk is full.
        """
        size = 0
        folder, coming = self._coming[frame].popleft()
        try:
            path = coming.result()
            size = path.stat().st_size
            yield path
            path.unlink()
            yield renew(frame, folder, *self._source)
        except Missing as missing:
            print(f"{frame.name} is left out: {missing.reason}", file=sys.stderr)
            self.missing[frame] = missing.reason
            refuse_missing(self.missing, self._needed, self._source[0], self._fraction)
        finally:
            (folder / frame.path(self._source[1])).unlink(missing_ok=True)
            self._give_back(size)

    def _prefetch(self) -> None:
        while True:
            with self._turn:  # in the order of reading: a frame that is waited for never waits for room behind others
                if not self._queue or not self._take():
                    return
                frame, folder, coming = self._queue.popleft()
            try:
                path = ensure(frame, folder, *self._source)
                self._give_back(ROOM - path.stat().st_size)
                coming.set_result(path)
            except BaseException as error:
                self._give_back(ROOM)
                coming.set_exception(error)

    def _take(self) -> bool:
        """Wait for the room of one frame; whether it came before the end."""
        with self._room:
            self._room.wait_for(lambda: self._closed or self._free >= ROOM)
            self._free -= ROOM
            return not self._closed

    def _give_back(self, size: int) -> None:
        with self._room:
            self._free += size
            self._room.notify_all()
