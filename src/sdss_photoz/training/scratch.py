"""The float16 copy of a store's cubes: written once, by the first job that needs it, and mapped by those after it."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz import files
from sdss_photoz.cubes.store import chunk_count, load_cubes, open_store, quality_file, shard_files
from sdss_photoz.errors import UserError
from sdss_photoz.locks import alone
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS
from sdss_photoz.training.controls import load_cubes_for
from sdss_photoz.training.examples import PIECE, check_flux
from sdss_photoz.training.residence import PIXELS

HEADER = 4096  # bytes at most before the first row of an .npy file


def cubes_digest(store) -> str:
    """Digest of a store's cubes: of the SHA-256 of its shards, as noted beside them; unnoted ones are read.

    Raises
    ------
    UserError
        Where there is no store.
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
    """The cubes of a store as float16, row after row, mapped from a file in a folder; written where it is not there.

    Jobs that run side by side write it once: a lock lets the others wait. Copies of what the store held before are
    removed. Uncovered pixels are zero.

    Parameters
    ----------
    store : str or Path
        The Zarr store.
    folder : str or Path
        Where the copy lies; made where it is missing.
    selection : str, optional
        Digest of the selection that the store must hold.
    without_target : bool
        Whether to take the galaxies themselves out of their cubes: a copy of its own.

    Returns
    -------
    cubes : memmap
        (row, 64 * 64, 5) float16, nanomaggies; what is written to it stays in memory.
    digest : str
        Of the cubes (`cubes_digest`).

    Raises
    ------
    UserError
        Where the store is another selection's, a pixel is no finite number or exceeds 65,504 nanomaggies (the galaxy
        is named), or the folder has no room.
    """
    store, folder = Path(store), Path(folder)
    load_cubes(store, (), selection)  # refuses a store of another selection
    digest, count = cubes_digest(store), open_store(store)["object_id"].shape[0]
    kind = "without_target" if without_target else "cubes"
    name = f"{kind}-{files.digest(str(store.resolve()))[:8]}"
    path = folder / f"{name}-{digest[:16]}.npy"
    with files.full_disk_said(lambda why: _no_room(folder, why)):
        folder.mkdir(parents=True, exist_ok=True)
        while (cubes := _mapped(path, count)) is None:
            with alone(folder / f"{name}.lease"), _unless_taken_over():
                if _mapped(path, count) is None:  # no other job wrote it while this one waited
                    for stale in (*folder.glob(f"{name}-*.npy"), *folder.glob(f".{name}-*.part")):
                        stale.unlink(missing_ok=True)
                    _write(store, path, without_target)
    return cubes, f"{digest} {kind}" if without_target else digest


@contextmanager
def _unless_taken_over():
    """Leave the block where the part that it writes is gone: another job took the lock over and writes the copy."""
    try:
        yield
    except FileNotFoundError as error:
        if not str(error.filename).endswith(".part"):
            raise


def _mapped(path: Path, count: int) -> np.memmap | None:
    """The copy, or None where it is missing or cut short."""
    try:
        cubes = np.load(path, mmap_mode="c")
    except (OSError, ValueError, EOFError):  # the last where it is empty
        return None
    return cubes if cubes.shape == (count, PIXELS, len(BANDS)) and cubes.dtype == np.float16 else None


def _write(store: Path, path: Path, without_target: bool) -> None:
    object_id = open_store(store)["object_id"][:]
    shape = len(object_id), PIXELS, len(BANDS)
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
            check_flux(object_id[rows], flux, as_float16=True)
            file.write(flux.astype("<f2"))


def _no_room(folder: Path, found: str) -> str:
    return (
        f"{folder} has no room for the float16 copy of the cubes ({found}): free some space, or set training.scratch "
        "to a folder on another disk."
    )
