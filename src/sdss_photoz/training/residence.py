"""Where the cubes of a training stay: on the device, in the machine's memory, or on disk.

Each class gives the cubes of a batch as a table on the device and the places of the batch's galaxies in it. Resident
cubes are the table themselves. The others copy a batch to a table while the batch before it is computed with.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdss_photoz.survey import BANDS, CUBE_SIZE
from sdss_photoz.training.device import on_gpu
from sdss_photoz.training.order import Sequence

PIXELS = CUBE_SIZE**2
Batch = tuple[np.ndarray, np.ndarray, Tensor, Tensor | None]  # galaxies, symmetries, table, places in the table


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
        """The batches of the steps from `first` to before `last`; a galaxy's place is its number."""
        for step in range(first, last):
            yield *sequence.batch(step), self.cubes, None


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
    """Cubes on disk, read in whole chunks, each once an epoch; at most two groups of chunks are in memory.

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
        group = _Group(0, np.empty(0), np.empty(0), torch.empty(0))

        def parts(start: int, galaxies: np.ndarray):
            nonlocal group
            done = 0
            while done < len(galaxies):
                if start + done >= group.end:
                    group = next(groups)  # only now: the group before it is overwritten meanwhile
                some = galaxies[done : group.end - start]
                yield group.cubes, torch.from_numpy(group.places[np.searchsorted(group.galaxies, some)])
                done += len(some)

        for step in range(first, last):
            galaxies, turns = sequence.batch(step)
            yield galaxies, turns, parts(step * sequence.size, galaxies)

    def _groups(self, sequence: Sequence, first: int, last: int) -> Iterator["_Group"]:
        """The groups in turn, read into two pieces of memory by turns."""
        memory = [torch.empty(0), torch.empty(0)]
        for number, (end, galaxies) in enumerate(sequence.groups(first, last)):
            galaxies = np.sort(galaxies)
            chunks, of_galaxy = np.unique(self.chunks[0][galaxies], return_inverse=True)
            if len(memory[number % 2]) < len(chunks) * self.chunk:
                memory[number % 2] = torch.empty(len(chunks) * self.chunk, PIXELS, len(BANDS), dtype=torch.float16)
            within = self.rows[galaxies] % self.chunk
            counts = np.zeros(len(chunks), dtype=np.int64)
            np.maximum.at(counts, of_galaxy, within + 1)
            self._read_chunks(chunks, counts, memory[number % 2].numpy())
            yield _Group(end, galaxies, of_galaxy * self.chunk + within, memory[number % 2])

    def _read_chunks(self, chunks: np.ndarray, counts: np.ndarray, memory: np.ndarray) -> None:
        """Read chunks, of each so many rows, one after the other; the store's last chunk may be shorter."""
        with open(self.path, "rb", buffering=0) as file:
            for place, (chunk, count) in enumerate(zip(chunks.tolist(), counts.tolist(), strict=True)):
                start = place * self.chunk
                self._read(file, chunk * self.chunk, memory[start : start + count])

    def _read(self, file, row: int, cubes: np.ndarray) -> None:
        file.seek(self.start + row * cubes[0].nbytes)
        if file.readinto(memoryview(cubes).cast("B")) != cubes.nbytes:
            raise OSError(f"{self.path} ends before row {row + len(cubes)}")


@dataclass
class _Group:
    """Chunks in memory: where they end in the sequence, their galaxies in ascending order and the places of these."""

    end: int
    galaxies: np.ndarray
    places: np.ndarray
    cubes: Tensor


def ahead(items: Iterable, prepare: Callable | None = None) -> Iterator:
    """Yield items, the next one made meanwhile in a thread, which is prepared by a call first."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1, initializer=prepare) as pool:
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

    def fill(self, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
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
    stream = torch.cuda.Stream(device) if on_gpu(device) else None
    buffers = [_Buffer(size, dtype, device, stream) for _ in range(2)]
    places, prepare = torch.arange(size, device=device), None
    if stream is not None:
        stream.wait_stream(torch.cuda.current_stream(device))  # which may still use the memory that the tables took
        prepare = partial(torch.cuda.set_device, device)  # a thread's own is the first GPU, maybe another job's

    def filled():
        for number, (galaxies, turns, parts) in enumerate(sources):
            buffer = buffers[number % 2]
            buffer.fill(parts)
            yield galaxies, turns, buffer

    try:
        for galaxies, turns, buffer in ahead(filled(), prepare):
            buffer.wait()
            yield galaxies, turns, buffer.table, places
            buffer.release()
    finally:
        if stream is not None:
            stream.synchronize()  # no copy may outlive its buffer
