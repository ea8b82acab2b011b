"""Read flux and depth of a store of cubes, and refuse shards that are missing, damaged or of another selection."""

import contextlib
import math
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

from sdss_photoz.cubes.jit import cached_njit
from sdss_photoz.cubes.store import chunk_count, chunk_rows, open_store, quality_file, shard_files
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress

UNREADABLE = (ValueError, OSError, IndexError, RuntimeError)  # raised by zarr and its codecs for a damaged shard


def load_cubes(
    path, rows, digest: str | None = None, label: str | None = None, uncovered: float = 0.0
) -> np.ndarray:  # fmt: skip
    """Load cubes.

    Parameters
    ----------
    path : str or Path
        Folder of the store.
    rows : array_like
        (galaxy,) rows of the store, in any order, repeats allowed.
    digest : str, optional
        Digest of the selection that the rows belong to; a store of another selection is refused.
    label : str, optional
        Label of a progress bar; None shows none.
    uncovered : float
        What a pixel holds that no frame covers; NaN in the store.

    Returns
    -------
    ndarray
        (len(rows), y, x, band) float32, nanomaggies.

    Raises
    ------
    UserError
        If the store or a shard is missing, damaged, or of another selection, or a row is outside the store.
    """
    group = open_store(path)
    _check_selection(path, group.attrs["selection"], digest)
    flux = group["flux"]
    rows = np.asarray(rows, dtype=np.int64)
    if rows.size and (rows.min() < 0 or rows.max() >= flux.shape[0]):
        raise UserError(
            f"{path} holds {flux.shape[0]} cubes, but rows {rows.min()} to {rows.max()} were asked for: "
            "the table of galaxies belongs to another run."
        )
    shard, inner = flux.shards[0], flux.chunks[0]
    for chunk in np.unique(rows // shard):
        _check_shard(path, group, int(chunk))
    cubes = np.empty((len(rows), *flux.shape[1:]), np.float32)
    flat = cubes.reshape(len(rows), math.prod(flux.shape[1:]))
    order = np.argsort(rows, kind="stable")
    firsts, starts = np.unique(rows[order] // inner * inner, return_index=True)
    ends = np.append(starts[1:], len(rows))
    for first, start, end in progress(
        zip(firsts.tolist(), starts, ends, strict=False), total=len(firsts), label=label, disable=label is None
    ):
        wanted = order[start:end]
        with _damage_as_user_error(path, shard_files(path, first // shard)[0]):
            block = flux[first : first + inner]
        block = np.ascontiguousarray(block, np.float32).reshape(len(block), -1)
        _copy_nan_as(np.float32(uncovered), block, rows[wanted] - first, flat, wanted)
    return cubes


def load_depth(path) -> np.ndarray:
    """Load the depth of all galaxies: (galaxy, band) uint16, the largest number of frames on any pixel.

    Raises
    ------
    UserError
        If the store or a shard is missing or damaged.
    """
    group = open_store(path)
    depth = np.empty(group["depth"].shape, np.uint16)
    for chunk in range(chunk_count(group)):
        _check_shard(path, group, chunk)
        rows = chunk_rows(group, chunk)
        with _damage_as_user_error(path, shard_files(path, chunk)[1]):
            depth[rows] = group["depth"][rows]
    return depth


@contextlib.contextmanager
def _damage_as_user_error(path, shard: Path):
    """Turn read errors into a `UserError` that names the damaged shard."""
    try:
        yield
    except UNREADABLE as error:
        raise UserError(
            f"{shard} is damaged ({' '.join(str(error).split())[:80]}): sdss-photoz verify {path} names the "
            "command that makes it again."
        ) from None


@cached_njit
def _copy_nan_as(number, block, sources, cubes, targets):
    """Copy rows `sources` of a block to rows `targets` of cubes, NaN as another number, in one pass."""
    for k in range(len(targets)):
        cube = block[sources[k]]
        for pixel in range(cube.size):
            value = cube[pixel]
            cubes[targets[k], pixel] = value if value == value else number


def _check_selection(path, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise UserError(
            f"{path} was made for another selection of galaxies, or other pixels or bands "
            f"(digest {found[:12]}, expected {expected[:12]}): "
            "rerun the stage cubes."
        )


def _check_shard(path, group: zarr.Group, chunk: int) -> None:
    """Refuse a shard that is missing or empty, or whose quality table names another selection than the store."""
    for file in shard_files(path, chunk):
        if not file.is_file():
            raise UserError(f"chunk {chunk} of {path} has not been made ({file} is missing): rerun the stage cubes.")
        if file.stat().st_size == 0:  # zarr reads fill values from an empty file, and detects any other damage
            raise UserError(
                f"{file} is damaged (it is empty): sdss-photoz verify {path} names the command that makes it again."
            )
    table = quality_file(path, group, chunk)
    if table is None:
        return
    try:
        found = pd.read_parquet(table, columns=["selection"])["selection"].unique().tolist()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{table} cannot be read ({error}): sdss-photoz verify {path} names the command that makes it again."
        ) from None
    _check_selection(table, found[0] if len(found) == 1 else str(found), group.attrs["selection"])
