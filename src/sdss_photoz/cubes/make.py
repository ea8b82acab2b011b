"""Cubes of a chunk of galaxies: each frame decompressed once, one band after the other."""

from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz.archive import frames as archive_frames
from sdss_photoz.archive.scratch import Scratch
from sdss_photoz.config import Archive
from sdss_photoz.cubes.frame import DamagedFrame, OpenFrame
from sdss_photoz.cubes.quality import check_rows, quality_table
from sdss_photoz.cubes.resample import Projection, resample_grids, window
from sdss_photoz.cubes.stack import median_stack
from sdss_photoz.cubes.store import CUBE, open_store, write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS, Frame

FRAME_COLUMNS = ["run", "camcol", "field", "band"]

_DEFAULT = Archive()


def stack_cubes(ra, dec, overlaps: Iterable[tuple[Frame, np.ndarray]], copies: Callable, flux, depth, **options):
    """Make the cubes of many galaxies from the frames that overlap them.

    Parameters
    ----------
    ra, dec : ndarray
        (galaxy,) degrees.
    overlaps : iterable of (Frame, ndarray)
        Each frame with the indices of the galaxies that it may cover. Those of one band are read one after the other;
        a galaxy's frames are held in memory until its last one was read, so give frames that lie near each other on
        the sky near each other.
    copies : callable
        From a Frame to a generator of paths: the next one is asked for where one is damaged, and it is closed when the
        frame was read. One without any path leaves the frame out.
    flux : ndarray
        (galaxy, y, x, band) float32 to fill with nanomaggies, NaN where no frame covers the pixel.
    depth : ndarray
        (galaxy, band) integers to fill with the largest number of frames on any pixel.
    **options
        `threads` that decompress (1), `exact` weights (False), `label` of the progress bar ("frames").

    Returns
    -------
    counts : ndarray
        (galaxy, band) int64: frames that cover any pixel.
    coverage : ndarray
        (galaxy, band) float64: fraction of pixels that are covered.

    Raises
    ------
    UserError
        Where every copy of a frame is damaged, or another one than its name says.
    """
    overlaps = in_reading_order(overlaps)
    counts = np.zeros(depth.shape, np.int64)
    coverage = np.zeros(depth.shape)
    flux[:] = np.nan
    depth[:] = 0
    threads, exact = options.get("threads", 1), options.get("exact", False)
    with progress(total=len(overlaps), unit="frame", label=options.get("label", "frames")) as bar:
        for band_index, band in enumerate(BANDS):
            chosen = [(frame, galaxies) for frame, galaxies in overlaps if frame.band == band]
            awaited = np.zeros(len(ra), np.int64)
            for _, galaxies in chosen:
                np.add.at(awaited, galaxies, 1)
            layers = {}
            for frame, galaxies in chosen:
                for galaxy, layer in _layers(frame, copies(frame), galaxies, ra, dec, threads, exact):
                    layers.setdefault(galaxy, []).append(layer)
                awaited[galaxies] -= 1
                for galaxy in galaxies[awaited[galaxies] == 0]:
                    of_galaxy = layers.pop(galaxy, None)
                    if of_galaxy is None:
                        continue
                    counts[galaxy, band_index] = len(of_galaxy)
                    image, deepest, covered = median_stack(np.stack(of_galaxy))
                    flux[galaxy, :, :, band_index] = image
                    depth[galaxy, band_index] = deepest
                    coverage[galaxy, band_index] = covered / image.size
                bar.update()
    return counts, coverage


def _layers(frame: Frame, paths, galaxies, ra, dec, threads: int, exact: bool):
    """Yield the galaxies that a frame covers, each with its resampled (y, x) image."""
    damaged = []
    with closing(paths):
        for path in paths:
            try:
                projection, image, grids = _read(frame, path, galaxies, ra, dec, threads)
                break
            except DamagedFrame as error:
                damaged.append(error)
        else:
            _refuse(damaged)
            return
    if image is None:
        return
    factors = projection.flux_factor(ra[galaxies], dec[galaxies])
    layers, covered, _ = resample_grids(image, grids, factors, exact=exact, threads=threads)
    for place in np.flatnonzero(covered):
        yield galaxies[place], layers[place]


def _read(frame: Frame, path, galaxies, ra, dec, threads: int):
    """A frame's projection, its image as far as galaxies need it (None where it covers none), and their grids."""
    with OpenFrame(path, threads, frame) as opened:
        projection = Projection(opened.wcs)
        grids = projection.homography(ra[galaxies], dec[galaxies])
        windows = [window(grid) for grid in grids]
        if not any(windows):
            return projection, None, grids
        return projection, opened.read(max(read[0].stop for read in windows if read) - 1), grids


def _refuse(damaged: list[DamagedFrame]) -> None:
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        raise UserError(
            f"{damaged[-1].path} {damaged[-1].what}, though it was fetched once more: put a sound copy there, and tell "
            "the archive's help desk."
        )


def in_reading_order(overlaps: Iterable[tuple[Frame, np.ndarray]]) -> list[tuple[Frame, np.ndarray]]:
    """Frames with their galaxies, one band after the other."""
    return sorted(overlaps, key=lambda group: BANDS.index(group[0].band))


def group_overlaps(overlaps: pd.DataFrame) -> list[tuple[Frame, np.ndarray]]:
    """Frames with their galaxies, in the order of the first galaxy that each overlaps, then of run, camcol and field.

    Parameters
    ----------
    overlaps : DataFrame
        galaxy, run, camcol, field, band: one row a pair; repeats count once.
    """
    groups = [
        (Frame(int(run), int(camcol), int(field), band), np.unique(rows.to_numpy()))
        for (run, camcol, field, band), rows in overlaps.groupby(FRAME_COLUMNS, sort=True)["galaxy"]
    ]
    return sorted(groups, key=lambda group: (group[1][0], group[0]))


def make_chunk(
    galaxies: pd.DataFrame,
    overlaps: pd.DataFrame,
    manifest: pd.DataFrame,
    store,
    chunk: int,
    *,
    sas: str,
    mirror: str | Path,
    release: int = 12,
    archive: Archive = _DEFAULT,
    scratch: str | Path = "scratch",
    scratch_gb: float = 2.0,
    connections: int = 1,
    threads: int = 1,
) -> pd.DataFrame:
    """Make one chunk of a store: its shards of flux and depth, and the table of their quality.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, ra, dec (degrees), row: the galaxies of the chunk, all of them, in the order of their rows.
    overlaps : DataFrame
        galaxy (position in `galaxies`), run, camcol, field, band: the frames that may cover each galaxy.
    manifest : DataFrame
        run, camcol, field, band, state of the chunk's frames: those that are "ok" are in the archive's folder or the
        mirror, those that come "later" are fetched for this chunk alone where the mirror has none, others are left out.
    store : str or Path
        Folder of the store.
    chunk : int
        Number of the chunk.
    sas, mirror, release, archive
        Where frames are: see :func:`sdss_photoz.archive.frames.ensure`. More frames that come later may not be missing
        than `archive.missing_fraction` of them.
    scratch, scratch_gb, connections
        Folder for frames that come later, what it may hold (GB), and how many are fetched at a time: see
        :class:`sdss_photoz.archive.scratch.Scratch`.
    threads : int
        Threads that decompress.

    Returns
    -------
    DataFrame
        object_id, row, selection (digest), version; for each band frames_{b}, the frames that cover any pixel, and
        coverage_{b}, the fraction of pixels that are covered.

    Raises
    ------
    UserError
        Where a frame is not in the manifest, is missing or damaged, or the galaxies are not the chunk's.
    """
    group = open_store(store)
    check_rows(galaxies, group, store, chunk)
    states = {Frame(*key): state for *key, state in manifest[[*FRAME_COLUMNS, "state"]].itertuples(index=False)}
    wanted = group_overlaps(overlaps)
    unknown = [frame for frame, _ in wanted if frame not in states]
    if unknown:
        raise UserError(
            f"the manifest of chunk {chunk} lacks {len(unknown)} frames, among them {unknown[0].name}: "
            "rerun the stage archive."
        )
    flux = np.empty((len(galaxies), *CUBE), np.float32)
    depth = np.empty((len(galaxies), len(BANDS)), np.uint16)
    given = in_reading_order(group for group in wanted if states[group[0]] in (archive_frames.OK, archive_frames.LATER))
    later = [frame for frame, _ in given if states[frame] == archive_frames.LATER]
    lacking = {frame: None for frame in later if not archive_frames.is_there(frame, mirror, release)}  # in this order
    bounds = {"gigabytes": scratch_gb, "connections": connections, "needed": len(later)}
    fetched = Scratch(scratch, lacking, sas, release, archive, **bounds)

    def copies(frame):
        if frame in lacking:
            return fetched.copies(frame)
        return archive_frames.copies(frame, mirror, sas, release, archive)

    with fetched:
        counts, coverage = stack_cubes(
            galaxies["ra"].to_numpy(float),
            galaxies["dec"].to_numpy(float),
            given,
            copies,
            flux,
            depth,
            threads=threads,
            label=f"cubes of chunk {chunk}",
        )
    write_shard(store, chunk, flux, depth)
    return quality_table(galaxies, group, counts, coverage)
