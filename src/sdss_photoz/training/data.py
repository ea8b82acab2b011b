"""The galaxies of a job: which take part, and their cubes, resident on the device."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sdss_photoz.cubes.store import load_cubes, load_depth, selection_digest
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS, CUBE_SIZE
from sdss_photoz.training.order import symmetry_table
from sdss_photoz.training.stretch import stretch

Z_MAX = 0.4  # upper edge of the last redshift bin
FLOAT16_MAX = 65_504.0  # nanomaggies: larger flux overflows float16
PIECE = 1024  # galaxies read at once: 84 MB


def bin_of(z, bins: int) -> np.ndarray:
    """Redshift bin (n,) int64 of each redshift: bin k holds k 0.4/bins <= z < (k + 1) 0.4/bins, the last also z = 0.4.

    Raises
    ------
    UserError
        Where a redshift is outside 0..0.4 or not a number.
    """
    z = np.asarray(z, dtype=np.float64)
    outside = ~((z >= 0) & (z <= Z_MAX))
    if outside.any():
        raise UserError(
            f"{outside.sum()} of {len(z)} redshifts are outside the bins' range 0..{Z_MAX} (the first is "
            f"{z[outside][0]:g}): lower sample.z_max, or correct the catalogue."
        )
    return np.minimum((z / (Z_MAX / bins)).astype(np.int64), bins - 1)


def entropy(labels: np.ndarray) -> float:
    """Entropy (nat) of the histogram of labels: the loss of a network that knows the prior alone."""
    share = np.bincount(labels) / len(labels)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def complete(store) -> np.ndarray:
    """Which cubes of a store, (galaxy,) bool, have at least one frame in every band; partial coverage counts."""
    return (load_depth(store) > 0).all(axis=1)


def select(galaxies: pd.DataFrame, folds: pd.DataFrame, fold: int, role: str) -> pd.DataFrame:
    """Galaxies that play a role in a fold, ordered by cube row.

    Parameters
    ----------
    galaxies : DataFrame
        sample/galaxies.parquet.
    folds : DataFrame
        sample/folds-<trial>.parquet.
    fold : int
        Index of the fold: its roles are the column role_<fold>.
    role : {"train", "validation", "test"}
        The role.

    Raises
    ------
    UserError
        Where the fold is not in the table.
    """
    column = f"role_{fold}"
    if column not in folds:
        there = [name for name in folds if name.startswith("role_")]
        raise UserError(f"the table of folds has no column {column}, only {', '.join(there)}: rerun assign_folds.")
    chosen = folds.loc[folds[column] == role, "object_id"]
    return galaxies[galaxies["object_id"].isin(chosen)].sort_values("row", ignore_index=True)


def selection(galaxies: pd.DataFrame) -> str:
    """Digest of a table of galaxies, sample/galaxies.parquet: a store of cubes of another selection is refused."""
    chunks = int(galaxies["chunk"].max()) + 1
    return selection_digest(galaxies["object_id"], galaxies["ra"], galaxies["dec"], chunks)


@dataclass
class Examples:
    """Galaxies with their cubes on the device.

    Attributes
    ----------
    object_id : ndarray
        (n,) int64.
    cubes : Tensor
        (n, 64 * 64, 5), ready to be turned: stretched float32 on a CPU, nanomaggies in float16 on a GPU.
    ebv : Tensor
        (n,) float32, mag.
    labels : Tensor
        (n,) int64, redshift bins.
    stretch : str
        What remains to be done to the flux of a batch.
    digest : str
        SHA-256 of all of the above, as they were read.
    """

    object_id: np.ndarray
    cubes: Tensor
    ebv: Tensor
    labels: Tensor
    stretch: str
    digest: str

    def __post_init__(self):
        self._turn = torch.from_numpy(symmetry_table(CUBE_SIZE)).to(self.cubes.device)

    def __len__(self) -> int:
        return len(self.object_id)

    def batch(self, index: Tensor, symmetry: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Cubes (b, 64, 64, 5), stretched and turned, E(B-V) (b,) and labels (b,) of some galaxies."""
        if symmetry is None:
            cubes = self.cubes.index_select(0, index)
        else:
            pixels = index[:, None] * CUBE_SIZE**2 + self._turn[symmetry]
            cubes = self.cubes.view(-1, len(BANDS)).index_select(0, pixels.view(-1))
        cubes = stretch(cubes.view(len(index), CUBE_SIZE, CUBE_SIZE, len(BANDS)), self.stretch)
        return cubes, self.ebv[index], self.labels[index]


def load_examples(
    galaxies: pd.DataFrame, store, bins: int, kind: str, device: torch.device, digest: str | None = None
) -> Examples:
    """Read the cubes of some galaxies once, onto the device.

    Parameters
    ----------
    galaxies : DataFrame
        With columns object_id, row, ebv and z_spec.
    store : str or Path
        The Zarr store.
    bins : int
        Redshift bins.
    kind : str
        Stretch of the flux.
    device : torch.device
        Where the cubes stay.
    digest : str, optional
        Digest of the selection that the galaxies belong to (`selection`).

    Raises
    ------
    UserError
        Where the store belongs to another selection, a cube's value is not finite or overflows, or a galaxy lacks
        E(B-V) or a redshift.
    """
    read = (load_cubes(store, rows, digest) for rows in _pieces(galaxies["row"].to_numpy()))
    return gather(galaxies, read, bins, kind, device)


def gather(galaxies: pd.DataFrame, cubes, bins: int, kind: str, device: torch.device) -> Examples:
    """Put cubes, given in pieces in the galaxies' order, on the device; see `load_examples`."""
    object_id = galaxies["object_id"].to_numpy(np.int64)
    z, ebv = galaxies["z_spec"].to_numpy(np.float64), galaxies["ebv"].to_numpy(np.float32, copy=True)
    _refuse(object_id, ~np.isfinite(ebv), "E(B-V) is not a number", "correct the catalogue's column ebv")
    labels = bin_of(z, bins)
    on_gpu = device.type != "cpu"
    resident = torch.empty(
        len(galaxies), CUBE_SIZE**2, len(BANDS), dtype=torch.float16 if on_gpu else torch.float32, device=device
    )
    digest = hashlib.sha256(b"".join(array.tobytes() for array in (object_id, z, ebv)))
    start = 0
    for piece in progress(cubes, total=len(_pieces(object_id)), unit="piece", label="reading cubes"):
        part = slice(start, start + len(piece))
        bad = ~np.isfinite(piece).all(axis=(1, 2, 3))
        _refuse(object_id[part], bad, "pixels are not numbers", "delete their chunks of cubes.zarr and rerun")
        if on_gpu:
            large = (np.abs(piece) > FLOAT16_MAX).any(axis=(1, 2, 3))
            _refuse(object_id[part], large, "pixels exceed 65,504 nanomaggies", "drop them from the sample")
        digest.update(piece.tobytes())
        flux = torch.from_numpy(piece)
        for galaxy in range(0, len(piece), 64):  # small pieces stay in the processor's cache
            some = flux[galaxy : galaxy + 64]
            some = some if on_gpu else stretch(some, kind)
            resident[start + galaxy : start + galaxy + len(some)] = some.reshape(len(some), -1, len(BANDS)).to(device)
        start = part.stop
    return Examples(
        object_id,
        resident,
        torch.from_numpy(ebv).to(device),
        torch.from_numpy(labels).to(device),
        kind if on_gpu else "none",
        digest.hexdigest(),
    )


def _pieces(values: np.ndarray) -> list[np.ndarray]:
    return [values[start : start + PIECE] for start in range(0, len(values), PIECE)]


def _refuse(object_id: np.ndarray, bad: np.ndarray, what: str, remedy: str) -> None:
    """Name the galaxies that are bad, at most five of them."""
    if bad.any():
        named = ", ".join(map(str, object_id[bad][:5])) + (" …" if bad.sum() > 5 else "")
        raise UserError(f"no network can use object_id {named}, whose {what}: {remedy}.")
