"""Make cubes for any table of positions from any folder of corrected frames.

POSITIONS is a table (CSV and other delimited text, parquet, FITS, VOTable, ECSV) with columns ra, dec (degrees). The
store holds flux (galaxy, y, x, band: ugriz) and depth (galaxy, band) in the order of the table; where no frame covers a
pixel flux is NaN. A row whose position is missing, or lies outside of all frames, is all NaN and has depth 0. Its
object_id is the table's own (object_id, objID, specObjID, …), to the last digit.
"""

import fnmatch
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
from sdss_photoz.cubes.frame import read_wcs, same_content
from sdss_photoz.cubes.great_circle import read_terms
from sdss_photoz.cubes.make import stack_cubes
from sdss_photoz.cubes.reading import reading_order
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.store import (
    CUBE,
    chunk_rows,
    create_store,
    keep_digests,
    open_store,
    write_shard,
)
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.sample.linking import unit_vectors
from sdss_photoz.survey import BANDS, Frame

REACH = 0.2  # degrees: half a frame's diagonal, half a grid's, and what the bands of a field may differ by
POSITION = {"ra": tables.RA, "dec": tables.DEC}
CHOICES = ("stack", "overlap_rows", "precision")
SHARD = 2048  # galaxies: 168 MB
PIXELS = int(np.prod(CUBE))
STORED = {"float32": 4, "float16": 2, "bits10": 2.5}  # bytes of disk a pixel, at most: 19 bits of bits10 vary
FILES = 2**17  # bytes of disk for a store's small files
BESIDE = 100  # bytes of disk a position: depth, coordinates, checksums
ROOM = 3e9  # bytes of resampled images held at a time: beyond it frames are read once more


def add_arguments(parser) -> None:
    """Add the words of ``sdss-photoz cutouts`` to an argparse parser."""
    parser.add_argument("positions", metavar="POSITIONS", help="table with columns ra, dec (degrees)")
    parser.add_argument("--frames", required=True, metavar="FOLDER", help="folder that holds corrected frames")
    parser.add_argument("--out", required=True, metavar="STORE", help="Zarr store to make; must not exist")
    parser.add_argument("--threads", type=int, default=1, help="threads that decompress and resample (default 1)")
    for key in CHOICES:  # as in the block cubes of the configuration
        field = Cubes.model_fields[key]
        options = {"choices": get_args(field.annotation), "default": field.default}
        options["help"] = f"{field.description} Default {field.default}."
        parser.add_argument(f"--{key.replace('_', '-')}", **options)


def main(arguments) -> None:
    """Run ``sdss-photoz cutouts``."""
    options = {key: getattr(arguments, key) for key in ("threads", *CHOICES)}
    positions = tables.read(arguments.positions)
    depth = cutouts(positions, arguments.frames, arguments.out, **options)
    covered = np.count_nonzero(depth, axis=0)
    counts = ", ".join(f"{band} {count}" for band, count in zip(BANDS, covered, strict=True))
    empty = np.count_nonzero(~depth.any(axis=1))
    print(f"{arguments.out}: {len(depth)} cubes; with at least one frame in {counts}; without any {empty}")
    named = tables.identifier_of(positions)
    whence = (
        "the numbers of the rows, for no column is called so, objID or the like" if named is None else f"its {named}"
    )
    print(f"object_id is {whence}")
    for column, quantity in POSITION.items():
        if missing := tables.measured(positions, column, quantity).missing:
            print(f"without a position: {tables.said(column, missing)}")


def cutouts(
    positions: pd.DataFrame,
    frames,
    out,
    threads: int = 1,
    *,
    stack: str = "median",
    overlap_rows: str = "keep",
    precision: str = "float32",
) -> np.ndarray:
    """Make a store of cubes for any positions from any folder of corrected frames.

    Parameters
    ----------
    positions : DataFrame
        ra, dec (degrees), in any order; repeats are allowed, and missing positions (NaN), whose cubes are all NaN.
        The first column that identifies rows (`tables.IDENTIFIERS`: object_id, objID, …; whole numbers or text) goes
        into the store as object_id; where there is none, the number of the row.
    frames : str or Path
        Folder searched for frames, at any depth, by their names in the archive. Each is read once, and its header
        checked against the great-circle terms at the end of its file: see
        :func:`sdss_photoz.cubes.great_circle.locate`. The attributes ``by_terms`` (pixels by which the header is wrong)
        and ``unchecked`` of the store, and sentences on stderr, name the frames whose header does not stand.
    out : str or Path
        Store to make, whole or not at all.
    threads : int
        Threads that decompress and resample; their number changes no bit.
    stack : {"median", "mean"}
        What a pixel takes from the frames that cover it.
    overlap_rows : {"keep", "trim"}
        Whether each field of a run counts on the rows that it shares with the next, or only the first.
    precision : {"float32", "float16", "bits10"}
        Numbers of the store: see :func:`sdss_photoz.cubes.store.create_store`.

    Returns
    -------
    ndarray
        (galaxy, band) uint16: largest number of frames on any pixel, 0 where no frame covers the galaxy.

    Raises
    ------
    UserError
        Where the output exists or cannot be made, its disk has no room for the cubes, a column is missing, a position
        is none on the sky, an identifier is missing or was rounded, the folder has no frames, a frame is damaged or not
        TAN, or two of one name differ.
    """
    out = Path(out)
    if threads < 1:
        raise UserError(f"--threads is {threads}, but at least one is needed.")
    if out.exists():
        raise UserError(f"{out} exists already: give another --out, or remove it first.")
    ra, dec = _checked(positions)
    object_id = _object_ids(positions)
    copies = _find_copies(frames)

    def only_copy(frame):
        yield copies[frame][0]

    chunks = -(-len(ra) // SHARD)
    with files.folder_beside(out) as folder, _room(folder, len(ra), precision) as (mapped, room):
        overlaps = _near(ra, dec, {frame: paths[0] for frame, paths in copies.items()}, threads)
        twice = [copies[frame] for frame, _ in overlaps if len(copies[frame]) > 1]
        for paths in progress(twice, unit="frame", label="copies", disable=not twice):
            _check_same(paths)
        store = folder / "store"
        table = pd.DataFrame({"object_id": object_id, "ra": ra, "dec": dec})
        create_store(store, table, chunks, precision=precision)
        flux = np.memmap(mapped, np.float32, "r+", shape=(len(ra), *CUBE))  # any number of cubes fits
        depth = np.zeros((len(ra), len(BANDS)), np.uint16)
        how = {"stack": stack, "overlap_rows": overlap_rows, "threads": threads}
        made = stack_cubes(ra, dec, reading_order(overlaps, ROOM), only_copy, flux, depth, **how)
        group = open_store(store)
        digests = []
        for chunk in progress(range(chunks), unit="shard", label="writing"):
            rows = chunk_rows(group, chunk)
            os.truncate(room, _stored(len(ra) - rows.stop, precision))  # makes room for the shard
            digests.append(write_shard(store, chunk, flux[rows], depth[rows]))
        by_terms = {frame.name: pixels for frame, pixels in sorted(made.off.items()) if pixels > 0}
        unchecked = [frame.name for frame, pixels in sorted(made.off.items()) if np.isnan(pixels)]
        keep_digests(store, digests, by_terms=by_terms, unchecked=unchecked)
        del flux
        store.replace(out)
    return depth


@contextmanager
def _room(folder: Path, count: int, precision: str) -> Iterator[tuple[Path, Path]]:
    """Take the room on the disk before the work: a file for the memory map of all cubes, and one to give to the store.

    Raises
    ------
    UserError
        Where there is none, now or later.
    """
    cubes, stored = count * PIXELS * 4, _stored(count, precision) + FILES
    what = f"the cubes of {count:,} positions"
    with files.full_disk_said(lambda why: files.no_room(folder, what, why, cubes + stored)):
        files.reserve(folder / "flux", cubes)
        files.reserve(folder / "room", stored)
        yield folder / "flux", folder / "room"


def _stored(count: int, precision: str) -> int:
    """Bytes that a number of cubes take in a store, at most."""
    return count * int(PIXELS * STORED[precision] + BESIDE)


def _checked(positions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    name = "the table of positions"
    ra, dec = (tables.measured(positions, column, quantity, name).values for column, quantity in POSITION.items())
    if len(positions) == 0:
        raise UserError("the table of positions is empty: give at least one ra, dec.")
    if not (np.isfinite(ra) & np.isfinite(dec)).any():
        raise UserError(f"the table has no position: ra or dec is missing in each of its {len(ra)} rows.")
    return ra, dec


def _object_ids(positions: pd.DataFrame) -> np.ndarray:
    """The table's own identifiers, int64, uint64 or text; where it has none, the numbers of the rows."""
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
    """Find corrected frames by their names, in a folder and all below it, links to folders included.

    Returns
    -------
    dict
        Path of each frame, in the order of run, camcol, field, band. Where a frame lies there twice, the first path.

    Raises
    ------
    UserError
        Where the folder is none or holds no frame.
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
        except UserError:  # a leftover of a transfer, a checksum
            continue
    if not found:
        raise UserError(f"{folder} holds no corrected frame (frame-BAND-RUN6-CAMCOL-FIELD4.fits.bz2).")
    return dict(sorted(found.items()))


def _files(folder: Path):
    """Files named like frames; a folder that links lead to more than once is entered once."""
    entered = set()
    for place, folders, names in os.walk(folder, followlinks=True):  # which Path.rglob learned in Python 3.13
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        yield from (Path(place) / name for name in fnmatch.filter(names, "frame-*.fits*"))


def _check_same(paths: list[Path]) -> None:
    """Refuse copies of one frame that differ: nobody knows which one is right."""
    for other in paths[1:]:
        if not same_content(paths[0], other):
            raise UserError(
                f"{paths[0]} and {other} have the name of one frame but not the same content: "
                "remove the one that is wrong."
            )


def _near(ra, dec, paths: dict[Frame, Path], threads: int) -> list[tuple[Frame, np.ndarray]]:
    """Frames with the positions near them, ordered by their right ascension.

    Each field is placed by one of its frames; whether a frame covers a position is decided when it is opened.
    """
    fields = {}
    for frame in paths:
        fields.setdefault(frame[:3], []).append(frame)
    with ThreadPoolExecutor(threads) as executor:
        middles = executor.map(lambda bands: _middle(paths[bands[0]], bands[0]), fields.values())
        centres = dict(zip(fields, progress(middles, total=len(fields), unit="field", label="index"), strict=True))
    there = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    tree = cKDTree(unit_vectors(ra[there], dec[there]))
    vectors = unit_vectors(*np.array(list(centres.values())).T)
    near = tree.query_ball_point(vectors, 2 * np.sin(np.radians(REACH) / 2), return_sorted=True)
    members = {key: there[rows] for key, rows in zip(fields, near, strict=True) if rows}
    ordered = sorted(members, key=lambda key: (centres[key][0] % 360, key))
    return [(frame, members[key]) for key in ordered for frame in fields[key]]


def _middle(path: Path, frame: Frame) -> tuple[float, float]:
    """Position of a frame's middle (degrees): by its great-circle terms, for its header can be wrong."""
    terms = read_terms(path, frame)
    return Projection(read_wcs(path, frame)).centre() if terms is None else terms.centre()
