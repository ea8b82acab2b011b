"""The galaxies of a job: which take part, and their cubes, read from the run's store."""

import numpy as np
import pandas as pd
import torch

from sdss_photoz.cubes.store import load_depth, open_store, selection_digest
from sdss_photoz.errors import UserError
from sdss_photoz.survey import BANDS
from sdss_photoz.training.controls import load_cubes_for
from sdss_photoz.training.device import on_gpu
from sdss_photoz.training.examples import PIECE, Catalogue, Examples, gather
from sdss_photoz.training.residence import PIXELS, Pinned, Resident, Streamed
from sdss_photoz.training.scratch import float16_copy


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


def load_examples(
    galaxies: pd.DataFrame,
    store,
    bins: int,
    kind: str,
    device: torch.device,
    digest: str | None = None,
    *,
    residence: str = "device",
    scratch=None,
    outside: str = "refuse",
    without_target: bool = False,
) -> Examples:
    """Put the cubes of some galaxies where a training wants them.

    A CPU trains on the store's own float32 numbers, stretched once. A GPU, and a training that streams from disk, use
    the float16 copy in `scratch` and stretch each batch.

    Parameters
    ----------
    galaxies : DataFrame
        With columns object_id, row, ebv and z_spec.
    store : str or Path
        The Zarr store.
    bins, outside : int, str
        Redshift bins, and what becomes of redshifts outside of them (`examples.bin_of`).
    kind : str
        Stretch of the flux.
    device : torch.device
        Where the training runs.
    digest : str, optional
        Digest of the selection that the galaxies belong to (`selection`).
    residence : {"device", "pinned", "streamed"}
        Where the cubes stay (`residence`).
    scratch : str or Path
        Folder of the float16 copy (`scratch.float16_copy`), where one is used.
    without_target : bool
        Whether to take the galaxies themselves out of their cubes (`controls.without_targets`).

    Raises
    ------
    UserError
        Where the store belongs to another selection, a cube's value is not finite or overflows, a galaxy lacks E(B-V)
        or a redshift, or `scratch` has no room.
    """
    rows = galaxies["row"].to_numpy(np.int64, copy=True)  # pandas gives it read-only
    if not on_gpu(device) and residence != "streamed":
        starts = range(0, len(rows), PIECE)
        pieces = (load_cubes_for(store, rows[start : start + PIECE], digest, without_target) for start in starts)
        examples = gather(galaxies, pieces, bins, kind, device, outside)
        if residence == "pinned":
            examples.cubes = Pinned(examples.cubes.cubes, np.arange(len(rows)), device)
        return examples
    catalogue = Catalogue.of(galaxies, bins, outside)
    copy, of_cubes = float16_copy(store, scratch, digest, without_target)
    made_of = catalogue.digest()
    made_of.update(f"{of_cubes} float16 {'streamed' if residence == 'streamed' else ''}".encode() + rows.tobytes())
    if residence == "device":
        cubes = Resident(_to_device(copy, rows, device))
    elif residence == "pinned":
        cubes = Pinned(torch.from_numpy(copy), rows, device)
    else:
        flux = open_store(store)["flux"]
        cubes = Streamed(copy.filename, copy.offset, rows, flux.chunks[0], flux.shards[0], device)
    return catalogue.examples(cubes, kind, made_of.hexdigest(), device)


def _to_device(copy: np.ndarray, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    cubes = torch.empty(len(rows), PIXELS, len(BANDS), dtype=torch.float16, device=device)
    for start in range(0, len(rows), PIECE):
        piece = slice(start, start + PIECE)
        cubes[piece] = torch.from_numpy(copy[rows[piece]])
    return cubes
