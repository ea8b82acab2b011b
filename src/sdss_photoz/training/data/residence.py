"""Cubes of a training in the device's memory, in host memory, or on disk.

Each class gives the cubes of a batch as a table on the device, and the positions of the batch's galaxies in the table.
Resident cubes are the table. The other classes copy each batch to a table while the device computes with the previous
one.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdss_photoz.device import on_gpu
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.training.data.order import Sequence

Batch = tuple[np.ndarray, np.ndarray, Tensor, Tensor | None]  # galaxies, symmetries, table, positions in the table


class Resident:
    """Cubes on the device.

    Parameters
    ----------
    cubes : Tensor
        (n, pixel, band) on the device.
    """

    chunks = None  # no constraint on the order of the galaxies

    def __init__(self, cubes: Tensor):
        self.cubes = cubes

    def take(self, galaxies: Tensor) -> tuple[Tensor, Tensor]:
        """A table with the cubes of the galaxies, and their positions in it."""
        return self.cubes, galaxies

    def batches(self, sequence: Sequence, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps from `first` to before `last`; positions are None, the indices of the galaxies."""
        for step in range(first, last):
            yield *sequence.batch(step), self.cubes, None


class Pinned:
    """Cubes in host memory; batches are copied to a GPU through two pinned buffers, on a separate stream.

    Parameters
    ----------
    cubes : Tensor
        (row, pixel, band) in memory, or mapped from a file.
    rows : ndarray
        (n,) int64, row of each galaxy.
    device : torch.device
        Device of the batches.
    """

    chunks = None

    def __init__(self, cubes: Tensor, rows: np.ndarray, device: torch.device):
        self.cubes, self.rows, self.device = cubes, torch.from_numpy(rows), device

    def take(self, galaxies: Tensor) -> tuple[Tensor, Tensor]:
        """See `Resident.take`; the cubes are copied."""
        table = self.cubes.index_select(0, self.rows[galaxies.cpu()]).to(self.device)
        return table, torch.arange(len(table), device=self.device)

    def batches(self, sequence: Sequence, first: int, last: int) -> Iterator[Batch]:
        """See `Resident.batches`; each batch is copied while the one before is used."""
        batches = (sequence.batch(step) for step in range(first, last))
        sources = ((*batch, [(self.cubes, self.rows[torch.from_numpy(batch[0])])]) for batch in batches)
        shape = (sequence.size, *self.cubes.shape[1:])
        return _double_buffered(sources, shape, self.cubes.dtype, self.device)


class Streamed:
    """Cubes on disk, read in whole chunks, once per epoch, with at most two groups of chunks in memory.

    Parameters
    ----------
    path : str or Path
        File of float16 cubes, row after row.
    start : int
        Offset of the first row (bytes).
    rows : ndarray
        (n,) int64, row of each galaxy.
    chunk, shard : int
        Number of rows of a chunk and of a shard.
    device : torch.device
        Device of the batches.
    grid : PixelGrid
        Pixels and bands of the cubes.
    """

    def __init__(
        self, path, start: int, rows: np.ndarray, chunk: int, shard: int, device: torch.device, grid: PixelGrid = CUBE
    ):
        self.path, self.start, self.rows, self.chunk, self.device = Path(path), start, rows, chunk, device
        self.shape = grid.size**2, len(grid.bands)
        self.chunks = rows // chunk, rows // shard

    def take(self, galaxies: Tensor) -> tuple[Tensor, Tensor]:
        """See `Resident.take`; the cubes are read galaxy by galaxy."""
        rows = self.rows[galaxies.cpu().numpy()]
        table = np.empty((len(rows), *self.shape), np.float16)
        with open(self.path, "rb", buffering=0) as file:
            for position, row in enumerate(rows.tolist()):
                self._read(file, row, table[position : position + 1])
        return torch.from_numpy(table).to(self.device), torch.arange(len(rows), device=self.device)

    def batches(self, sequence: Sequence, first: int, last: int) -> Iterator[Batch]:
        """See `Pinned.batches`; each group of chunks is read while the one before is used."""
        sources = self._sources(sequence, first, last)
        return _double_buffered(sources, (sequence.size, *self.shape), torch.float16, self.device)

    def _sources(self, sequence: Sequence, first: int, last: int) -> Iterator[tuple]:
        groups = prefetch(self._groups(sequence, first, last))
        group = _Group(0, np.empty(0), np.empty(0), torch.empty(0))

        def parts(start: int, galaxies: np.ndarray):
            nonlocal group
            done = 0
            while done < len(galaxies):
                if start + done >= group.end:
                    group = next(groups)  # not earlier: its memory is that of the group before the last
                part = galaxies[done : group.end - start]
                yield group.cubes, torch.from_numpy(group.positions[np.searchsorted(group.galaxies, part)])
                done += len(part)

        for step in range(first, last):
            galaxies, symmetry = sequence.batch(step)
            yield galaxies, symmetry, parts(step * sequence.size, galaxies)

    def _groups(self, sequence: Sequence, first: int, last: int) -> Iterator["_Group"]:
        """The groups in order, read alternately into two buffers."""
        memory = [torch.empty(0), torch.empty(0)]
        for number, (end, galaxies) in enumerate(sequence.groups(first, last)):
            galaxies = np.sort(galaxies)
            chunks, of_galaxy = np.unique(self.chunks[0][galaxies], return_inverse=True)
            if len(memory[number % 2]) < len(chunks) * self.chunk:
                memory[number % 2] = torch.empty(len(chunks) * self.chunk, *self.shape, dtype=torch.float16)
            within = self.rows[galaxies] % self.chunk
            counts = np.zeros(len(chunks), dtype=np.int64)
            np.maximum.at(counts, of_galaxy, within + 1)
            self._read_chunks(chunks, counts, memory[number % 2].numpy())
            yield _Group(end, galaxies, of_galaxy * self.chunk + within, memory[number % 2])

    def _read_chunks(self, chunks: np.ndarray, counts: np.ndarray, memory: np.ndarray) -> None:
        """Read the first `counts` rows of each chunk; the last chunk of the store may be incomplete."""
        with open(self.path, "rb", buffering=0) as file:
            for position, (chunk, count) in enumerate(zip(chunks.tolist(), counts.tolist(), strict=True)):
                start = position * self.chunk
                self._read(file, chunk * self.chunk, memory[start : start + count])

    def _read(self, file, row: int, cubes: np.ndarray) -> None:
        file.seek(self.start + row * cubes[0].nbytes)
        if file.readinto(memoryview(cubes).cast("B")) != cubes.nbytes:
            raise OSError(f"{self.path} ends before row {row + len(cubes)}")


@dataclass
class _Group:
    """Chunks in memory: their end in the sequence, their galaxies in ascending order and the positions of these."""

    end: int
    galaxies: np.ndarray
    positions: np.ndarray
    cubes: Tensor


def prefetch(items: Iterable, prepare: Callable | None = None) -> Iterator:
    """Yield items while a thread computes the next one; the thread calls `prepare` first."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1, initializer=prepare) as pool:
        following = pool.submit(next, items, end)
        while (item := following.result()) is not end:
            following = pool.submit(next, items, end)
            yield item


class _Buffer:
    """One of two buffers: a host tensor, which is filled, and the table on the device to which it is copied."""

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device, stream):
        self.stream = stream
        self.host = torch.empty(shape, dtype=dtype, pin_memory=stream is not None)
        self.table = self.host if stream is None else torch.empty(shape, dtype=dtype, device=device)
        self.copied, self.used = (None, None) if stream is None else (torch.cuda.Event(), torch.cuda.Event())

    def fill(self, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Gather the cubes of a batch, and copy them when the device no longer uses the buffer's previous batch."""
        if self.stream is not None:
            self.copied.synchronize()  # of the host tensor, by the copy before
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
        """Make subsequent work of the device wait for the copy."""
        if self.stream is not None:
            torch.cuda.current_stream(self.table.device).wait_event(self.copied)

    def release(self) -> None:
        """Make the next copy wait for the work of the device so far."""
        if self.stream is not None:
            self.used.record(torch.cuda.current_stream(self.table.device))


def _double_buffered(
    sources: Iterable[tuple], shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> Iterator[Batch]:
    """Batches alternately in two buffers: one is filled while the other is used.

    Parameters
    ----------
    sources : iterable of (galaxies, symmetries, parts)
        A batch each; its parts are pairs (cubes, index).
    shape : tuple of int
        Shape of a batch: (galaxy, pixel, band).
    """
    stream = torch.cuda.Stream(device) if on_gpu(device) else None
    buffers = [_Buffer(shape, dtype, device, stream) for _ in range(2)]
    positions, prepare = torch.arange(shape[0], device=device), None
    if stream is not None:
        stream.wait_stream(torch.cuda.current_stream(device))  # which may still use the memory of the tables
        prepare = partial(
            torch.cuda.set_device, device
        )  # the default of a thread is the first GPU, maybe another job's

    def filled():
        for number, (galaxies, symmetry, parts) in enumerate(sources):
            buffer = buffers[number % 2]
            buffer.fill(parts)
            yield galaxies, symmetry, buffer

    try:
        for galaxies, symmetry, buffer in prefetch(filled(), prepare):
            buffer.wait()
            yield galaxies, symmetry, buffer.table, positions
            buffer.release()
    finally:
        if stream is not None:
            stream.synchronize()  # the buffers are freed afterwards
