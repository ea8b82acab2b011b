"""Training examples: images, numbers and labels of galaxies."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sdss_photoz.device import on_gpu
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.inputs.symmetry import SYMMETRIES
from sdss_photoz.progress import progress
from sdss_photoz.refusal import refuse
from sdss_photoz.targets.head import Head
from sdss_photoz.training.data.order import Sequence
from sdss_photoz.training.data.residence import Pinned, Resident, Streamed
from sdss_photoz.training.resources import PIECE

if TYPE_CHECKING:
    import pandas as pd

FLOAT16_MAX = 65_504.0  # nanomaggies: larger flux overflows float16
CACHED = 64  # galaxies whose images are made at once, so that their cubes stay in the processor's cache


@dataclass
class Examples:
    """Galaxies with their cubes, in the device's memory, the host's, or on disk.

    Attributes
    ----------
    object_id : ndarray
        (n,) int64.
    cubes : Resident, Pinned or Streamed
        Cubes without augmentation: stretched float32 in a CPU's memory, otherwise nanomaggies in float16.
    values : ndarray
        (n,) float64, what is predicted: by default the spectroscopic redshift.
    numbers : Tensor
        (n, k) float32, the inputs' numbers, on the device.
    labels : Tensor
        (n,), the values as the head encodes them, on the device.
    inputs : Inputs
        What a network reads of them.
    head : Head
        What it predicts.
    images : bool
        Whether `cubes` holds images instead of cubes.
    digest : str
        SHA-256 of all that the batches depend on.
    """

    object_id: np.ndarray
    cubes: Resident | Pinned | Streamed
    values: np.ndarray
    numbers: Tensor
    labels: Tensor
    inputs: Inputs
    head: Head
    images: bool
    digest: str

    def __post_init__(self):
        self.device = self.labels.device
        kinds = ["image"] if self.images else ["part", "cube"] if self.inputs.augmentation.moves else ["part"]
        self._pixels = {kind: torch.from_numpy(self.inputs.pixels(kind)).to(self.device) for kind in kinds}
        self._bands = None
        if not self.images and self.inputs.bands is not None:
            self._bands = torch.from_numpy(self.inputs.band_index).to(self.device)
        self._noise = torch.tensor(self.inputs.noise, device=self.device)

    def __len__(self) -> int:
        return len(self.object_id)

    def batch(self, index: Tensor, symmetry: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Images (b, y, x, channel), after a symmetry, numbers (b, k) and labels (b,) of the galaxies `index`."""
        return self._read(*self.cubes.take(index), index, symmetry)

    def batches(self, sequence: Sequence, first: int, last: int) -> Iterator[tuple[Tensor, ...]]:
        """Inputs of `read` in the steps of a sequence from `first` to before `last`, prefetched.

        Yields
        ------
        index : Tensor
            Galaxies and their draws (2, b), int64, in host memory, page-locked for a GPU.
        table : Tensor
            Cubes of the batch on the device, valid until the next step; absent if all cubes are resident there.
        """
        for galaxies, draws, table, positions in self.cubes.batches(sequence, first, last):
            index = torch.from_numpy(np.stack([galaxies, draws]))
            index = index.pin_memory() if on_gpu(self.device) else index
            yield (index,) if positions is None else (index, table)

    def read(
        self,
        index: Tensor,
        table: Tensor | None = None,
        *,
        augment: bool = True,
        channels: int = 0,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Images (b, y, x, channel), augmented, numbers (b, k) and labels (b,) of a batch.

        No value is read back from the device, so that the operations can be captured in a CUDA graph.

        Parameters
        ----------
        index, table : Tensor
            As from `batches`, on the device.
        augment : bool
            Whether to apply the symmetries; otherwise they are taken to be 0.
        channels : int
            Number of channels to return at least: those beyond the image's are 0.
        dtype : torch.dtype, optional
            Dtype of the images; default: float32.
        """
        galaxies, draws = index
        symmetry, words = draws, None
        if self.inputs.augmentation.words:
            symmetry, words = draws % SYMMETRIES, draws // SYMMETRIES
        positions = galaxies if table is None else torch.arange(len(galaxies), device=table.device)
        table = self.cubes.cubes if table is None else table
        images, numbers, labels = self._read(table, positions, galaxies, symmetry if augment else None, words)
        images = images.to(dtype or images.dtype)
        if channels > images.shape[-1]:
            images = F.pad(images, (0, channels - images.shape[-1]))
        return images, numbers, labels

    def _read(
        self, table: Tensor, positions: Tensor, index: Tensor, symmetry: Tensor | None, words: Tensor | None = None
    ):
        inputs, augmentation = self.inputs, self.inputs.augmentation
        numbers, labels = (column.index_select(0, index) for column in (self.numbers, self.labels))
        pixels, depth = table.shape[1:]
        moved = words is not None and augmentation.moves
        chosen = self._pixels["image" if self.images else "cube" if moved else "part"]
        side = math.isqrt(chosen.shape[1])
        if symmetry is None and side**2 == pixels:
            read = table.index_select(0, positions)
        else:
            chosen = chosen[:1] if symmetry is None else chosen.index_select(0, symmetry)
            chosen = positions[:, None] * pixels + chosen
            read = table.view(-1, depth).index_select(0, chosen.view(-1))
        read = read.view(len(index), side, side, depth)
        if self.images:
            return read.float(), numbers, labels
        read = read if self._bands is None else read.index_select(3, self._bands)
        read = augmentation.moved(read, words, inputs.grid.size * inputs.rebin) if moved else read
        return inputs.images(read, self._noise, words), numbers, labels


@dataclass
class Catalogue:
    """Checked columns of a table of galaxies: object_id (int64), values (float64), numbers (float32, (n, k))."""

    object_id: np.ndarray
    values: np.ndarray
    numbers: np.ndarray
    inputs: Inputs
    head: Head

    @classmethod
    def of(cls, galaxies: "pd.DataFrame", inputs: Inputs, head: Head) -> "Catalogue":
        """From a table with a column object_id, and those of the inputs' numbers and of the head's label."""
        object_id = galaxies["object_id"].to_numpy(np.int64)
        return cls(object_id, head.label.of(galaxies), inputs.rows(galaxies), inputs, head)

    def digest(self):
        """A SHA-256 object of the catalogue, to be updated with the cubes."""
        return hashlib.sha256(b"".join(array.tobytes() for array in (self.object_id, self.values, self.numbers)))

    def examples(self, cubes, images: bool, digest: str, device: torch.device) -> Examples:
        """Examples with these cubes; numbers and labels are copied to the device. Parameters as of `Examples`."""
        numbers, labels = torch.from_numpy(self.numbers).to(device), self.head.encode(self.values).to(device)
        return Examples(self.object_id, cubes, self.values, numbers, labels, self.inputs, self.head, images, digest)


def gather(
    galaxies: "pd.DataFrame", cubes: Iterable[np.ndarray], inputs: Inputs, head: Head, device: torch.device
) -> Examples:
    """Examples with all cubes on the device: float16 nanomaggies on a GPU; on a CPU, in float32, the images.

    Images that are not `Inputs.static` are made of each batch, also on a CPU, which then keeps the cubes.

    Parameters
    ----------
    galaxies : DataFrame
        With a column object_id, and those of the inputs' numbers and of the head's label.
    cubes : iterable of ndarray
        Pieces (k, y, x, band) float32, nanomaggies, NaN without coverage, in the order of the galaxies.
    inputs : Inputs
        What a network reads of them, its numbers fitted.
    head : Head
        What it predicts.
    device : torch.device
        Device of the examples.

    Raises
    ------
    UserError
        If a value of a cube is infinite or overflows float16, or a number or a label is missing.
    """
    catalogue = Catalogue.of(galaxies, inputs, head)
    as_float16, as_images = on_gpu(device), not on_gpu(device) and inputs.static
    side, side, depth = inputs.shape if as_images else inputs.cubes.shape
    kept = side**2, depth
    resident = torch.empty(len(galaxies), *kept, dtype=torch.float16 if as_float16 else torch.float32, device=device)
    digest = catalogue.digest()
    start = 0
    for piece in progress(cubes, total=-(-len(galaxies) // PIECE), unit="piece", label="reading cubes"):
        check_flux(galaxies.iloc[start : start + len(piece)], piece, as_float16=as_float16)
        digest.update(piece.tobytes())
        flux = torch.from_numpy(piece)
        for galaxy in range(0, len(piece), CACHED):
            block = flux[galaxy : galaxy + CACHED]
            block = inputs.images(inputs.cut(block)) if as_images else block
            resident[start + galaxy : start + galaxy + len(block)] = block.reshape(len(block), *kept).to(device)
        start += len(piece)
    return catalogue.examples(Resident(resident), as_images, digest.hexdigest(), device)


def check_flux(galaxies: "pd.DataFrame", flux: np.ndarray, as_float16: bool) -> None:
    """Raise a `UserError` if cubes (n, y, x, band) of galaxies have values that are infinite, or too large."""
    bad = np.isinf(flux).any(axis=(1, 2, 3))
    refuse(galaxies, bad, "pixels are infinite", "delete their chunks of cubes.zarr and rerun")
    if as_float16:
        large = np.abs(flux) > FLOAT16_MAX
        what = f"{large.sum()} pixels exceed 65,504 nanomaggies, the largest number of float16"
        refuse(galaxies, large.any(axis=(1, 2, 3)), what, "drop them from the sample")
