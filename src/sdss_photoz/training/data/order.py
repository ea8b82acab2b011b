"""Order of galaxies and their symmetries: functions of (seed, fold, member, epoch), the same on every device."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from threading import Lock

import numpy as np

from sdss_photoz.inputs.symmetry import SYMMETRIES
from sdss_photoz.scores.grid import Grid

STRATA = 20  # of class-balanced sampling: in redshift 0.02 wide by default
GROUP_CHUNKS = 64  # smallest number of chunks whose galaxies are shuffled together


def random_words(*key: int, count: int) -> np.ndarray:
    """Random words (count,) uint64, a function of a key of non-negative integers.

    They are the raw output of Philox, a counter-based generator with a published definition (Salmon et al. 2011), which
    does not depend on numpy's algorithms for distributions.
    """
    return np.random.Philox(np.random.SeedSequence(key)).random_raw(count)


def permutation(seed: int, fold: int, member: int, epoch: int, count: int) -> np.ndarray:
    """Order (count,) int64 in which an epoch visits the training galaxies."""
    return np.argsort(random_words(seed, fold, member, epoch, 0, count=count), kind="stable")


def symmetries(seed: int, fold: int, member: int, epoch: int, count: int) -> np.ndarray:
    """Symmetry (count,) int64, 0 to 7, of each training galaxy in an epoch.

    In every eight epochs each galaxy has each of the eight once, in random order.
    """
    block, turn = divmod(epoch, SYMMETRIES)
    words = random_words(seed, fold, member, block, 1, count=count * SYMMETRIES).reshape(count, SYMMETRIES)
    return np.argsort(words, axis=1, kind="stable")[:, turn]


def strata_of(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Stratum (n,) int64 of each galaxy, an interval of what is predicted, for `class_balanced`."""
    return np.floor((values - grid.low) / ((grid.high - grid.low) / STRATA)).astype(np.int64)


def class_balanced(seed: int, fold: int, member: int, epoch: int, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order in which an epoch draws galaxies with equal frequency from all strata.

    The strata are drawn in rounds, each stratum once per round, in random order. A stratum yields its galaxies in
    random order, repeated from the first when all have been drawn.

    Parameters
    ----------
    seed, fold, member, epoch : int
        Key of the order.
    strata : ndarray
        (n,) int64, stratum of each galaxy.

    Returns
    -------
    order : ndarray
        (n,) int64: n galaxies, some of them several times, others not at all.
    repeats : ndarray
        (n,) int64: how often the galaxy was drawn before in this epoch.
    """
    key, count = (seed, fold, member, epoch), len(strata)
    by_stratum = np.lexsort((random_words(*key, 0, count=count), strata))
    _, starts, sizes = np.unique(strata[by_stratum], return_index=True, return_counts=True)
    rounds = -(-count // len(sizes))
    words = random_words(*key, 4, count=rounds * len(sizes)).reshape(rounds, len(sizes))
    stratum = np.argsort(words, axis=1, kind="stable").ravel()[:count]
    repeats, rank = np.divmod(np.arange(count) // len(sizes), sizes[stratum])
    return by_stratum[starts[stratum] + rank], repeats


def streamed_permutation(
    seed: int, fold: int, member: int, epoch: int, chunk: np.ndarray, shard: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Order in which an epoch visits galaxies that are read from disk in whole chunks.

    The chunks are divided into groups of at least `GROUP_CHUNKS`, if there are so many, and the galaxies of each group
    are shuffled. The chunks of a group are of as many shards as possible, because a shard is a region of the sky.

    Parameters
    ----------
    seed, fold, member, epoch : int
        Key of the order.
    chunk, shard : ndarray
        (n,) int64, index of the chunk and of the shard of each galaxy.

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
    rank = np.empty(len(chunks), dtype=np.int64)  # of a chunk within its shard
    rank[by_shard] = np.arange(len(chunks)) - starts
    position = np.empty(len(chunks), dtype=np.int64)
    position[np.lexsort((words, rank))] = np.arange(
        len(chunks)
    )  # the first chunk of each shard, then the second of each
    groups = max(len(chunks) // GROUP_CHUNKS, 1)
    group = (position * groups // len(chunks))[of_galaxy]
    order = np.lexsort((random_words(seed, fold, member, epoch, 0, count=len(chunk)), group))
    return order, np.searchsorted(group[order], np.arange(groups + 1))


class Sequence:
    """The sequence of training galaxies over all epochs, divided into batches of equal size.

    A batch at the end of an epoch is filled with the first galaxies of the next.

    Parameters
    ----------
    count : int
        Number of training galaxies.
    batch : int
        Number of galaxies in a batch.
    seed, fold, member : int
        Key of the order.
    augment : bool
        Whether to draw symmetries; otherwise all are 0.
    words : bool
        Whether to draw a word of 60 bits for each visit of a galaxy as well.
    chunks : tuple of ndarray, optional
        Indices of the chunk and of the shard of each galaxy, if they are read in whole chunks (`streamed_permutation`).
    strata : ndarray, optional
        (count,) int64, stratum of each galaxy for class-balanced sampling (`class_balanced`); not with `chunks`.
    """

    def __init__(
        self, count: int, batch: int, seed: int, fold: int, member: int, augment: bool = True, chunks=None, strata=None,
        words: bool = False,
    ):  # fmt: skip
        self.count, self.size, self.key, self.augment, self.chunks = count, batch, (seed, fold, member), augment, chunks
        self.strata, self.words = strata, words
        self._drawn: dict[int, Future] = {}
        self._lock, self._pool = Lock(), ThreadPoolExecutor(1)

    def steps(self, epochs: int) -> int:
        """Number of steps that complete `epochs` epochs."""
        return -(-epochs * self.count // self.size)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Galaxies (batch,) and their draws (batch,), int64, of a step: symmetry + 8 x word, or the symmetry alone."""
        positions = np.arange(step * self.size, (step + 1) * self.size)
        epochs, within = np.divmod(positions, self.count)
        galaxies, symmetry = np.empty_like(positions), np.zeros_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            order, _, drawn = self._epoch(int(epoch))
            galaxies[here] = order[within[here]]
            symmetry[here] = drawn[within[here]]
        return galaxies, symmetry

    def groups(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Groups of chunks (`streamed_permutation`) that the steps from `first` to before `last` need.

        Yields
        ------
        end : int
            Position in the sequence where the group ends.
        galaxies : ndarray
            Galaxies of the group that these steps visit, in order.
        """
        start, stop = first * self.size, last * self.size
        for epoch in range(start // self.count, -(-stop // self.count)):
            order, bounds, _ = self._epoch(epoch)
            for begin, end in pairwise(bounds.tolist()):
                begin, end = (min(max(position, start - epoch * self.count), stop - epoch * self.count)
                              for position in (begin, end))  # fmt: skip
                if begin < end:
                    yield epoch * self.count + end, order[begin:end]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Order, bounds of groups, and draws in that order, of an epoch; the next epoch is drawn in a thread."""
        with self._lock:
            for wanted in (epoch, epoch + 1):
                if wanted not in self._drawn:
                    self._drawn[wanted] = self._pool.submit(self._draw, wanted)
            self._drawn = {drawn: value for drawn, value in self._drawn.items() if abs(drawn - epoch) <= 2}
            drawn = self._drawn[epoch]
        return drawn.result()

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        drawn = symmetries(*self.key, epoch, self.count) if self.augment else np.zeros(self.count, dtype=np.int64)
        bounds, repeats = np.array([0, self.count]), 0
        if self.strata is not None:
            order, repeats = class_balanced(*self.key, epoch, self.strata)
        elif self.chunks is not None:
            order, bounds = streamed_permutation(*self.key, epoch, *self.chunks)
        else:
            order = permutation(*self.key, epoch, self.count)
        drawn = (drawn[order] + repeats) % SYMMETRIES if self.augment else drawn
        if self.words:
            words = random_words(*self.key, epoch, 5, count=self.count) >> np.uint64(4)
            drawn = drawn + SYMMETRIES * words.astype(np.int64)
        return order, bounds, drawn
