"""Order of galaxies and their symmetries: pure functions of (seed, fold, member, epoch), the same on every device."""

import numpy as np

SYMMETRIES = 8


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
    """

    def __init__(self, count: int, batch: int, seed: int, fold: int, member: int, augment: bool = True):
        self.count, self.size, self.key, self.augment = count, batch, (seed, fold, member), augment
        self._epochs: dict[int, tuple[np.ndarray, np.ndarray]] = {}

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
            order, symmetry = self._epoch(int(epoch))
            galaxies[here] = order[within[here]]
            turns[here] = symmetry[galaxies[here]]
        return galaxies, turns

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        if epoch not in self._epochs:
            draw = symmetries(*self.key, epoch, self.count) if self.augment else np.zeros(self.count, dtype=np.int64)
            self._epochs = {e: drawn for e, drawn in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = permutation(*self.key, epoch, self.count), draw
        return self._epochs[epoch]
