"""Where the cubes of a training stay: on the device, in the machine's memory, or on disk.

Each class gives the cubes of a batch as a table on the device and the places of the batch's galaxies in it. Resident
cubes are the table themselves. The others copy a batch to a table while the batch before it is computed with.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdss_photoz.survey import BANDS, CUBE_SIZE
from sdss_photoz.training.order import Sequence

PIXELS = CUBE_SIZE**2
Batch = tuple[np.ndarray, np.ndarray, Tensor, Tensor]  # galaxies, symmetries, table, places of the galaxies in it


class Resident:
    """Cubes on the device.

    Parameters
    ----------
    cubes : Tensor
        (n, 64 * 64, 5) on the device.
    """

    chunks = None  # any order will do

    def __init__(self, cubes: Tensor):
        self.cubes = cubes

    def take(self, galaxies: Tensor) -> tuple[Tensor, Tensor]:
        """A table with the cubes of some galaxies, and their places in it."""
        return self.cubes, galaxies

    def in_turn(self, sequence: Sequence, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps from `first` to before `last`."""
        for step in range(first, last):
            galaxies, turns = sequence.batch(step)
            yield galaxies, turns, self.cubes, torch.from_numpy(galaxies).to(self.cubes.device)


class Pinned:
    """Cubes in the machine's memory; batches reach a GPU through two pinned buffers, on a stream of their own.

    Parameters
    ----------
    cubes : Tensor
        (row, 64 * 64, 5) in memory, also mapped from a file.
    rows : ndarray
        (n,) int64, row of each galaxy.
    device : torch.device
        Where the batches go.
    """

    chunks = None

    def __init__(self, cubes: Tensor, rows: np.ndarray, device: torch.device):
        self.cubes, self.rows, self.device = cubes, torch.from_numpy(rows), device

    def take(self, galaxies: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Resident`, but copied now."""
        table = self.cubes.index_select(0, self.rows[galaxies.cpu()]).to(self.device)
        return table, torch.arange(len(table), device=self.device)

    def in_turn(self, sequence: Sequence, first: int, last: int) -> Iterator[Batch]:
        """As of `Resident`, each batch copied while the one before it is used."""
        batches = (sequence.batch(step) for step in range(first, last))
        sources = ((*batch, [(self.cubes, self.rows[torch.from_numpy(batch[0])])]) for batch in batches)
        return _copied_ahead(sources, sequence.size, self.cubes.dtype, self.device)


class Streamed:
    """Cubes on disk, read in whole chunks, each once an epoch; at most three groups of chunks are in memory.

    Parameters
    ----------
    path : str or Path
        File of float16 cubes, row after row.
    start : int
        Byte where the first row begins.
    rows : ndarray
        (n,) int64, row of each galaxy.
    chunk, shard : int
        Rows of a chunk, and of a shard.
    device : torch.device
        Where the batches go.
    """

    def __init__(self, path, start: int, rows: np.ndarray, chunk: int, shard: int, device: torch.device):
        self.path, self.start, self.rows, self.chunk, self.device = Path(path), start, rows, chunk, device
        self.chunks = rows // chunk, rows // shard

    def take(self, galaxies: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Resident`, but read now, galaxy by galaxy."""
        rows = self.rows[galaxies.cpu().numpy()]
        table = np.empty((len(rows), PIXELS, len(BANDS)), np.float16)
        with open(self.path, "rb", buffering=0) as file:
            for place, row in enumerate(rows.tolist()):
                self._read(file, row, table[place : place + 1])
        return torch.from_numpy(table).to(self.device), torch.arange(len(rows), device=self.device)

    def in_turn(self, sequence: Sequence, first: int, last: int) -> Iterator[Batch]:
        """As of `Pinned`, each group of chunks read while the one before it is used."""
        return _copied_ahead(self._sources(sequence, first, last), sequence.size, torch.float16, self.device)

    def _sources(self, sequence: Sequence, first: int, last: int) -> Iterator[tuple]:
        groups = ahead(self._groups(sequence, first, last))
        end, here, cubes = 0, None, None
        for step in range(first, last):
            galaxies, turns = sequence.batch(step)
            parts, done = [], 0
            while done < len(galaxies):
                place = step * sequence.size + done
                if place >= end:
                    end, here, cubes = next(groups)
                some = galaxies[done : done + end - place]
                parts.append((cubes, torch.from_numpy(np.searchsorted(here, some))))
                done += len(some)
            yield galaxies, turns, parts

    def _groups(self, sequence: Sequence, first: int, last: int) -> Iterator[tuple[int, np.ndarray, Tensor]]:
        """End of each group in the sequence, its galaxies in ascending order, and their cubes."""
        for end, galaxies in sequence.groups(first, last):
            galaxies = np.sort(galaxies)
            yield end, galaxies, torch.from_numpy(self.read_chunks(galaxies))

    def read_chunks(self, galaxies: np.ndarray) -> np.ndarray:
        """Cubes (n, 64 * 64, 5) float16 of galaxies, from whole chunks, one at a time."""
        rows = self.rows[galaxies]
        cubes = np.empty((len(rows), PIXELS, len(BANDS)), np.float16)
        block = np.empty((self.chunk, PIXELS, len(BANDS)), np.float16)
        with open(self.path, "rb", buffering=0) as file:
            for chunk in np.unique(rows // self.chunk).tolist():
                wanted = np.flatnonzero(rows // self.chunk == chunk)
                within = rows[wanted] - chunk * self.chunk
                read = block[: within.max() + 1]
                self._read(file, chunk * self.chunk, read)
                cubes[wanted] = read[within]
        return cubes

    def _read(self, file, row: int, cubes: np.ndarray) -> None:
        file.seek(self.start + row * cubes[0].nbytes)
        if file.readinto(memoryview(cubes).cast("B")) != cubes.nbytes:
            raise OSError(f"{self.path} ends before row {row + len(cubes)}")


def ahead(items: Iterable) -> Iterator:
    """Yield items, the next one made in a thread meanwhile."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item


class _Buffer:
    """One of the two buffers: its host side is filled, then copied to its table on the device."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device, stream):
        self.stream = stream
        shape = size, PIXELS, len(BANDS)
        self.host = torch.empty(shape, dtype=dtype, pin_memory=stream is not None)
        self.table = self.host if stream is None else torch.empty(shape, dtype=dtype, device=device)
        self.copied, self.used = (None, None) if stream is None else (torch.cuda.Event(), torch.cuda.Event())

    def fill(self, parts: list[tuple[Tensor, Tensor]]) -> None:
        """Gather the cubes of a batch, and send them when the device is done with the batch before them here."""
        if self.stream is not None:
            self.copied.synchronize()  # the host side may still be under copy
        start = 0
        for cubes, index in parts:
            torch.index_select(cubes, 0, index, out=self.host[start : start + len(index)])
            start += len(index)
        if self.stream is not None:
            with torch.cuda.stream(self.stream):
                self.stream.wait_event(self.used)
                self.table.copy_(self.host, non_blocking=True)
                self.copied.record()

    def wait(self) -> None:
        """Let the device's work that follows wait for the copy."""
        if self.stream is not None:
            torch.cuda.current_stream(self.table.device).wait_event(self.copied)

    def release(self) -> None:
        """Let the next copy wait for the device's work until here."""
        if self.stream is not None:
            self.used.record(torch.cuda.current_stream(self.table.device))


def _copied_ahead(sources: Iterable[tuple], size: int, dtype: torch.dtype, device: torch.device) -> Iterator[Batch]:
    """Batches in two buffers by turns: one is filled while the other is used.

    Parameters
    ----------
    sources : iterable of (galaxies, symmetries, parts)
        The parts of a batch: (cubes, index) each.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    buffers = [_Buffer(size, dtype, device, stream) for _ in range(2)]
    places = torch.arange(size, device=device)

    def filled():
        for number, (galaxies, turns, parts) in enumerate(sources):
            buffer = buffers[number % 2]
            buffer.fill(parts)
            del parts  # or a group of chunks would stay in memory
            yield galaxies, turns, buffer

    try:
        for galaxies, turns, buffer in ahead(filled()):
            buffer.wait()
            yield galaxies, turns, buffer.table, places
            buffer.release()
    finally:
        if stream is not None:
            stream.synchronize()  # no copy may outlive its buffer
