"""Training examples: cubes, E(B-V) and redshift bins of galaxies."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sdss_photoz.device import on_gpu
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.stretch import stretch, typical_noise
from sdss_photoz.inputs.symmetry import symmetry_table
from sdss_photoz.progress import progress
from sdss_photoz.scores.grid import Grid
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.training.data.order import Sequence
from sdss_photoz.training.data.residence import Pinned, Resident, Streamed
from sdss_photoz.training.resources import PIECE

if TYPE_CHECKING:
    import pandas as pd

FLOAT16_MAX = 65_504.0  # nanomaggies: larger flux overflows float16
CACHED = 64  # galaxies that are stretched at once, so that their cubes stay in the processor's cache

_log = logging.getLogger(__name__)


def bin_of(z, bins: int, outside: str = "refuse") -> np.ndarray:
    """Redshift bin (n,) int64 of each redshift: bin k holds k 0.4/bins <= z < (k + 1) 0.4/bins, the last also z = 0.4.

    Parameters
    ----------
    z : array_like
        (n,) redshifts.
    bins : int
        Number of bins.
    outside : {"refuse", "clip"}
        Redshifts outside 0..0.4 raise an error, or are put into the first or last bin, with a log message.

    Raises
    ------
    UserError
        If a redshift is refused or NaN.
    """
    z, grid = np.asarray(z, dtype=np.float64), Grid(bins=bins)
    outliers = ~grid.holds(z)
    if outliers.any():
        found = f"{outliers.sum()} of {len(z)} redshifts are outside the bins' range {grid.low:g}..{grid.high:g}"
        if outside == "refuse" or np.isnan(z).any():
            remedy = "lower sample.z_max, correct the catalogue, or set training.outside_bins to clip"
            if outside == "clip":
                remedy = "correct the catalogue, for what is no number cannot be clipped"
            raise UserError(f"{found} (the first is {z[outliers][0]:g}): {remedy}.")
        _log.warning("%s: they count in the first or the last bin", found)
    return grid.bin_of(z)


def entropy(labels: np.ndarray) -> float:
    """Entropy (nat) of the histogram of labels: the cross-entropy of the prior."""
    fraction = np.bincount(labels) / len(labels)
    fraction = fraction[fraction > 0]
    return float(-(fraction * np.log(fraction)).sum())


@dataclass
class Examples:
    """Galaxies with their cubes, in the device's memory, the host's, or on disk.

    Attributes
    ----------
    object_id : ndarray
        (n,) int64.
    cubes : Resident, Pinned or Streamed
        Cubes without augmentation: stretched float32 in a CPU's memory, otherwise nanomaggies in float16.
    z : ndarray
        (n,) float64, spectroscopic redshift.
    ebv : Tensor
        (n,) float32, mag, on the device.
    labels : Tensor
        (n,) int64, redshift bins, on the device.
    stretch : str
        Stretch to apply to the flux of a batch.
    digest : str
        SHA-256 of all that the batches depend on.
    grid : PixelGrid
        Pixels and bands of the cubes.
    """

    object_id: np.ndarray
    cubes: Resident | Pinned | Streamed
    z: np.ndarray
    ebv: Tensor
    labels: Tensor
    stretch: str
    digest: str
    grid: PixelGrid = CUBE

    def __post_init__(self):
        self.device = self.labels.device
        self._symmetries = torch.from_numpy(symmetry_table(self.grid.size)).to(self.device)
        self._noise = typical_noise(self.grid, self.device)

    def __len__(self) -> int:
        return len(self.object_id)

    def batch(self, index: Tensor, symmetry: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Cubes (b, y, x, band), stretched and augmented, E(B-V) (b,) and labels (b,) of the galaxies `index`."""
        return self._read(*self.cubes.take(index), index, symmetry)

    def inputs(self, sequence: Sequence, first: int, last: int) -> Iterator[tuple[Tensor, ...]]:
        """Inputs of `read` in the steps of a sequence from `first` to before `last`, prefetched.

        Yields
        ------
        index : Tensor
            Galaxies and symmetries (2, b), int64, in host memory, page-locked for a GPU.
        table : Tensor
            Cubes of the batch on the device, valid until the next step; absent if all cubes are resident there.
        """
        for galaxies, symmetry, table, positions in self.cubes.batches(sequence, first, last):
            index = torch.from_numpy(np.stack([galaxies, symmetry]))
            index = index.pin_memory() if on_gpu(self.device) else index
            yield (index,) if positions is None else (index, table)

    def read(
        self,
        index: Tensor,
        table: Tensor | None = None,
        *,
        augment: bool = True,
        bands: int = 0,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cubes (b, y, x, band), stretched and augmented, E(B-V) (b,) and labels (b,) of a batch.

        No value is read back from the device, so that the operations can be captured in a CUDA graph.

        Parameters
        ----------
        index, table : Tensor
            As from `inputs`, on the device.
        augment : bool
            Whether to apply the symmetries; otherwise they are taken to be 0.
        bands : int
            Number of bands to return at least: those beyond the cubes' are 0.
        dtype : torch.dtype, optional
            Dtype of the cubes; default: that of `stretch`.
        """
        galaxies, symmetry = index
        positions = galaxies if table is None else torch.arange(len(galaxies), device=table.device)
        table = self.cubes.cubes if table is None else table
        cubes, ebv, labels = self._read(table, positions, galaxies, symmetry if augment else None)
        cubes = cubes.to(dtype or cubes.dtype)
        if bands > len(self.grid.bands):
            cubes = F.pad(cubes, (0, bands - len(self.grid.bands)))
        return cubes, ebv, labels

    def _read(self, table: Tensor, positions: Tensor, index: Tensor, symmetry: Tensor | None):
        if symmetry is None:
            cubes = table.index_select(0, positions)
        else:
            pixels = positions[:, None] * self.grid.size**2 + self._symmetries.index_select(0, symmetry)
            cubes = table.view(-1, len(self.grid.bands)).index_select(0, pixels.view(-1))
        cubes = cubes.view(len(index), *self.grid.shape)
        ebv, labels = (column.index_select(0, index) for column in (self.ebv, self.labels))
        return stretch(cubes, self.stretch, self._noise), ebv, labels


@dataclass
class Catalogue:
    """Checked columns of a table of galaxies: object_id (int64), z (float64), ebv (float32, mag), labels (int64)."""

    object_id: np.ndarray
    z: np.ndarray
    ebv: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, galaxies: "pd.DataFrame", bins: int, outside: str = "refuse") -> "Catalogue":
        """From a table with columns object_id, z_spec and ebv; `bins` and `outside` as for `bin_of`."""
        object_id = galaxies["object_id"].to_numpy(np.int64)
        z, ebv = galaxies["z_spec"].to_numpy(np.float64), galaxies["ebv"].to_numpy(np.float32, copy=True)
        refuse(object_id, ~np.isfinite(ebv), "E(B-V) is not a number", "correct the catalogue's column ebv")
        return cls(object_id, z, ebv, bin_of(z, bins, outside))

    def digest(self):
        """A SHA-256 object of the catalogue, to be updated with the cubes."""
        return hashlib.sha256(b"".join(array.tobytes() for array in (self.object_id, self.z, self.ebv)))

    def examples(self, cubes, stretch: str, digest: str, device: torch.device, grid: PixelGrid = CUBE) -> Examples:
        """Examples with these cubes; E(B-V) and labels are copied to the device. Parameters as of `Examples`."""
        ebv, labels = (torch.from_numpy(column).to(device) for column in (self.ebv, self.labels))
        return Examples(self.object_id, cubes, self.z, ebv, labels, stretch, digest, grid)


def gather(
    galaxies: "pd.DataFrame",
    cubes: Iterable[np.ndarray],
    bins: int,
    kind: str,
    device: torch.device,
    outside: str = "refuse",
    grid: PixelGrid = CUBE,
) -> Examples:
    """Examples with all cubes on the device: stretched float32 on a CPU, float16 nanomaggies on a GPU.

    Parameters
    ----------
    galaxies : DataFrame
        With columns object_id, ebv and z_spec.
    cubes : iterable of ndarray
        Pieces (k, y, x, band) float32, nanomaggies, in the order of the galaxies.
    bins, outside : int, str
        As for `bin_of`.
    kind : str
        Stretch of the flux.
    device : torch.device
        Device of the examples.
    grid : PixelGrid
        Pixels and bands of the cubes.

    Raises
    ------
    UserError
        If a value of a cube is not finite or overflows float16, or E(B-V) or a redshift is missing.
    """
    catalogue = Catalogue.of(galaxies, bins, outside)
    as_float16 = on_gpu(device)
    shape, noise = (len(galaxies), grid.size**2, len(grid.bands)), typical_noise(grid)
    resident = torch.empty(shape, dtype=torch.float16 if as_float16 else torch.float32, device=device)
    digest = catalogue.digest()
    start = 0
    for piece in progress(cubes, total=-(-len(galaxies) // PIECE), unit="piece", label="reading cubes"):
        check_flux(catalogue.object_id[start : start + len(piece)], piece, as_float16=as_float16)
        digest.update(piece.tobytes())
        flux = torch.from_numpy(piece)
        for galaxy in range(0, len(piece), CACHED):
            block = flux[galaxy : galaxy + CACHED]
            block = block if as_float16 else stretch(block, kind, noise)
            block = block.reshape(len(block), -1, len(grid.bands))
            resident[start + galaxy : start + galaxy + len(block)] = block.to(device)
        start += len(piece)
    return catalogue.examples(Resident(resident), kind if as_float16 else "none", digest.hexdigest(), device, grid)


def check_flux(object_id: np.ndarray, flux: np.ndarray, as_float16: bool) -> None:
    """Raise a `UserError` if cubes (n, y, x, band) have values that are not finite, or too large for float16."""
    bad = ~np.isfinite(flux).all(axis=(1, 2, 3))
    refuse(object_id, bad, "pixels are not numbers", "delete their chunks of cubes.zarr and rerun")
    if as_float16:
        large = np.abs(flux) > FLOAT16_MAX
        what = f"{large.sum()} pixels exceed 65,504 nanomaggies, the largest number of float16"
        refuse(object_id, large.any(axis=(1, 2, 3)), what, "drop them from the sample")


def refuse(object_id: np.ndarray, bad: np.ndarray, what: str, remedy: str) -> None:
    """Raise a `UserError` that names at most five of the galaxies that are `bad` (n,) bool, if there are any."""
    if bad.any():
        named = ", ".join(map(str, object_id[bad][:5])) + (" …" if bad.sum() > 5 else "")
        raise UserError(f"no network can use object_id {named}, whose {what}: {remedy}.")
