"""Layout of the Zarr store of cubes: its groups, arrays, coordinates and attributes.

A Zarr v3 group holds `flux` (galaxy, y, x, band), nanomaggies, NaN where no frame covers a pixel; `depth` (galaxy,
band), the largest number of frames on any pixel; and the coordinates `object_id`, `ra`, `dec` (galaxy) and `band`.
Shard N of `flux` is the file ``flux/c/N/0/0/0``. Each inner chunk carries a crc32c.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from zarr.buffer.cpu import Buffer
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from sdss_photoz import files
from sdss_photoz.sample.chunks import shard_shape
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid

COORDINATES = ("object_id", "ra", "dec", "band")
_DTYPES = {"float32": "float32", "float16": "float16", "bits10": "float32"}
PRECISIONS = tuple(_DTYPES)
_COMPRESSION = {"bits10": [BloscCodec(typesize=4, cname="zstd", clevel=1, shuffle="bitshuffle")]}


def wcs_of(grid: PixelGrid) -> dict:
    """Return the FITS keywords of a cube's grid, without CRVAL1 and CRVAL2, which are the galaxy's ra and dec."""
    return {
        **{"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS"},
        **{"CRPIX1": (grid.size + 1) / 2, "CRPIX2": (grid.size + 1) / 2},
        **{"CDELT1": -grid.pixel_scale / 3600, "CDELT2": grid.pixel_scale / 3600},
    }


def selection_digest(object_id, ra, dec, chunks: int, grid: PixelGrid = CUBE) -> str:
    """Return the digest that identifies the cubes of a store: galaxies, positions, order, number of chunks and grid.

    Parameters
    ----------
    object_id : array_like
        (galaxy,) integers or text.
    ra, dec : array_like
        (galaxy,) degrees.
    chunks : int
        Number of chunks.
    grid : PixelGrid
        Pixels and bands of the cubes; the default one leaves the digest as it was when there was no other.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.
    """
    columns = [np.asarray(object_id), np.asarray(ra, "<f8"), np.asarray(dec, "<f8")]
    other = [] if grid == CUBE else [[grid.size, grid.pixel_scale, *grid.bands]]
    return files.digest([chunks, *(column.tolist() for column in columns), *other])


def create_store(
    path,
    galaxies: pd.DataFrame,
    chunks: int,
    *,
    precision: str = "float32",
    quality: str | None = None,
    grid: PixelGrid = CUBE,
) -> None:
    """Write the metadata and the coordinates of a store; existing shards are kept.

    The same arguments give the same bytes.

    Parameters
    ----------
    path : str or Path
        Folder of the store.
    galaxies : DataFrame
        object_id (integers or text), ra, dec (degrees): at least one galaxy, in the order of the store's rows.
    chunks : int
        Number of shards, of equal length (the last may be shorter).
    precision : {"float32", "float16", "bits10"}
        Encoding of flux: float32, float16, or float32 rounded to 10 bits of mantissa and compressed.
    quality : str, optional
        Path of the quality table of chunk N, relative to the store, with ``{chunk}`` for N: readers then refuse
        shards whose table names another selection. None: the store has no quality tables.
    grid : PixelGrid
        Pixels and bands of the cubes.

    Raises
    ------
    UserError
        If a chunk would be empty.
    """
    for key, value in layout_contents(galaxies, chunks, precision, quality, grid).items():
        with files.whole(Path(path) / key) as part:
            part.write_bytes(value.to_bytes())


def layout_contents(
    galaxies: pd.DataFrame, chunks: int, precision: str, quality: str | None, grid: PixelGrid
) -> dict[str, Buffer]:
    """Return the files that :func:`create_store` writes: content by path within the store."""
    object_id, ra, dec = (galaxies[name].to_numpy() for name in COORDINATES[:3])
    shard, inner = shard_shape(len(galaxies), chunks)
    bands = len(grid.bands)
    memory = {}
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.create_group(
            MemoryStore(memory),
            zarr_format=3,
            attributes={
                "title": "Images of galaxies, Lanczos-3 resampled and stacked by SWarp's rules",
                "selection": selection_digest(object_id, ra, dec, chunks, grid),
                "precision": precision,
                "quality": quality,
            },
        )
        group.create_array(
            "flux",
            shape=(len(galaxies), *grid.shape),
            dtype=_DTYPES[precision],
            chunks=(inner, *grid.shape),
            shards=(shard, *grid.shape),
            fill_value=np.nan,
            compressors=[*_COMPRESSION.get(precision, ()), Crc32cCodec()],
            dimension_names=("galaxy", "y", "x", "band"),
            attributes={
                "units": SDSS.unit,
                "bands": "".join(grid.bands),  # not every reader knows the strings of the coordinate `band`
                "long_name": "flux, NaN where no frame covers the pixel",
                "coordinates": "object_id ra dec",
                "wcs": wcs_of(grid),
                "wcs_convention": "FITS keywords of each cube's grid; CRVAL1, CRVAL2 are ra, dec of its galaxy; the "
                "first pixel (x, y) is (1, 1): y grows to the North, x to the West",
            },
        )
        group.create_array(
            "depth",
            shape=(len(galaxies), bands),
            dtype="uint16",
            chunks=(inner, bands),
            shards=(shard, bands),
            fill_value=0,
            compressors=Crc32cCodec(),
            dimension_names=("galaxy", "band"),
            attributes={
                "units": "1",
                "long_name": "largest number of frames on any pixel",
                "coordinates": "object_id ra dec",
            },
        )
        for name, values, dtype, attributes in (
            ("object_id", object_id, _identifier_dtype(object_id), {"long_name": "photometric object (objID)"}),
            ("ra", ra, "float64", {"units": "deg", "long_name": "right ascension (ICRS) of the grid's centre"}),
            ("dec", dec, "float64", {"units": "deg", "long_name": "declination (ICRS) of the grid's centre"}),
            ("band", np.array(list(grid.bands), object), "string", {"long_name": "band of the survey"}),
        ):
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=dtype,
                chunks=values.shape,
                compressors=Crc32cCodec(),
                dimension_names=("band" if name == "band" else "galaxy",),
                attributes=attributes,
            )
            array[:] = values
    return memory


def _identifier_dtype(object_id: np.ndarray) -> str:
    if object_id.dtype.kind in "iu":
        return "uint64" if object_id.dtype == np.uint64 else "int64"
    return "string"


def layout_paths(path) -> list[Path]:
    """Return the paths of the files that :func:`create_store` writes."""
    metadata = [f"{name}/zarr.json" for name in ("flux", "depth", *COORDINATES)]
    return [Path(path) / name for name in ("zarr.json", *metadata, *(f"{name}/c/0" for name in COORDINATES))]
