"""The float16 copy of a store's cubes: written by the first job that needs it, memory-mapped by all others."""

import math
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz import files
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import chunk_count, open_store, quality_file, shard_files
from sdss_photoz.errors import UserError
from sdss_photoz.locks import exclusive
from sdss_photoz.progress import progress
from sdss_photoz.training.data.examples import check_flux
from sdss_photoz.training.data.negative_controls import load_cubes_for
from sdss_photoz.training.resources import PIECE

HEADER = 4096  # bytes at most before the first row of an .npy file


def cubes_digest(store) -> str:
    """Digest of a store's cubes: of the SHA-256 of its shards, as stored with them or else computed.

    Raises
    ------
    UserError
        If there is no store.
    """
    group = open_store(store)
    noted = group.attrs.get("shards", ())
    shards = []
    for chunk in range(chunk_count(group)):
        table = quality_file(store, group, chunk)
        if table is not None:
            shards.append(pd.read_parquet(table, columns=["flux_sha256"])["flux_sha256"].iloc[0])
        elif len(noted) > chunk:
            shards.append(noted[chunk]["flux"])
        else:
            shards.append(files.sha256(shard_files(store, chunk)[0]))
    return files.digest([group.attrs["selection"], shards])


def float16_copy(store, folder, selection: str | None = None, without_target: bool = False) -> tuple[np.memmap, str]:
    """Memory-map the float16 copy of a store's cubes in a folder; write it if it is missing.

    A lock makes concurrent jobs write it once. Copies of earlier contents of the store are removed. Pixels without
    coverage are NaN.

    Parameters
    ----------
    store : str or Path
        The Zarr store.
    folder : str or Path
        Folder of the copy; created if it is missing.
    selection : str, optional
        Digest of the selection that the store must hold.
    without_target : bool
        Whether to remove the central galaxies from their cubes; such a copy is a separate file.

    Returns
    -------
    cubes : memmap
        (row, pixel, band) float16, nanomaggies, copy-on-write.
    digest : str
        Digest of the cubes (`cubes_digest`).

    Raises
    ------
    UserError
        If the store belongs to another selection, a pixel is infinite or exceeds 65,504 nanomaggies (the galaxy is
        named), or the disk of the folder is full.
    """
    store, folder = Path(store), Path(folder)
    load_cubes(store, (), selection)  # refuses a store of another selection
    digest, shape = cubes_digest(store), _shape(store)
    kind = "without_target" if without_target else "cubes"
    name = f"{kind}-{files.digest(str(store.resolve()))[:8]}"
    path = folder / f"{name}-{digest[:16]}-nan.npy"  # older ones, without, hold 0 in pixels without coverage
    with files.full_disk_as_user_error(lambda why: _no_room(folder, why)):
        folder.mkdir(parents=True, exist_ok=True)
        while (cubes := _mapped(path, shape)) is None:
            with exclusive(folder / f"{name}.lease"), _unless_taken_over():
                if _mapped(path, shape) is None:  # not written by another job in the meantime
                    for stale in (*folder.glob(f"{name}-*.npy"), *folder.glob(f".{name}-*.part")):
                        stale.unlink(missing_ok=True)
                    _write(store, path, without_target)
    return cubes, f"{digest} {kind}" if without_target else digest


@contextmanager
def _unless_taken_over():
    """End the block if its temporary file is gone, because another job took over the lock and writes the copy."""
    try:
        yield
    except FileNotFoundError as error:
        if not str(error.filename).endswith(".part"):
            raise


def _shape(store) -> tuple[int, int, int]:
    """Shape of the copy: (row, pixel, band)."""
    galaxies, *image, bands = open_store(store)["flux"].shape
    return galaxies, math.prod(image), bands


def _mapped(path: Path, shape: tuple[int, int, int]) -> np.memmap | None:
    """The copy, or None if it is missing or incomplete."""
    try:
        cubes = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):  # EOFError if it is empty
        return None
    return cubes if cubes.shape == shape and cubes.dtype == np.float16 else None


def _write(store: Path, path: Path, without_target: bool) -> None:
    object_id = open_store(store)["object_id"][:]
    shape = _shape(store)
    needed = 2 * int(np.prod(shape)) + HEADER
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UserError(_no_room(path.parent, f"{free:,} bytes are free, {needed:,} needed"))
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    with files.whole(path) as part, open(part, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in progress(range(0, len(object_id), PIECE), unit="piece", label="copying cubes as float16"):
            rows = np.arange(start, min(start + PIECE, len(object_id)))
            flux = load_cubes_for(store, rows, without_target=without_target)
            check_flux(pd.DataFrame({"object_id": object_id[rows]}), flux, as_float16=True)
            file.write(flux.astype("<f2"))


def _no_room(folder: Path, found: str) -> str:
    return (
        f"{folder} has no room for the float16 copy of the cubes ({found}): free some space, or set training.scratch "
        "to a folder on another disk."
    )
