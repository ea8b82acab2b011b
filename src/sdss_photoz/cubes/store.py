"""The Zarr store of cubes: open it, find its chunks, write their shards.

One shard holds the galaxies of one chunk and is written whole by one job. The layout is that of
:mod:`sdss_photoz.cubes.layout`.
"""

import contextlib
import hashlib
import os
import time
from pathlib import Path

import numpy as np
import zarr
from numcodecs import BitRound
from zarr.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from sdss_photoz import files
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import PixelGrid

ABANDONED = 600  # seconds without a write after which a temporary file is a leftover
MAX_DEPTH = np.iinfo(np.uint16).max
FLOAT16_MAX = float(np.finfo(np.float16).max)  # nanomaggies
_KEPT_BITS = 10  # of a float32's 23 bits of mantissa: a relative error of 2**-11 at most


def open_store(path) -> zarr.Group:
    """Open a store for reading.

    Raises
    ------
    UserError
        If there is none at the path.
    """
    try:
        group = zarr.open_group(str(path), mode="r", zarr_format=3)
        group["flux"], group["depth"], group.attrs["selection"], group.attrs["quality"], group.attrs["precision"]
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a store of cubes ({error}): correct the path or run the stage cubes.") from None
    return group


def grid_of(group: zarr.Group) -> PixelGrid:
    """Return the grid of a store's cubes, by the shape and WCS of `flux` and the coordinate `band`.

    Raises
    ------
    UserError
        If they contradict each other.
    """
    flux, bands = group["flux"], tuple(group["band"][:].tolist())
    size, wcs = flux.shape[1], flux.attrs["wcs"]
    square = flux.shape[1:] == (size, size, len(bands)) and size == 2 * wcs["CRPIX1"] - 1
    if not square or "".join(bands) != flux.attrs["bands"]:
        raise UserError(
            f"the store of cubes has flux of shape {flux.shape}, bands {', '.join(bands)} in one place and "
            f"{flux.attrs['bands']} in another, and CRPIX1 {wcs['CRPIX1']}, which contradict each other: make it again."
        )
    return PixelGrid(size, round(wcs["CDELT2"] * 3600, 12), bands)


def shard_files(path, chunk: int) -> tuple[Path, Path]:
    """Return the paths of a chunk's shards: flux and depth."""
    return Path(path) / f"flux/c/{chunk}/0/0/0", Path(path) / f"depth/c/{chunk}/0"


def quality_file(path, group: zarr.Group, chunk: int) -> Path | None:
    """Return the path of a chunk's quality table, or None if the store has no quality tables."""
    template = group.attrs["quality"]
    return None if template is None else Path(os.path.normpath(Path(path) / template.format(chunk=chunk)))


def chunk_rows(group: zarr.Group, chunk: int) -> slice:
    """Return the rows of a chunk."""
    shard = group["flux"].shards[0]
    return slice(chunk * shard, min((chunk + 1) * shard, group["flux"].shape[0]))


def chunk_count(group: zarr.Group) -> int:
    """Return the number of chunks."""
    return -(-group["flux"].shape[0] // group["flux"].shards[0])


def write_shard(path, chunk: int, flux: np.ndarray, depth: np.ndarray) -> dict[str, str]:
    """Write a chunk's shards, each atomically: an earlier shard is kept until its successor is complete.

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

    Returns
    -------
    dict
        "flux" and "depth": SHA-256 of the files written.

    Raises
    ------
    ValueError
        If the shapes are not those of the chunk.
    UserError
        If there is no store, or a flux overflows float16.
    """
    group = open_store(path)
    rows = chunk_rows(group, chunk)
    galaxies = rows.stop - rows.start
    if flux.shape != (galaxies, *group["flux"].shape[1:]) or depth.shape != (galaxies, *group["depth"].shape[1:]):
        raise ValueError(f"chunk {chunk} has {galaxies} galaxies, not flux {flux.shape} and depth {depth.shape}")
    values = {"flux": _to_precision(group, rows, flux), "depth": np.minimum(depth, MAX_DEPTH)}
    digests = {}
    for file, (name, array) in zip(shard_files(path, chunk), values.items(), strict=True):
        shard = _encode_shard(path, name, rows, array)
        digests[name] = hashlib.sha256(shard).hexdigest()
        with files.whole(file) as part:
            part.write_bytes(shard)
        _remove_leftovers(file.parent)
    return digests


def _to_precision(group, rows: slice, flux: np.ndarray) -> np.ndarray:
    """Convert flux to the store's precision."""
    match group.attrs["precision"]:
        case "float16":
            large = (np.abs(flux) > FLOAT16_MAX).any(axis=(1, 2, 3))  # NaN is not
            if large.any():
                row = rows.start + int(np.argmax(large))
                raise UserError(
                    f"the galaxy with object_id {group['object_id'][row]} (row {row}) has pixels beyond "
                    f"{FLOAT16_MAX:,.0f} nanomaggies, the largest number of float16: choose the precision bits10 or "
                    "float32."
                )
            return flux.astype(np.float16)
        case "bits10":
            copy = flux.astype(np.float32)  # BitRound works in place
            rounded = BitRound(_KEPT_BITS).encode(copy).view(np.float32)
            rounded[np.isnan(flux)] = np.nan  # a NaN with all bits set would round to zero
            return rounded
    return flux


def _encode_shard(path, name: str, rows: slice, values: np.ndarray) -> np.ndarray:
    """Return the bytes of a shard, (byte,) uint8."""
    metadata = f"{name}/zarr.json"
    memory = {metadata: Buffer.from_bytes((Path(path) / metadata).read_bytes())}
    with zarr.config.set({"array.write_empty_chunks": True}):  # or an all-NaN shard would have no file
        zarr.open_array(MemoryStore(memory), path=name, mode="r+", zarr_format=3)[rows] = values
    (shard,) = (value for key, value in memory.items() if key != metadata)
    return shard.as_numpy_array()


def record_digests(path, digests: list[dict[str, str]], **attributes) -> None:
    """Add the digests of all shards (of :func:`write_shard`) and other attributes to a store without quality tables."""
    zarr.open_group(str(path), mode="r+", zarr_format=3).attrs.update({"shards": digests, **attributes})


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed writers: those not modified for `ABANDONED` seconds."""
    for leftover in folder.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > ABANDONED:
                leftover.unlink()
