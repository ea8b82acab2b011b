"""Order of galaxies and their symmetries: pure functions of (seed, fold, member, epoch), the same on every device."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from threading import Lock

import numpy as np
from torch import Tensor

SYMMETRIES = 8
STRATUM = 0.02  # redshift: galaxies in steps of it are drawn alike often where batches are to be balanced
TOGETHER = 64  # chunks, at least, whose galaxies are shuffled together


def random_words(*key: int, count: int) -> np.ndarray:
    """Random 64-bit words (count,) uint64 that follow from a key of non-negative integers alone.

    They are raw words of Philox, a counter-based generator with a published definition (Salmon et al. 2011), so they do
    not change with numpy's way of drawing distributions.
    """
    return np.random.Philox(np.random.SeedSequence(key)).random_raw(count)


def permutation(seed: int, fold: int, member: int, epoch: int, count: int) -> np.ndarray:
    """Order (count,) int64 in which an epoch visits the training galaxies."""
    return np.argsort(random_words(seed, fold, member, epoch, 0, count=count), kind="stable")


def symmetries(seed: int, fold: int, member: int, epoch: int, count: int) -> np.ndarray:
    """Symmetry (count,) int64, 0 to 7, of each training galaxy in an epoch.

    Each galaxy runs through a random order of the eight in every eight epochs, so it sees each of them once.
    """
    block, turn = divmod(epoch, SYMMETRIES)
    words = random_words(seed, fold, member, block, 1, count=count * SYMMETRIES).reshape(count, SYMMETRIES)
    return np.argsort(words, axis=1, kind="stable")[:, turn]


def symmetry_table(size: int) -> np.ndarray:
    """For each symmetry the flat index (8, size * size) int64 of the pixel that moves to each place.

    Symmetry s is a rotation by 90 degrees s % 4 times, mirrored first where s >= 4; symmetry 0 changes nothing.
    """
    pixels = np.arange(size * size).reshape(size, size)
    turned = [np.rot90(pixels[:, ::-1] if s >= 4 else pixels, s % 4) for s in range(SYMMETRIES)]
    return np.stack([image.ravel() for image in turned])


def turned(cubes: Tensor, symmetry: int) -> Tensor:
    """Cubes (n, y, x, band) under a symmetry, as of `symmetry_table`."""
    return (cubes.flip(2) if symmetry >= 4 else cubes).rot90(symmetry % 4, (1, 2))


def redshift_strata(z: np.ndarray) -> np.ndarray:
    """Stratum (n,) int64 of each galaxy, by its redshift, for `balanced`."""
    return np.floor(z / STRATUM).astype(np.int64)


def balanced(seed: int, fold: int, member: int, epoch: int, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order in which an epoch draws galaxies so that all strata come alike often.

    Each stratum comes once in every so many draws as there are strata, in a random order, and deals its galaxies in a
    random order, again from the first where it has fewer than draws.

    Parameters
    ----------
    seed, fold, member, epoch : int
        What the order follows from.
    strata : ndarray
        (n,) int64, stratum of each galaxy.

    Returns
    -------
    order : ndarray
        (n,) int64: as many galaxies as there are, some of them several times, others not at all.
    before : ndarray
        (n,) int64: how often the galaxy came before in this epoch.
    """
    key, count = (seed, fold, member, epoch), len(strata)
    dealt = np.lexsort((random_words(*key, 0, count=count), strata))
    _, starts, sizes = np.unique(strata[dealt], return_index=True, return_counts=True)
    rounds = -(-count // len(sizes))
    words = random_words(*key, 4, count=rounds * len(sizes)).reshape(rounds, len(sizes))
    stratum = np.argsort(words, axis=1, kind="stable").ravel()[:count]
    before, place = np.divmod(np.arange(count) // len(sizes), sizes[stratum])
    return dealt[starts[stratum] + place], before


def streamed_permutation(
    seed: int, fold: int, member: int, epoch: int, chunk: np.ndarray, shard: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Order in which an epoch visits galaxies that are read from disk in whole chunks.

    The chunks are dealt into groups of at least `TOGETHER`, as far as there are so many, and the galaxies of a group
    are shuffled. Each group takes its chunks from as many shards as it can, for the shards follow the sky.

    Parameters
    ----------
    seed, fold, member, epoch : int
        What the order follows from.
    chunk, shard : ndarray
        (n,) int64, number of the chunk and of the shard that hold each galaxy.

    Returns
    -------
    order : ndarray
        (n,) int64.
    bounds : ndarray
        (groups + 1,) int64: group g is ``order[bounds[g]:bounds[g + 1]]``.
    """
    chunks, first, of_galaxy = np.unique(chunk, return_index=True, return_inverse=True)
    words = random_words(seed, fold, member, epoch, 3, count=len(chunks))
    shard_of = shard[first]
    by_shard = np.lexsort((words, shard_of))
    starts = np.searchsorted(shard_of[by_shard], shard_of[by_shard])
    turn = np.empty(len(chunks), dtype=np.int64)
    turn[by_shard] = np.arange(len(chunks)) - starts
    place = np.empty(len(chunks), dtype=np.int64)
    place[np.lexsort((words, turn))] = np.arange(len(chunks))  # one chunk of each shard, then the next of each
    groups = max(len(chunks) // TOGETHER, 1)
    group = (place * groups // len(chunks))[of_galaxy]
    order = np.lexsort((random_words(seed, fold, member, epoch, 0, count=len(chunk)), group))
    return order, np.searchsorted(group[order], np.arange(groups + 1))


class Sequence:
    """The endless sequence of training galaxies, epoch after epoch, cut into batches of equal size.

    The galaxies that an epoch leaves over open the next epoch's first batch.

    Parameters
    ----------
    count : int
        Training galaxies.
    batch : int
        Galaxies in a step.
    seed, fold, member : int
        What the order follows from.
    augment : bool
        Whether to draw symmetries; otherwise all are 0.
    chunks : tuple of ndarray, optional
        Number of the chunk and of the shard of each galaxy, where they are read in whole chunks.
    strata : ndarray, optional
        (count,) int64, stratum of each galaxy, where all are to come alike often (`balanced`); not with `chunks`.
    """

    def __init__(
        self, count: int, batch: int, seed: int, fold: int, member: int, augment: bool = True, chunks=None, strata=None
    ):  # fmt: skip
        self.count, self.size, self.key, self.augment, self.chunks = count, batch, (seed, fold, member), augment, chunks
        self.strata = strata
        self._drawn: dict[int, Future] = {}
        self._turn, self._pool = Lock(), ThreadPoolExecutor(1)

    def steps(self, epochs: int) -> int:
        """Steps after which `epochs` epochs are complete."""
        return -(-epochs * self.count // self.size)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Galaxies (batch,) and their symmetries (batch,), int64, of a step."""
        places = np.arange(step * self.size, (step + 1) * self.size)
        epochs, within = np.divmod(places, self.count)
        galaxies, turns = np.empty_like(places), np.zeros_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            order, _, symmetry = self._epoch(int(epoch))
            galaxies[here] = order[within[here]]
            turns[here] = symmetry[within[here]]
        return galaxies, turns

    def groups(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Groups of galaxies that the steps from `first` to before `last` visit together.

        Yields
        ------
        end : int
            Place in the endless sequence where the group ends.
        galaxies : ndarray
            Those of the group that these steps visit, in their order.
        """
        start, stop = first * self.size, last * self.size
        for epoch in range(start // self.count, -(-stop // self.count)):
            order, bounds, _ = self._epoch(epoch)
            for begin, end in pairwise(bounds.tolist()):
                begin, end = (min(max(place, start - epoch * self.count), stop - epoch * self.count)
                              for place in (begin, end))  # fmt: skip
                if begin < end:
                    yield epoch * self.count + end, order[begin:end]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Order, bounds of groups and symmetries, in that order, of an epoch; those of the next are drawn meanwhile."""
        with self._turn:
            for wanted in (epoch, epoch + 1):
                if wanted not in self._drawn:
                    self._drawn[wanted] = self._pool.submit(self._draw, wanted)
            self._drawn = {drawn: value for drawn, value in self._drawn.items() if abs(drawn - epoch) <= 2}
            drawn = self._drawn[epoch]
        return drawn.result()

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        turns = symmetries(*self.key, epoch, self.count) if self.augment else np.zeros(self.count, dtype=np.int64)
        bounds, before = np.array([0, self.count]), 0
        if self.strata is not None:
            order, before = balanced(*self.key, epoch, self.strata)
        elif self.chunks is not None:
            order, bounds = streamed_permutation(*self.key, epoch, *self.chunks)
        else:
            order = permutation(*self.key, epoch, self.count)
        return order, bounds, (turns[order] + before) % SYMMETRIES if self.augment else turns
