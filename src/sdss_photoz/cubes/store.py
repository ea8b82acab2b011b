"""The Zarr store of cubes: one shard a chunk of galaxies, written whole by one job.

Layout: Zarr v3 group with `flux` (galaxy, y, x, band), nanomaggies, NaN where no frame covers a pixel; `depth` (galaxy,
band), the largest number of frames on any pixel; and the coordinates `object_id`, `ra`, `dec` (galaxy) and `band`.
Shard N is the file ``flux/c/N/0/0/0``. Each inner chunk carries a crc32c.
"""

import contextlib
import hashlib
import math
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from numcodecs import BitRound
from zarr.buffer.cpu import Buffer
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from sdss_photoz import files
from sdss_photoz.cubes.compiled import compiled
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS, CUBE_SIZE, PIXEL_SCALE

CUBE = (CUBE_SIZE, CUBE_SIZE, len(BANDS))
COORDINATES = ("object_id", "ra", "dec", "band")
ABANDONED = 600  # seconds
UNREADABLE = (ValueError, OSError, IndexError, RuntimeError)  # what zarr and its codecs raise at a damaged shard
DEEPEST = np.iinfo(np.uint16).max
FLOAT16_MAX = float(np.finfo(np.float16).max)  # nanomaggies
_KEPT_BITS = 10  # of a float32's 23 bits of mantissa: a relative error of 2**-11 at most
PRECISIONS = ("float32", "float16", "bits10")
_TYPES = {"float32": "float32", "float16": "float16", "bits10": "float32"}
_COMPRESSION = {"bits10": [BloscCodec(typesize=4, cname="zstd", clevel=1, shuffle="bitshuffle")]}
WCS = {  # FITS keywords of one cube's grid, but for CRVAL1 and CRVAL2: the galaxy's ra and dec
    **{"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS"},
    **{"CRPIX1": (CUBE_SIZE + 1) / 2, "CRPIX2": (CUBE_SIZE + 1) / 2},
    **{"CDELT1": -PIXEL_SCALE / 3600, "CDELT2": PIXEL_SCALE / 3600},
}


def selection_digest(object_id, ra, dec, chunks: int) -> str:
    """Digest of what decides the rows of a store: which galaxies, where, in which order, in how many chunks.

    Parameters
    ----------
    object_id : array_like
        (galaxy,) integers or text.
    ra, dec : array_like
        (galaxy,) degrees.
    chunks : int
        Number of chunks.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    columns = [np.asarray(object_id), np.asarray(ra, "<f8"), np.asarray(dec, "<f8")]
    return files.digest([chunks, *(column.tolist() for column in columns)])


def create_store(
    path, galaxies: pd.DataFrame, chunks: int, *, precision: str = "float32", quality: str | None = None
) -> None:
    """Write the metadata and the coordinates of a store; shards that are there stay.

    The same arguments give the same bytes.

    Parameters
    ----------
    path : str or Path
        Folder of the store.
    galaxies : DataFrame
        object_id (integers or text), ra, dec (degrees): at least one galaxy, in the order of the rows of the store.
    chunks : int
        Shards of equal length (the last may be shorter).
    precision : {"float32", "float16", "bits10"}
        How flux is kept: as it is; as half-precision numbers; or rounded to 10 bits of mantissa and compressed.
    quality : str, optional
        Where the quality table of chunk N lies, relative to the store, with ``{chunk}`` for N: readers then refuse
        shards whose table names another selection. None: the store has none.

    Raises
    ------
    UserError
        Where a chunk would be empty.
    """
    for key, value in layout(galaxies, chunks, precision, quality).items():
        with files.whole(Path(path) / key) as part:
            part.write_bytes(value.to_bytes())


def layout(galaxies: pd.DataFrame, chunks: int, precision: str, quality: str | None) -> dict[str, Buffer]:
    """Files that :func:`create_store` writes: what each holds, by its name in the store."""
    from sdss_photoz.sample.selection import shard_shape  # its astropy takes half a second that readers need not spend

    object_id, ra, dec = (galaxies[name].to_numpy() for name in COORDINATES[:3])
    shard, inner = shard_shape(len(galaxies), chunks)
    memory = {}
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.create_group(
            MemoryStore(memory),
            zarr_format=3,
            attributes={
                "title": "Images of galaxies, Lanczos-3 resampled and stacked by SWarp's rules",
                "selection": selection_digest(object_id, ra, dec, chunks),
                "precision": precision,
                "quality": quality,
            },
        )
        group.create_array(
            "flux",
            shape=(len(galaxies), *CUBE),
            dtype=_TYPES[precision],
            chunks=(inner, *CUBE),
            shards=(shard, *CUBE),
            fill_value=np.nan,
            compressors=[*_COMPRESSION.get(precision, ()), Crc32cCodec()],
            dimension_names=("galaxy", "y", "x", "band"),
            attributes={
                "units": "nanomaggy",
                "bands": BANDS,  # not every reader knows the strings of the coordinate `band`
                "long_name": "flux, NaN where no frame covers the pixel",
                "coordinates": "object_id ra dec",
                "wcs": WCS,
                "wcs_convention": "FITS keywords of each cube's grid; CRVAL1, CRVAL2 are ra, dec of its galaxy; the "
                "first pixel (x, y) is (1, 1): y grows to the North, x to the West",
            },
        )
        group.create_array(
            "depth",
            shape=(len(galaxies), len(BANDS)),
            dtype="uint16",
            chunks=(inner, len(BANDS)),
            shards=(shard, len(BANDS)),
            fill_value=0,
            compressors=Crc32cCodec(),
            dimension_names=("galaxy", "band"),
            attributes={
                "units": "1",
                "long_name": "largest number of frames on any pixel",
                "coordinates": "object_id ra dec",
            },
        )
        for name, values, kind, attributes in (
            ("object_id", object_id, _identifier_type(object_id), {"long_name": "photometric object (objID)"}),
            ("ra", ra, "float64", {"units": "deg", "long_name": "right ascension (ICRS) of the grid's centre"}),
            ("dec", dec, "float64", {"units": "deg", "long_name": "declination (ICRS) of the grid's centre"}),
            ("band", np.array(list(BANDS), object), "string", {"long_name": "band of the survey"}),
        ):
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=kind,
                chunks=values.shape,
                compressors=Crc32cCodec(),
                dimension_names=("band" if name == "band" else "galaxy",),
                attributes=attributes,
            )
            array[:] = values
    return memory


def _identifier_type(object_id: np.ndarray) -> str:
    if object_id.dtype.kind in "iu":
        return "uint64" if object_id.dtype == np.uint64 else "int64"
    return "string"


def open_store(path) -> zarr.Group:
    """Open a store for reading.

    Raises
    ------
    UserError
        Where there is none.
    """
    try:
        group = zarr.open_group(str(path), mode="r", zarr_format=3)
        group["flux"], group["depth"], group.attrs["selection"], group.attrs["quality"], group.attrs["precision"]
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a store of cubes ({error}): correct the path or run the stage cubes.") from None
    return group


def shard_files(path, chunk: int) -> tuple[Path, Path]:
    """Files of a chunk's shards: flux and depth."""
    return Path(path) / f"flux/c/{chunk}/0/0/0", Path(path) / f"depth/c/{chunk}/0"


def quality_file(path, group: zarr.Group, chunk: int) -> Path | None:
    """File of a chunk's quality table; None where the store has none."""
    template = group.attrs["quality"]
    return None if template is None else Path(os.path.normpath(Path(path) / template.format(chunk=chunk)))


def chunk_rows(group: zarr.Group, chunk: int) -> slice:
    """Rows of a chunk."""
    shard = group["flux"].shards[0]
    return slice(chunk * shard, min((chunk + 1) * shard, group["flux"].shape[0]))


def chunk_count(group: zarr.Group) -> int:
    """Number of chunks."""
    return -(-group["flux"].shape[0] // group["flux"].shards[0])


def write_shard(path, chunk: int, flux: np.ndarray, depth: np.ndarray) -> dict[str, str]:
    """Write a chunk's shards: each is whole or absent, whenever the job is killed, and a good one stays until then.

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
        Where the shapes are not those of the chunk.
    UserError
        Where there is no store, or a flux is too large for its numbers.
    """
    group = open_store(path)
    rows = chunk_rows(group, chunk)
    galaxies = rows.stop - rows.start
    if flux.shape != (galaxies, *CUBE) or depth.shape != (galaxies, len(BANDS)):
        raise ValueError(f"chunk {chunk} has {galaxies} galaxies, not flux {flux.shape} and depth {depth.shape}")
    values = {"flux": _rounded(group, rows, flux), "depth": np.minimum(depth, DEEPEST)}
    digests = {}
    for file, (name, array) in zip(shard_files(path, chunk), values.items(), strict=True):
        shard = _encoded(path, name, rows, array)
        digests[name] = hashlib.sha256(shard).hexdigest()
        with files.whole(file) as part:
            part.write_bytes(shard)
        _remove_leftovers(file.parent)
    return digests


def _rounded(group, rows: slice, flux: np.ndarray) -> np.ndarray:
    """Flux in the store's precision."""
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
            copy = flux.astype(np.float32)  # it rounds in place
            rounded = BitRound(_KEPT_BITS).encode(copy).view(np.float32)
            rounded[np.isnan(flux)] = np.nan  # else a NaN of all bits would become a zero
            return rounded
    return flux


def _encoded(path, name: str, rows: slice, values: np.ndarray) -> np.ndarray:
    """The bytes of a shard, (byte,) uint8."""
    metadata = f"{name}/zarr.json"
    memory = {metadata: Buffer.from_bytes((Path(path) / metadata).read_bytes())}
    with zarr.config.set({"array.write_empty_chunks": True}):  # an all-NaN shard is a file too
        zarr.open_array(MemoryStore(memory), path=name, mode="r+", zarr_format=3)[rows] = values
    (shard,) = (value for key, value in memory.items() if key != metadata)
    return shard.as_numpy_array()


def keep_digests(path, digests: list[dict[str, str]], **notes) -> None:
    """Keep the digests of all shards (:func:`write_shard`), and other notes, in a store that has no quality tables."""
    zarr.open_group(str(path), mode="r+", zarr_format=3).attrs.update({"shards": digests, **notes})


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed: those that nobody has touched for a while."""
    for leftover in folder.glob(".*.part"):
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
        with _named(path, shard_files(path, first // shard)[0]):
            block = flux[first : first + inner]
        _place(np.ascontiguousarray(block, np.float32).reshape(len(block), -1), rows[wanted] - first, flat, wanted)
    return cubes


def load_depth(path) -> np.ndarray:
    """Load the depth of all galaxies: (galaxy, band) uint16, the largest number of frames on any pixel.

    Raises
    ------
    UserError
        Where the store or a shard is missing or damaged.
    """
    group = open_store(path)
    depth = np.empty(group["depth"].shape, np.uint16)
    for chunk in range(chunk_count(group)):
        _check_shard(path, group, chunk)
        rows = chunk_rows(group, chunk)
        with _named(path, shard_files(path, chunk)[1]):
            depth[rows] = group["depth"][rows]
    return depth


@contextlib.contextmanager
def _named(path, shard: Path):
    """Name the shard that is damaged, and what makes it again."""
    try:
        yield
    except UNREADABLE as error:
        raise UserError(
            f"{shard} is damaged ({' '.join(str(error).split())[:80]}): sdss-photoz verify {path} names the "
            "command that makes it again."
        ) from None


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
    """Refuse a shard that is missing or empty, or whose quality table names another selection than the store."""
    for file in shard_files(path, chunk):
        if not file.is_file():
            raise UserError(f"chunk {chunk} of {path} has not been made ({file} is missing): rerun the stage cubes.")
        if file.stat().st_size == 0:  # zarr reads fill values from it, and notices any other damage
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


def layout_files(path) -> list[Path]:
    """Files that :func:`create_store` writes."""
    metadata = [f"{name}/zarr.json" for name in ("flux", "depth", *COORDINATES)]
    return [Path(path) / name for name in ("zarr.json", *metadata, *(f"{name}/c/0" for name in COORDINATES))]
