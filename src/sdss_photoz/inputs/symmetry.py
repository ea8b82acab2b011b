"""The eight symmetries of a square image: flips and rotations by 90 degrees."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # `training.resources` is imported without torch
    from torch import Tensor

SYMMETRIES = 8


def symmetry_table(size: int) -> np.ndarray:
    """Index maps of the symmetries: (8, size * size) int64, the flat index of the pixel that moves to each pixel.

    Symmetry s is s % 4 rotations by 90 degrees, after a flip along x if s >= 4; symmetry 0 is the identity.
    """
    pixels = np.arange(size * size).reshape(size, size)
    images = [np.rot90(pixels[:, ::-1] if s >= 4 else pixels, s % 4) for s in range(SYMMETRIES)]
    return np.stack([image.ravel() for image in images])


def transform(cubes: "Tensor", symmetry: int) -> "Tensor":
    """Cubes (n, y, x, band) after a symmetry (0 to 7, see `symmetry_table`)."""
    return (cubes.flip(2) if symmetry >= 4 else cubes).rot90(symmetry % 4, (1, 2))
