"""Make the cubes of a chunk of galaxies, band by band, decompressing each frame once."""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz import files
from sdss_photoz.config import Archive
from sdss_photoz.cubes.frame import DamagedFrame, OpenFrame
from sdss_photoz.cubes.frame_astrometry import GreatCircle, header_warnings, locate, terms_of_fields
from sdss_photoz.cubes.quality import SATURATED, Provenance, check_rows, quality_table
from sdss_photoz.cubes.reading_order import FRAME_COLUMNS, group_overlaps, reading_order
from sdss_photoz.cubes.resample import Projection, resample_grids, window
from sdss_photoz.cubes.stack import STACKS, trim
from sdss_photoz.cubes.store import grid_of, open_store, write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.frames.mirror import LATER, OK, is_in_mirror
from sdss_photoz.frames.mirror import copies as copies_in_mirror
from sdss_photoz.frames.scratch import Scratch
from sdss_photoz.progress import progress
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.surveys.sdss import Frame

BASE_MEMORY = 5e8  # bytes: libraries, tables, a frame and its decompressor, images of one frame
BATCH = 2**21  # pixels resampled at a time: 8 MB, 512 galaxies of 64 x 64
FLUX_COPIES = 4  # of a chunk's flux in memory while its shard is written, with freed layers not yet returned

_DEFAULT = Archive()
_log = logging.getLogger(__name__)


class Layer(NamedTuple):
    """One frame's image of one galaxy.

    Attributes
    ----------
    frame : Frame
        The frame.
    image : ndarray
        (y, x) float32, nanomaggies, NaN where the frame does not cover a pixel.
    saturated : float
        Flux from which a pixel of `image` counts as saturated (nanomaggies); NaN if the header has no NMGY.
    """

    frame: Frame
    image: np.ndarray
    saturated: float


def stack_cubes(
    ra,
    dec,
    overlaps: Iterable[tuple[Frame, np.ndarray]],
    copies: Callable,
    flux,
    depth,
    *,
    grid: PixelGrid = CUBE,
    expected: Mapping[Frame, GreatCircle] | None = None,
    stack: str = "median",
    overlap_rows: str = "keep",
    threads: int = 1,
    exact: bool = False,
    label: str = "frames",
) -> Provenance:
    """Make the cubes of many galaxies from the frames that overlap them.

    Parameters
    ----------
    ra, dec : ndarray
        (galaxy,) degrees.
    overlaps : iterable of (Frame, ndarray)
        Each frame with the indices of the galaxies that it may cover. A galaxy's images of one band are held in memory
        until the last of its frames was read, so neighbours on the sky should be neighbours in the sequence, as in
        :func:`sdss_photoz.cubes.reading_order.reading_order`.
    copies : callable
        From a Frame to a generator of paths. The next path is requested if one is damaged; the generator is closed
        once the frame was read. A frame without any path is skipped.
    flux : ndarray
        (galaxy, y, x, band) float32, filled with nanomaggies, NaN where no frame covers the pixel.
    depth : ndarray
        (galaxy, band) integers, filled with the largest number of stacked frames on any pixel.
    grid : PixelGrid
        Pixels and bands of the cubes; all frames must be of these bands.
    expected : mapping of Frame to GreatCircle, optional
        Astrometric terms of frames by the archive. Each header is checked against them, or against the frame's own
        terms: see :func:`sdss_photoz.cubes.frame_astrometry.locate`. Wrong or unchecked headers are logged as warnings.
    stack : {"median", "mean"}
        Statistic of the frames that cover a pixel.
    overlap_rows : {"keep", "trim"}
        Whether adjacent fields of a run both count on the rows that they share, or only the first.
    threads : int
        Threads for decompression and resampling.
    exact : bool
        Compute exact weights: see :func:`sdss_photoz.cubes.resample.resample_grids`.
    label : str
        Label of the progress bar.

    Returns
    -------
    Provenance
        The frames, coverage and defects of each cube.

    Raises
    ------
    UserError
        If all copies of a frame are damaged or hold another frame, or its position contradicts `expected`.
    """
    order = reading_order(overlaps)
    made = Provenance.of_nothing(len(ra), len(grid.bands))
    flux[:] = np.nan
    depth[:] = 0
    pending = np.zeros((len(ra), len(grid.bands)), np.int64)
    for frame, galaxies in order:
        pending[galaxies, grid.index(frame.band)] += 1
    layers = defaultdict(list)
    expected = {} if expected is None else expected
    for frame, galaxies in progress(order, unit="frame", label=label):
        band = grid.index(frame.band)
        known = {"grid": grid, "expected": expected.get(frame), "headers_off": made.off}
        read = partial(_read, frame, galaxies=galaxies, ra=ra, dec=dec, **known)
        for galaxy, layer, missing in _layers(frame, copies(frame), read, ra, dec, grid.size, threads, exact):
            made.missing[galaxy, band] = max(made.missing[galaxy, band], missing)
            if layer is not None:
                layers[galaxy].append(layer)
        pending[galaxies, band] -= 1
        for galaxy in galaxies[pending[galaxies, band] == 0]:
            if complete := layers.pop(galaxy, None):
                image, depth[galaxy, band] = _stack_layers(complete, stack, overlap_rows, made, (galaxy, band))
                flux[galaxy, :, :, band] = image
    for message in header_warnings(made.off, len({frame for frame, _ in order})):
        _log.warning(message)
    return made


def _stack_layers(
    layers: list[Layer], stack: str, overlap_rows: str, made: Provenance, index
) -> tuple[np.ndarray, int]:
    """Return image and depth of one galaxy in one band, and record its provenance at `index` (galaxy, band)."""
    layers.sort(key=lambda layer: layer.frame)  # independent of the order of reading
    images = np.stack([layer.image for layer in layers])
    if overlap_rows == "trim":
        trim(images, [layer.frame[:2] for layer in layers])
        used = np.isfinite(images).any(axis=(1, 2))
        layers = [layer for layer, is_used in zip(layers, used, strict=True) if is_used]
        images = images[used]
    image, deepest, covered = STACKS[stack](images)
    limits = np.array([layer.saturated for layer in layers])
    made.used[index] = tuple(layer.frame for layer in layers)
    made.frames[index] = len(layers)
    made.coverage[index] = covered / image.size
    saturated = (images >= limits[:, None, None]).any(axis=0)
    made.saturated[index] = np.nan if np.isnan(limits).any() else np.count_nonzero(saturated)
    return image, deepest


def _layers(frame: Frame, paths, read: Callable, ra, dec, size: int, threads: int, exact: bool):
    """Yield each galaxy with its layer, None if the frame covers no pixel of it, and its number of missing pixels.

    `read` is :func:`_read` with all but its path and threads; `size` is the number of pixels of a cube's side.
    """
    damaged = []
    with closing(paths):
        for path in paths:
            try:
                projection, image, nmgy, near = read(path=path, threads=threads)
                break
            except DamagedFrame as error:
                damaged.append(error)
        else:
            _raise_damaged(damaged)
            return
    number = max(BATCH // size**2, 1)
    for batch in (near[start : start + number] for start in range(0, len(near), number)):
        factors = projection.flux_factor(ra[batch], dec[batch])
        grids = projection.homography(ra[batch], dec[batch])
        images, covered, missing = resample_grids(image, grids, factors, exact=exact, threads=threads, size=size)
        for k, galaxy in enumerate(batch):
            layer = Layer(
                frame, images[k].copy(), SATURATED * nmgy * factors[k]
            )  # a view would keep the whole batch in memory
            yield galaxy, layer if covered[k] else None, missing[k]


def _read(frame: Frame, *, path, galaxies, ra, dec, grid: PixelGrid, expected, headers_off, threads: int):
    """Return a frame's projection, its image to the last row needed, nanomaggies per count, and galaxies near it.

    `expected` are the frame's terms by the archive; `headers_off` collects the errors of wrong headers.
    """
    with OpenFrame(path, threads, frame) as opened:
        wcs, off = locate(opened, frame, expected)
        if off != 0:
            headers_off[frame] = off
        projection = Projection(wcs, grid)
        homographies = projection.homography(ra[galaxies], dec[galaxies])
        windows = [window(homography, size=grid.size) for homography in homographies]
        near = galaxies[[read is not None for read in windows]]
        last = max((read[0].stop for read in windows if read), default=0) - 1
        return projection, opened.read(last) if len(near) else None, opened.nanomaggies_per_count or np.nan, near


def _raise_damaged(damaged: list[DamagedFrame]) -> None:
    """Raise the error of a frame of which all copies are damaged; none if there was no copy."""
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        raise UserError(
            f"{damaged[-1].path} {damaged[-1].what}, though it was fetched once more: put a sound copy there, and tell "
            "the archive's help desk."
        )


def _memory_for_layers(galaxies: int, chunk: int, memory_gb: float, grid: PixelGrid) -> float:
    """Return the bytes of `memory_gb` left for the layers of a chunk."""
    needed = BASE_MEMORY + FLUX_COPIES * galaxies * 4 * math.prod(grid.shape)
    if needed > memory_gb * 1e9:
        raise UserError(
            f"chunk {chunk} has {galaxies} galaxies, and writing their cubes takes {needed / 1e9:.1f} GB, but "
            f"cubes.memory_gb is {memory_gb:g}: raise it, or raise sample.chunks."
        )
    return memory_gb * 1e9 - needed


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
    fields: pd.DataFrame | None = None,
    stack: str = "median",
    overlap_rows: str = "keep",
    memory_gb: float = 4.0,
    threads: int = 1,
) -> pd.DataFrame:
    """Make one chunk of a store: its shards of flux and depth, and the table of their quality.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, ra, dec (degrees), row: the galaxies of the chunk, all of them, in the order of their rows.
    overlaps : DataFrame
        galaxy (row number in `galaxies`), run, camcol, field, band: the frames that may cover each galaxy.
    manifest : DataFrame
        run, camcol, field, band, sha256, state of the chunk's frames: those that are "ok" are in the archive's folder
        or the mirror, those that come "later" are fetched for this chunk alone where the mirror has none, others are
        left out.
    store : str or Path
        Folder of the store.
    chunk : int
        Number of the chunk.
    sas, mirror, release, archive
        Where frames are: see :func:`sdss_photoz.frames.mirror.ensure`. More frames that come later may not be missing
        than `archive.missing_fraction` of them.
    scratch, scratch_gb, connections
        Folder for frames that come later, what it may hold (GB), and how many are fetched at a time: see
        :class:`sdss_photoz.frames.scratch.Scratch`.
    fields : DataFrame, optional
        run, camcol, field, with the columns :data:`sdss_photoz.surveys.great_circle.CONDITIONS`, seeing and sky, and
        those of :func:`sdss_photoz.frames.footprint.overlapping_frames`, to which the frames' headers are compared.
    stack, overlap_rows
        As for :func:`stack_cubes`.
    memory_gb : float
        Memory limit of the job (GB). If the images of all galaxies would exceed it, the galaxies are split into parts,
        and frames of two parts are read twice. The bytes of the shards do not depend on it.
    threads : int
        Threads for decompression and resampling.

    Returns
    -------
    DataFrame
        As of :func:`sdss_photoz.cubes.quality.quality_table`.

    Raises
    ------
    UserError
        If a frame is not in the manifest, is missing, damaged or contradicts the positions in `fields`, the galaxies
        are not the chunk's, or `memory_gb` does not suffice to write their cubes.
    """
    group = open_store(store)
    check_rows(galaxies, group, store, chunk)
    grid = grid_of(group)
    entries = manifest[[*FRAME_COLUMNS, "sha256", "state"]].itertuples(index=False, name=None)
    listed = {Frame(*entry[:4]): entry[4:] for entry in entries}
    wanted = group_overlaps(overlaps)
    unknown = [frame for frame, _ in wanted if frame not in listed]
    if unknown:
        raise UserError(
            f"the manifest of chunk {chunk} lacks {len(unknown)} frames, among them {unknown[0].name}: "
            "rerun the stage archive."
        )
    layer_memory = _memory_for_layers(len(galaxies), chunk, memory_gb, grid)
    flux = np.empty((len(galaxies), *grid.shape), np.float32)
    depth = np.empty((len(galaxies), len(grid.bands)), np.uint16)
    usable = (group for group in wanted if listed[group[0]][1] in (OK, LATER))
    order = reading_order(usable, layer_memory, 4 * grid.size**2)
    coming = {frame: None for frame, _ in order if listed[frame][1] == LATER}
    lacking = {frame for frame in coming if not is_in_mirror(frame, mirror, release)}
    bounds = {"gigabytes": scratch_gb, "connections": connections, "needed": len(coming)}
    fetched = Scratch(scratch, [frame for frame, _ in order if frame in lacking], sas, release, archive, **bounds)

    def copies(frame):
        in_mirror = frame not in lacking
        paths = copies_in_mirror(frame, mirror, sas, release, archive) if in_mirror else fetched.copies(frame)
        with closing(paths):
            for path in paths:
                if frame in coming:  # only now is it known what came
                    listed[frame] = files.sha256(path), OK
                yield path

    with fetched:
        made = stack_cubes(
            galaxies["ra"].to_numpy(float),
            galaxies["dec"].to_numpy(float),
            order,
            copies,
            flux,
            depth,
            grid=grid,
            expected=terms_of_fields(fields, [frame for frame, _ in order]),
            stack=stack,
            overlap_rows=overlap_rows,
            threads=threads,
            label=f"cubes of chunk {chunk}",
        )
    for frame, reason in fetched.missing.items():
        listed[frame] = "", reason
    frames_digest = files.digest(sorted([frame.path(release), *listed[frame]] for frame, _ in wanted))
    shards = write_shard(store, chunk, flux, depth)
    return quality_table(galaxies, group, made, shards, frames_digest=frames_digest, fields=fields)
