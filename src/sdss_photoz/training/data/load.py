"""The galaxies of a job and their cubes, read from the run's store."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sdss_photoz.cubes.layout import selection_digest
from sdss_photoz.cubes.load import load_depth
from sdss_photoz.cubes.store import open_store
from sdss_photoz.device import on_gpu
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.targets.head import Head
from sdss_photoz.training.data.examples import Catalogue, Examples, gather
from sdss_photoz.training.data.float16 import float16_copy
from sdss_photoz.training.data.negative_controls import load_cubes_for
from sdss_photoz.training.data.residence import Pinned, Resident, Streamed
from sdss_photoz.training.resources import PIECE


def has_all_bands(store: str | Path, inputs: Inputs | None = None) -> np.ndarray:
    """Whether each cube of a store, (galaxy,) bool, has a frame, also of partial coverage, in every band that is read.

    Without `inputs`, in every band of the cubes.
    """
    depth = load_depth(store)
    return ((depth if inputs is None else depth[:, inputs.band_index]) > 0).all(axis=1)


def select(galaxies: pd.DataFrame, folds: pd.DataFrame, fold: int, role: str) -> pd.DataFrame:
    """Galaxies of a role in a fold, in the order of the rows of their cubes.

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
        If the table has no such fold.
    """
    column = f"role_{fold}"
    if column not in folds:
        columns = [name for name in folds if name.startswith("role_")]
        raise UserError(f"the table of folds has no column {column}, only {', '.join(columns)}: rerun assign_folds.")
    chosen = folds.loc[folds[column] == role, "object_id"]
    return galaxies[galaxies["object_id"].isin(chosen)].sort_values("row", ignore_index=True)


def selection(galaxies: pd.DataFrame, grid: PixelGrid = CUBE) -> str:
    """Digest of the selection in sample/galaxies.parquet and the grid, to compare with that of a store of cubes."""
    chunks = int(galaxies["chunk"].max()) + 1
    return selection_digest(galaxies["object_id"], galaxies["ra"], galaxies["dec"], chunks, grid)


def load_examples(
    galaxies: pd.DataFrame,
    store: str | Path,
    inputs: Inputs,
    head: Head,
    device: torch.device,
    digest: str | None = None,
    *,
    residence: str = "device",
    scratch: str | Path | None = None,
    without_target: bool = False,
) -> Examples:
    """Examples of the galaxies, with their cubes in the chosen residence.

    On a CPU a training uses images that are made once, of the float32 cubes of the store. On a GPU, or with cubes
    streamed from disk, it uses the float16 copy in `scratch` and makes the images of each batch.

    Parameters
    ----------
    galaxies : DataFrame
        With columns object_id and row, and those of the inputs' numbers and of the head's label.
    store : str or Path
        The Zarr store.
    inputs : Inputs
        What a network reads of them, its numbers fitted.
    head : Head
        What it predicts.
    device : torch.device
        Device of the training.
    digest : str, optional
        Digest of the selection of galaxies that the store must have (`selection`).
    residence : {"device", "pinned", "streamed"}
        Where the cubes are kept (`residence`).
    scratch : str or Path
        Folder of the float16 copy (`float16.float16_copy`), if one is used.
    without_target : bool
        Whether to remove the central galaxies from their cubes (`negative_controls.without_targets`).

    Raises
    ------
    UserError
        If the store belongs to another selection, a value of a cube is infinite or overflows float16, a number or a
        label is missing, or the disk of `scratch` is full.
    """
    rows = galaxies["row"].to_numpy(np.int64, copy=True)  # pandas gives it read-only
    if not on_gpu(device) and residence != "streamed":
        starts = range(0, len(rows), PIECE)
        pieces = (load_cubes_for(store, rows[start : start + PIECE], digest, without_target) for start in starts)
        examples = gather(galaxies, pieces, inputs, head, device)
        if residence == "pinned":
            examples.cubes = Pinned(examples.cubes.cubes, np.arange(len(rows)), device)
        return examples
    catalogue = Catalogue.of(galaxies, inputs, head)
    copy, cubes_digest = float16_copy(store, scratch, digest, without_target)
    examples_digest = catalogue.digest()
    examples_digest.update(
        f"{cubes_digest} float16 {'streamed' if residence == 'streamed' else ''}".encode() + rows.tobytes()
    )
    if residence == "device":
        cubes = Resident(_to_device(copy, rows, device))
    elif residence == "pinned":
        cubes = Pinned(torch.from_numpy(copy), rows, device)
    else:
        flux = open_store(store)["flux"]
        cubes = Streamed(copy.filename, copy.offset, rows, flux.chunks[0], flux.shards[0], device, inputs.cubes)
    return catalogue.examples(cubes, False, examples_digest.hexdigest(), device)


def _to_device(copy: np.ndarray, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    cubes = torch.empty(len(rows), *copy.shape[1:], dtype=torch.float16, device=device)
    for start in range(0, len(rows), PIECE):
        piece = slice(start, start + PIECE)
        cubes[piece] = torch.from_numpy(copy[rows[piece]])
    return cubes
