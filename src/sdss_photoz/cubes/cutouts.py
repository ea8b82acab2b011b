"""Make cubes for any table of positions from any folder of corrected frames.

POSITIONS is a table (CSV and other delimited text, parquet, FITS, VOTable, ECSV) with columns ra, dec (degrees). The
store holds flux (galaxy, y, x, band) and depth (galaxy, band) in the order of the table; where no frame covers a
pixel flux is NaN. A row whose position is missing, or lies outside of all frames, is all NaN and has depth 0. Its
object_id is the table's own (object_id, objID, specObjID, …), to the last digit.
"""

import fnmatch
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from sdss_photoz import files, tables
from sdss_photoz.config import Cubes
from sdss_photoz.config.parse import parse
from sdss_photoz.cubes.frame import read_wcs, same_content
from sdss_photoz.cubes.frame_astrometry import read_terms
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.make import stack_cubes
from sdss_photoz.cubes.reading_order import reading_order
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.store import chunk_rows, open_store, record_digests, write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.surveys.sdss import Frame
from sdss_photoz.surveys.sphere import unit_vectors

REACH = 0.2  # degrees: half the diagonals of a frame and of the default grid, and the offsets between bands of a field
POSITION = {"ra": tables.RA, "dec": tables.DEC}
CHOICES = ("stack", "overlap_rows", "precision")
GRID_TYPES = {"size": int, "pixel_scale": float, "bands": str}
SHARD = 2048  # galaxies: 168 MB
PIXEL_BYTES = {"float32": 4, "float16": 2, "bits10": 2.5}  # on disk, at most: 19 bits of bits10 vary
METADATA_BYTES = 2**17  # on disk, for a store's metadata
POSITION_BYTES = 100  # on disk, for a position's depth, coordinates and checksums
LAYER_MEMORY = 3e9  # bytes of resampled images held at a time; above it frames are read more than once


def add_arguments(parser) -> None:
    """Add the arguments of ``sdss-photoz cutouts`` to an argparse parser."""
    parser.add_argument("positions", metavar="POSITIONS", help="table with columns ra, dec (degrees)")
    parser.add_argument("--frames", required=True, metavar="FOLDER", help="folder that holds corrected frames")
    parser.add_argument("--out", required=True, metavar="STORE", help="Zarr store to make; must not exist")
    parser.add_argument("--threads", type=int, default=1, help="threads for decompression and resampling (default 1)")
    for key in (*CHOICES, *GRID_TYPES):  # as in the block cubes of the configuration
        field = Cubes.model_fields[key]
        allowed = {"type": GRID_TYPES[key]} if key in GRID_TYPES else {"choices": get_args(field.annotation)}
        text = f"{field.description} Default {field.default}."
        parser.add_argument(f"--{key.replace('_', '-')}", default=field.default, help=text, **allowed)


def main(arguments) -> None:
    """Run ``sdss-photoz cutouts``."""
    options = {key: getattr(arguments, key) for key in ("threads", *CHOICES)}
    grid = parse(Cubes, {key: getattr(arguments, key) for key in GRID_TYPES}).grid
    options["grid"] = grid
    positions = tables.read(arguments.positions)
    depth = cutouts(positions, arguments.frames, arguments.out, **options)
    covered = np.count_nonzero(depth, axis=0)
    counts = ", ".join(f"{band} {count}" for band, count in zip(grid.bands, covered, strict=True))
    empty = np.count_nonzero(~depth.any(axis=1))
    print(f"{arguments.out}: {len(depth)} cubes; with at least one frame in {counts}; without any {empty}")
    identifier = tables.identifier_of(positions)
    if identifier is None:
        print("object_id is the numbers of the rows, for no column is called so, objID or the like")
    else:
        print(f"object_id is its {identifier}")
    for column, quantity in POSITION.items():
        if missing := tables.measured(positions, column, quantity).missing:
            print(f"without a position: {tables.describe_missing(column, missing)}")


def cutouts(
    positions: pd.DataFrame,
    frames,
    out,
    threads: int = 1,
    *,
    stack: str = "median",
    overlap_rows: str = "keep",
    precision: str = "float32",
    grid: PixelGrid = CUBE,
) -> np.ndarray:
    """Make a store of cubes for any positions from any folder of corrected frames.

    Parameters
    ----------
    positions : DataFrame
        ra, dec (degrees), in any order; repeats are allowed, and missing positions (NaN), whose cubes are all NaN.
        The first identifier column (of `tables.IDENTIFIERS`: object_id, objID, …; integers or text) becomes the
        store's object_id; without one, the row number does.
    frames : str or Path
        Folder searched recursively for frames, by their names in the archive. Each is read once, and its header is
        checked against the great-circle terms at the end of its file: see
        :func:`sdss_photoz.cubes.frame_astrometry.locate`. The store's attributes ``by_terms`` (pixels by which the
        header is wrong) and ``unchecked``, and log messages, name the frames whose header is wrong or unchecked.
    out : str or Path
        Store to make, complete or not at all.
    threads : int
        Threads for decompression and resampling; the result does not depend on their number.
    stack : {"median", "mean"}
        Statistic of the frames that cover a pixel.
    overlap_rows : {"keep", "trim"}
        Whether adjacent fields of a run both count on the rows that they share, or only the first.
    precision : {"float32", "float16", "bits10"}
        Encoding of flux: see :func:`sdss_photoz.cubes.layout.create_store`.
    grid : PixelGrid
        Pixels and bands of the cubes; frames of other bands are not read.

    Returns
    -------
    ndarray
        (galaxy, band) uint16: largest number of frames on any pixel, 0 where no frame covers the galaxy.

    Raises
    ------
    UserError
        If the output exists or cannot be made, the disk is too small for the cubes, a column is missing, a position is
        invalid, an identifier is missing or was rounded, the folder has no frames, a frame is damaged or not TAN, or
        two copies of a frame differ.
    """
    out = Path(out)
    if threads < 1:
        raise UserError(f"--threads is {threads}, but at least one is needed.")
    if out.exists():
        raise UserError(f"{out} exists already: give another --out, or remove it first.")
    ra, dec = _coordinates(positions)
    object_id = _object_ids(positions)
    copies = {frame: paths for frame, paths in _find_copies(frames).items() if frame.band in grid.bands}
    if not copies:
        raise UserError(f"{frames} holds no frame in {', '.join(grid.bands)}: give its folder, or other --bands.")

    def only_copy(frame):
        yield copies[frame][0]

    chunks = -(-len(ra) // SHARD)
    with files.folder_beside(out) as folder, _reserved_disk(folder, len(ra), precision, grid) as (mapped, reserve):
        overlaps = _overlaps(ra, dec, {frame: paths[0] for frame, paths in copies.items()}, threads, grid)
        repeated = [copies[frame] for frame, _ in overlaps if len(copies[frame]) > 1]
        for paths in progress(repeated, unit="frame", label="copies", disable=not repeated):
            _check_same(paths)
        store = folder / "store"
        table = pd.DataFrame({"object_id": object_id, "ra": ra, "dec": dec})
        create_store(store, table, chunks, precision=precision, grid=grid)
        flux = np.memmap(mapped, np.float32, "r+", shape=(len(ra), *grid.shape))  # may exceed the memory
        depth = np.zeros((len(ra), len(grid.bands)), np.uint16)
        options = {"stack": stack, "overlap_rows": overlap_rows, "threads": threads, "grid": grid}
        order = reading_order(overlaps, LAYER_MEMORY, 4 * grid.size**2)
        made = stack_cubes(ra, dec, order, only_copy, flux, depth, **options)
        group = open_store(store)
        digests = []
        for chunk in progress(range(chunks), unit="shard", label="writing"):
            rows = chunk_rows(group, chunk)
            os.truncate(reserve, _store_bytes(len(ra) - rows.stop, precision, grid))  # frees disk for the shard
            digests.append(write_shard(store, chunk, flux[rows], depth[rows]))
        by_terms = {frame.name: pixels for frame, pixels in sorted(made.off.items()) if pixels > 0}
        unchecked = [frame.name for frame, pixels in sorted(made.off.items()) if np.isnan(pixels)]
        record_digests(store, digests, by_terms=by_terms, unchecked=unchecked)
        del flux
        store.replace(out)
    return depth


@contextmanager
def _reserved_disk(folder: Path, count: int, precision: str, grid: PixelGrid) -> Iterator[tuple[Path, Path]]:
    """Allocate disk before the work: a file for the memory map of all cubes, and one that reserves space for the store.

    Raises
    ------
    UserError
        If the disk is full, now or within the block.
    """
    cubes, stored = count * math.prod(grid.shape) * 4, _store_bytes(count, precision, grid) + METADATA_BYTES
    what = f"the cubes of {count:,} positions"
    with files.full_disk_as_user_error(lambda why: files.no_room_message(folder, what, why, cubes + stored)):
        files.preallocate(folder / "flux", cubes)
        files.preallocate(folder / "room", stored)
        yield folder / "flux", folder / "room"


def _store_bytes(count: int, precision: str, grid: PixelGrid) -> int:
    """Return the largest number of bytes that `count` cubes take in a store."""
    return count * int(math.prod(grid.shape) * PIXEL_BYTES[precision] + POSITION_BYTES)


def _coordinates(positions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    name = "the table of positions"
    ra, dec = (tables.measured(positions, column, quantity, name).values for column, quantity in POSITION.items())
    if len(positions) == 0:
        raise UserError("the table of positions is empty: give at least one ra, dec.")
    if not (np.isfinite(ra) & np.isfinite(dec)).any():
        raise UserError(f"the table has no position: ra or dec is missing in each of its {len(ra)} rows.")
    return ra, dec


def _object_ids(positions: pd.DataFrame) -> np.ndarray:
    """Return the table's identifiers, int64, uint64 or text, or row numbers if it has none."""
    column = tables.identifier_of(positions)
    if column is None:
        return np.arange(len(positions))
    found = tables.identifiers(positions, column, "the table of positions")
    missing = np.flatnonzero(found.isna())
    if missing.size:
        raise UserError(
            f"column {column!r} of the table of positions has no identifier in row {missing[0] + 1} ({missing.size} of "
            f"{len(found)} rows): fill in or drop those rows, or drop the column to have rows numbered."
        )
    return found.to_numpy()


def find_frames(folder) -> dict[Frame, Path]:
    """Find corrected frames by their names in a folder, recursively and through links to folders.

    Returns
    -------
    dict
        Path of each frame, in the order of run, camcol, field, band; the first path of a frame with several copies.

    Raises
    ------
    UserError
        If the folder does not exist or holds no frame.
    """
    return {frame: paths[0] for frame, paths in _find_copies(folder).items()}


def _find_copies(folder) -> dict[Frame, list[Path]]:
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder that holds the corrected frames.")
    found = {}
    for path in sorted(_files(folder)):
        try:
            found.setdefault(Frame.from_path(path.name), []).append(path)
        except UserError:  # another file, such as a checksum
            continue
    if not found:
        raise UserError(f"{folder} holds no corrected frame (frame-BAND-RUN6-CAMCOL-FIELD4.fits.bz2).")
    return dict(sorted(found.items()))


def _files(folder: Path):
    """Yield files named like frames; a folder that several links lead to is entered once."""
    entered = set()
    for parent, folders, names in os.walk(folder, followlinks=True):  # Path.rglob follows links from Python 3.13 on
        if (real := os.path.realpath(parent)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        yield from (Path(parent) / name for name in fnmatch.filter(names, "frame-*.fits*"))


def _check_same(paths: list[Path]) -> None:
    """Refuse copies of one frame that differ: there is no telling which is right."""
    for other in paths[1:]:
        if not same_content(paths[0], other):
            raise UserError(
                f"{paths[0]} and {other} have the name of one frame but not the same content: "
                "remove the one that is wrong."
            )


def _overlaps(ra, dec, paths: dict[Frame, Path], threads: int, grid: PixelGrid) -> list[tuple[Frame, np.ndarray]]:
    """Return frames with the positions near their centre, in the order of right ascension.

    The centre is that of one frame of the field; whether a frame covers a position is determined when it is opened.
    """
    fields = {}
    for frame in paths:
        fields.setdefault(frame[:3], []).append(frame)
    with ThreadPoolExecutor(threads) as executor:
        found = executor.map(lambda bands: _centre(paths[bands[0]], bands[0]), fields.values())
        centres = dict(zip(fields, progress(found, total=len(fields), unit="field", label="index"), strict=True))
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    tree = cKDTree(unit_vectors(ra[known], dec[known]))
    vectors = unit_vectors(*np.array(list(centres.values())).T)
    reach = REACH + max(grid.half_diagonal - CUBE.half_diagonal, 0) / 3600
    near = tree.query_ball_point(vectors, 2 * np.sin(np.radians(reach) / 2), return_sorted=True)
    members = {key: known[rows] for key, rows in zip(fields, near, strict=True) if rows}
    ordered = sorted(members, key=lambda key: (centres[key][0] % 360, key))
    return [(frame, members[key]) for key in ordered for frame in fields[key]]


def _centre(path: Path, frame: Frame) -> tuple[float, float]:
    """Return a frame's centre (ra, dec in degrees) by its great-circle terms, since its header can be wrong."""
    terms = read_terms(path, frame)
    return Projection(read_wcs(path, frame)).centre() if terms is None else terms.centre()
