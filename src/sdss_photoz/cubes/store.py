"""The Zarr store of cubes: one shard a chunk of galaxies, written whole by one job.

Layout: Zarr v3 group with `flux` (galaxy, y, x, band) float32, nanomaggies, NaN where no frame covers a pixel, and
`depth` (galaxy, band), the largest number of frames on any pixel. Shard N is the file ``flux/c/N/0/0/0``. Values are
not compressed; each inner chunk carries a crc32c.
"""

import contextlib
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from sdss_photoz import files
from sdss_photoz.cubes.compiled import compiled
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS, CUBE_SIZE, PIXEL_SCALE

CUBE = (CUBE_SIZE, CUBE_SIZE, len(BANDS))
ABANDONED = 600  # seconds
DEEPEST = np.iinfo(np.uint16).max
WCS = {
    "projection": "TAN",
    "crval": "ra, dec of the galaxy",
    "crpix": [(CUBE_SIZE + 1) / 2] * 2,
    "cdelt_arcsec": [-PIXEL_SCALE, PIXEL_SCALE],
    "orientation": "row 0 is South, column 0 is East",
}


def selection_digest(object_id, ra, dec, chunks: int) -> str:
    """Digest of what decides the rows of a store: which galaxies, where, in which order, in how many chunks.

    Parameters
    ----------
    object_id : array_like
        (galaxy,) integers.
    ra, dec : array_like
        (galaxy,) degrees.
    chunks : int
        Number of chunks.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    columns = [np.asarray(object_id, "<i8"), np.asarray(ra, "<f8"), np.asarray(dec, "<f8")]
    return files.digest([chunks, *(column.tolist() for column in columns)])


def create_store(path, n_galaxies: int, chunks: int, digest: str, quality: str | None = None) -> None:
    """Write the metadata of a store; shards that are there stay.

    The same arguments give the same bytes.

    Parameters
    ----------
    path : str or Path
        Folder of the store.
    n_galaxies : int
        Galaxies, at least one.
    chunks : int
        Shards of equal length (the last may be shorter).
    digest : str
        Digest of the selection (:func:`selection_digest`).
    quality : str, optional
        Where the quality table of chunk N lies, relative to the store, with ``{chunk}`` for N: readers then refuse
        shards whose table names another selection. None: the store has none.

    Raises
    ------
    UserError
        Where a chunk would be empty.
    """
    from sdss_photoz.sample.selection import shard_shape  # its astropy takes half a second that readers need not spend

    shard, inner = shard_shape(n_galaxies, chunks)
    memory = MemoryStore()
    group = zarr.create_group(
        memory,
        zarr_format=3,
        attributes={
            "title": "Cubes of galaxies, Lanczos-3 resampled and median stacked by SWarp's rules",
            "selection": digest,
            "bands": list(BANDS),
            "quality": quality,
        },
    )
    group.create_array(
        "flux",
        shape=(n_galaxies, *CUBE),
        dtype="float32",
        chunks=(inner, *CUBE),
        shards=(shard, *CUBE),
        fill_value=np.nan,
        compressors=Crc32cCodec(),
        dimension_names=("galaxy", "y", "x", "band"),
        attributes={"unit": "nanomaggy", "wcs": WCS, "missing": "NaN where no frame covers the pixel"},
    )
    group.create_array(
        "depth",
        shape=(n_galaxies, len(BANDS)),
        dtype="uint16",
        chunks=(inner, len(BANDS)),
        shards=(shard, len(BANDS)),
        fill_value=0,
        compressors=Crc32cCodec(),
        dimension_names=("galaxy", "band"),
        attributes={"unit": "frames", "meaning": "largest number of frames on any pixel"},
    )
    for key, value in memory._store_dict.items():
        files.write_text(Path(path) / key, value.to_bytes().decode())


def open_store(path) -> zarr.Group:
    """Open a store for reading.

    Raises
    ------
    UserError
        Where there is none.
    """
    try:
        group = zarr.open_group(str(path), mode="r", zarr_format=3)
        group["flux"], group["depth"], group.attrs["selection"], group.attrs["quality"]
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a store of cubes ({error}): correct the path or run the stage cubes.") from None
    return group


def shard_files(path, chunk: int) -> tuple[Path, Path]:
    """Files of a chunk's shards: flux and depth."""
    return Path(path) / f"flux/c/{chunk}/0/0/0", Path(path) / f"depth/c/{chunk}/0"


def chunk_rows(group: zarr.Group, chunk: int) -> slice:
    """Rows of a chunk."""
    shard = group["flux"].shards[0]
    return slice(chunk * shard, min((chunk + 1) * shard, group["flux"].shape[0]))


def write_shard(path, chunk: int, flux: np.ndarray, depth: np.ndarray) -> None:
    """Write a chunk's shards, each in one assignment: a shard is whole or absent, whenever the job is killed.

    Parameters
    ----------
    path : str or Path
        Folder of the store.
    chunk : int
        Number of the chunk.
    flux : ndarray
        (galaxy, y, x, band) float32, nanomaggies, all galaxies of the chunk.
    depth : ndarray
        (galaxy, band) integers.

    Raises
    ------
    ValueError
        Where the shapes are not those of the chunk.
    """
    open_store(path)  # names what is wrong before anything is touched
    with zarr.config.set({"array.write_empty_chunks": True}):  # an all-NaN shard is a file too
        group = zarr.open_group(str(path), mode="r+", zarr_format=3)
        rows = chunk_rows(group, chunk)
        galaxies = rows.stop - rows.start
        if flux.shape != (galaxies, *CUBE) or depth.shape != (galaxies, len(BANDS)):
            raise ValueError(f"chunk {chunk} has {galaxies} galaxies, not flux {flux.shape} and depth {depth.shape}")
        for file, name, values in zip(
            shard_files(path, chunk), ("flux", "depth"), (flux, np.minimum(depth, DEEPEST)), strict=True
        ):
            file.unlink(missing_ok=True)  # else a short last shard would be merged with what lies there
            group[name][rows] = values
            _remove_leftovers(file.parent)


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed: those that nobody has touched for a while."""
    for leftover in folder.glob("*.partial"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > ABANDONED:
                leftover.unlink()


def load_cubes(path, rows, digest: str | None = None, label: str | None = None) -> np.ndarray:
    """Load cubes for a network: the one function that does, so the one place where uncovered pixels become zero.

    Parameters
    ----------
    path : str or Path
        Folder of the store.
    rows : array_like
        Cube rows, in any order, repeats allowed.
    digest : str, optional
        Digest of the selection that the rows belong to; another one is refused.
    label : str, optional
        Show progress under this name.

    Returns
    -------
    ndarray
        (len(rows), y, x, band) float32, nanomaggies, zero where no frame covers the pixel.

    Raises
    ------
    UserError
        Where the store or a shard is missing, damaged, or of another selection, or a row is outside the store.
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
    cubes = np.empty((len(rows), *CUBE), np.float32)
    flat = cubes.reshape(len(rows), math.prod(CUBE))
    order = np.argsort(rows, kind="stable")
    firsts, starts = np.unique(rows[order] // inner * inner, return_index=True)
    ends = np.append(starts[1:], len(rows))
    for first, start, end in progress(
        zip(firsts.tolist(), starts, ends, strict=False), total=len(firsts), label=label, disable=label is None
    ):
        wanted = order[start:end]
        try:
            block = flux[first : first + inner]
        except (ValueError, OSError, IndexError) as error:
            damaged = shard_files(path, first // shard)[0]
            raise UserError(
                f"{damaged} is damaged ({' '.join(str(error).split())[:80]}): delete it and rerun the stage cubes."
            ) from None
        _place(np.ascontiguousarray(block).reshape(len(block), -1), rows[wanted] - first, flat, wanted)
    return cubes


@compiled
def _place(block, chosen, cubes, places):
    """Copy cubes to their places, zero for NaN, in one pass."""
    for k in range(len(places)):
        cube = block[chosen[k]]
        for pixel in range(cube.size):
            value = cube[pixel]
            cubes[places[k], pixel] = value if value == value else np.float32(0)


def _check_selection(path, found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise UserError(
            f"{path} was made for another selection of galaxies (digest {found[:12]}, expected {expected[:12]}): "
            "rerun the stage cubes."
        )


def _check_shard(path, group: zarr.Group, chunk: int) -> None:
    """Refuse a shard that is missing, or whose quality table names another selection than the store."""
    for file in shard_files(path, chunk):
        if not file.is_file():
            raise UserError(f"chunk {chunk} of {path} has not been made ({file} is missing): rerun the stage cubes.")
    if group.attrs["quality"] is None:
        return
    table = Path(path) / group.attrs["quality"].format(chunk=chunk)
    try:
        found = pd.read_parquet(table, columns=["selection"])["selection"].unique().tolist()
    except (OSError, ValueError) as error:
        raise UserError(f"{table} cannot be read ({error}): rerun the stage cubes.") from None
    _check_selection(table, found[0] if len(found) == 1 else str(found), group.attrs["selection"])


def metadata_files(path) -> list[Path]:
    """Files that :func:`create_store` writes."""
    return [Path(path) / name for name in ("zarr.json", "flux/zarr.json", "depth/zarr.json")]
