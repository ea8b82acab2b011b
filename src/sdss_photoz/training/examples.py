"""Galaxies as a network trains on them: cubes, reddening, redshift bins."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS, CUBE_SIZE
from sdss_photoz.training.device import on_gpu
from sdss_photoz.training.order import Sequence, symmetry_table
from sdss_photoz.training.residence import PIXELS, Pinned, Resident, Streamed
from sdss_photoz.training.stretch import NOISE, stretch

if TYPE_CHECKING:
    import pandas as pd

Z_MAX = 0.4  # upper edge of the last redshift bin
FLOAT16_MAX = 65_504.0  # nanomaggies: larger flux overflows float16
PIECE = 1024  # galaxies read at once: 84 MB


def bin_of(z, bins: int, outside: str = "refuse") -> np.ndarray:
    """Redshift bin (n,) int64 of each redshift: bin k holds k 0.4/bins <= z < (k + 1) 0.4/bins, the last also z = 0.4.

    Parameters
    ----------
    z : array_like
        (n,) redshifts.
    bins : int
        Number of bins.
    outside : {"refuse", "clip"}
        What becomes of redshifts outside 0..0.4: refused, or counted in the first or last bin, said in one line.

    Raises
    ------
    UserError
        Where a redshift is refused or not a number.
    """
    z = np.asarray(z, dtype=np.float64)
    beyond = ~((z >= 0) & (z <= Z_MAX))
    if beyond.any():
        found = f"{beyond.sum()} of {len(z)} redshifts are outside the bins' range 0..{Z_MAX}"
        if outside == "refuse" or np.isnan(z).any():
            remedy = "lower sample.z_max, correct the catalogue, or set training.outside_bins to clip"
            if outside == "clip":
                remedy = "correct the catalogue, for what is no number cannot be clipped"
            raise UserError(f"{found} (the first is {z[beyond][0]:g}): {remedy}.")
        print(f"{found}: they count in the first or the last bin", file=sys.stderr)
    return np.minimum((z.clip(0, Z_MAX) / (Z_MAX / bins)).astype(np.int64), bins - 1)


def entropy(labels: np.ndarray) -> float:
    """Entropy (nat) of the histogram of labels: the loss of a network that knows the prior alone."""
    share = np.bincount(labels) / len(labels)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


@dataclass
class Examples:
    """Galaxies with their cubes, wherever these stay.

    Attributes
    ----------
    object_id : ndarray
        (n,) int64.
    cubes : Resident, Pinned or Streamed
        Cubes, ready to be turned: stretched float32 in a CPU's memory, otherwise nanomaggies in float16.
    z : ndarray
        (n,) float64, spectroscopic redshift.
    ebv : Tensor
        (n,) float32, mag, on the device.
    labels : Tensor
        (n,) int64, redshift bins, on the device.
    stretch : str
        What remains to be done to the flux of a batch.
    digest : str
        SHA-256 of all that decides the batches.
    """

    object_id: np.ndarray
    cubes: Resident | Pinned | Streamed
    z: np.ndarray
    ebv: Tensor
    labels: Tensor
    stretch: str
    digest: str

    def __post_init__(self):
        self.device = self.labels.device
        self._turn = torch.from_numpy(symmetry_table(CUBE_SIZE)).to(self.device)
        self._noise = torch.tensor(NOISE, device=self.device)

    def __len__(self) -> int:
        return len(self.object_id)

    def batch(self, index: Tensor, symmetry: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Cubes (b, 64, 64, 5), stretched and turned, E(B-V) (b,) and labels (b,) of some galaxies."""
        return self._read(*self.cubes.take(index), index, symmetry)

    def inputs(self, sequence: Sequence, first: int, last: int) -> Iterator[tuple[Tensor, ...]]:
        """What `read` takes in the steps of a sequence from `first` to before `last`; copies run ahead of their use.

        Yields
        ------
        index : Tensor
            Galaxies and symmetries (2, b), int64, in the machine's memory, page-locked for a GPU.
        table : Tensor
            Cubes of the batch on the device, good until the next step; absent where all cubes stay there.
        """
        for galaxies, turns, table, places in self.cubes.in_turn(sequence, first, last):
            index = torch.from_numpy(np.stack([galaxies, turns]))
            index = index.pin_memory() if on_gpu(self.device) else index
            yield (index,) if places is None else (index, table)

    def read(
        self, index: Tensor, table: Tensor | None = None, *, augment: bool = True, bands: int = len(BANDS), dtype=None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cubes (b, 64, 64, bands), stretched and turned, E(B-V) (b,) and labels (b,) of `inputs` on the device.

        It waits for nothing and looks at no value, so that a GPU can do it in one pass of a step that is replayed.

        Parameters
        ----------
        index, table : Tensor
            See `inputs`.
        augment : bool
            Whether the symmetries differ from 0.
        bands : int
            Bands of the cubes; those beyond the five are 0.
        dtype : torch.dtype, optional
            Of the cubes; default: as of `stretch`.
        """
        galaxies, turns = index
        places = galaxies if table is None else torch.arange(len(galaxies), device=table.device)
        table = self.cubes.cubes if table is None else table
        cubes, ebv, labels = self._read(table, places, galaxies, turns if augment else None)
        cubes = cubes.to(dtype or cubes.dtype)
        if bands > len(BANDS):
            cubes = F.pad(cubes, (0, bands - len(BANDS)))
        return cubes, ebv, labels

    def _read(self, table: Tensor, places: Tensor, index: Tensor, symmetry: Tensor | None):
        if symmetry is None:
            cubes = table.index_select(0, places)
        else:
            pixels = places[:, None] * PIXELS + self._turn.index_select(0, symmetry)
            cubes = table.view(-1, len(BANDS)).index_select(0, pixels.view(-1))
        cubes = cubes.view(len(index), CUBE_SIZE, CUBE_SIZE, len(BANDS))
        ebv, labels = (column.index_select(0, index) for column in (self.ebv, self.labels))
        return stretch(cubes, self.stretch, self._noise), ebv, labels


@dataclass
class Catalogue:
    """What the tables tell of galaxies, checked: object_id (int64), z (float64), ebv (float32), labels (int64)."""

    object_id: np.ndarray
    z: np.ndarray
    ebv: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, galaxies: "pd.DataFrame", bins: int, outside: str = "refuse") -> "Catalogue":
        """From a table with columns object_id, z_spec and ebv; `bins` and `outside` as of `bin_of`."""
        object_id = galaxies["object_id"].to_numpy(np.int64)
        z, ebv = galaxies["z_spec"].to_numpy(np.float64), galaxies["ebv"].to_numpy(np.float32, copy=True)
        refuse(object_id, ~np.isfinite(ebv), "E(B-V) is not a number", "correct the catalogue's column ebv")
        return cls(object_id, z, ebv, bin_of(z, bins, outside))

    def digest(self):
        """A SHA-256 under way, to which the cubes are to be added."""
        return hashlib.sha256(b"".join(array.tobytes() for array in (self.object_id, self.z, self.ebv)))

    def examples(self, cubes, stretch: str, digest: str, device: torch.device) -> Examples:
        """Put all but the cubes on the device."""
        ebv, labels = (torch.from_numpy(column).to(device) for column in (self.ebv, self.labels))
        return Examples(self.object_id, cubes, self.z, ebv, labels, stretch, digest)


def gather(
    galaxies: "pd.DataFrame",
    cubes: Iterable[np.ndarray],
    bins: int,
    kind: str,
    device: torch.device,
    outside: str = "refuse",
) -> Examples:
    """Put cubes on the device: float32, stretched at once, on a CPU; float16 on a GPU.

    Parameters
    ----------
    galaxies : DataFrame
        With columns object_id, ebv and z_spec.
    cubes : iterable of ndarray
        Pieces (k, 64, 64, 5) float32, nanomaggies, in the galaxies' order.
    bins, outside : int, str
        As of `bin_of`.
    kind : str
        Stretch of the flux.
    device : torch.device
        Where the cubes stay.

    Raises
    ------
    UserError
        Where a value of a cube is not finite or overflows, or a galaxy lacks E(B-V) or a redshift.
    """
    catalogue = Catalogue.of(galaxies, bins, outside)
    as_float16 = on_gpu(device)
    resident = torch.empty(
        len(galaxies), PIXELS, len(BANDS), dtype=torch.float16 if as_float16 else torch.float32, device=device
    )
    digest = catalogue.digest()
    start = 0
    for piece in progress(cubes, total=-(-len(galaxies) // PIECE), unit="piece", label="reading cubes"):
        check_flux(catalogue.object_id[start : start + len(piece)], piece, as_float16=as_float16)
        digest.update(piece.tobytes())
        flux = torch.from_numpy(piece)
        for galaxy in range(0, len(piece), 64):  # small pieces stay in the processor's cache
            some = flux[galaxy : galaxy + 64]
            some = some if as_float16 else stretch(some, kind)
            resident[start + galaxy : start + galaxy + len(some)] = some.reshape(len(some), -1, len(BANDS)).to(device)
        start += len(piece)
    return catalogue.examples(Resident(resident), kind if as_float16 else "none", digest.hexdigest(), device)


def check_flux(object_id: np.ndarray, flux: np.ndarray, as_float16: bool) -> None:
    """Refuse cubes (n, 64, 64, 5) with values that are no finite numbers, or too large for float16."""
    bad = ~np.isfinite(flux).all(axis=(1, 2, 3))
    refuse(object_id, bad, "pixels are not numbers", "delete their chunks of cubes.zarr and rerun")
    if as_float16:
        large = np.abs(flux) > FLOAT16_MAX
        what = f"{large.sum()} pixels exceed 65,504 nanomaggies, the largest number of float16"
        refuse(object_id, large.any(axis=(1, 2, 3)), what, "drop them from the sample")


def refuse(object_id: np.ndarray, bad: np.ndarray, what: str, remedy: str) -> None:
    """Name the galaxies that are bad, at most five of them."""
    if bad.any():
        named = ", ".join(map(str, object_id[bad][:5])) + (" …" if bad.sum() > 5 else "")
        raise UserError(f"no network can use object_id {named}, whose {what}: {remedy}.")
