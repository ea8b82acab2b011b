"""Cubes of a chunk of galaxies: each frame decompressed once, one band after the other."""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz import files
from sdss_photoz.archive import frames as archive_frames
from sdss_photoz.archive.frames import LATER, OK
from sdss_photoz.archive.scratch import Scratch
from sdss_photoz.config import Archive
from sdss_photoz.cubes.frame import DamagedFrame, OpenFrame
from sdss_photoz.cubes.great_circle import GreatCircle, doubts, locate, terms_of_fields
from sdss_photoz.cubes.quality import SATURATED, Provenance, check_rows, quality_table
from sdss_photoz.cubes.reading import FRAME_COLUMNS, group_overlaps, reading_order
from sdss_photoz.cubes.resample import Projection, resample_grids, window
from sdss_photoz.cubes.stack import STACKS, trim
from sdss_photoz.cubes.store import CUBE, open_store, write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS, Frame

BESIDE = 5e8  # bytes: libraries, tables, a frame with what decompresses it, its images before they are dealt out
AT_ONCE = 512  # galaxies resampled at a time: 8 MB
COPIES = 4  # of a chunk's flux, while its shard is written: memory of the layers may not have been given back by then

_DEFAULT = Archive()


class Layer(NamedTuple):
    """One frame's image of one galaxy.

    Attributes
    ----------
    frame : Frame
        Which frame.
    image : ndarray
        (y, x) float32, nanomaggies, NaN where the frame does not cover a pixel.
    saturated : float
        What a pixel of `image` holds that is saturated (nanomaggies); NaN where the frame does not tell its counts.
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
        Each frame with the indices of the galaxies that it may cover. Those of one band are read one after the other;
        a galaxy's images are held in memory until its last frame was read, so give frames that lie near each other on
        the sky near each other, or `reading_order` of them.
    copies : callable
        From a Frame to a generator of paths: the next one is asked for where one is damaged, and it is closed when the
        frame was read. One without any path leaves the frame out.
    flux : ndarray
        (galaxy, y, x, band) float32 to fill with nanomaggies, NaN where no frame covers the pixel.
    depth : ndarray
        (galaxy, band) integers to fill with the largest number of frames that count on any pixel.
    expected : mapping of Frame to GreatCircle, optional
        Where the archive has frames. Each header is checked against it, or against the frame's own great-circle terms:
        see :func:`sdss_photoz.cubes.great_circle.locate`. Headers that are wrong or unchecked are told on stderr.
    stack : {"median", "mean"}
        What a pixel takes from its frames.
    overlap_rows : {"keep", "trim"}
        Whether each field of a run counts on the rows that it shares with the next, or only the first.
    threads : int
        Threads that decompress and resample.
    exact : bool
        Exact weights: see :func:`sdss_photoz.cubes.resample.resample_grids`.
    label : str
        Name of the progress bar.

    Returns
    -------
    Provenance
        What the cubes are made of.

    Raises
    ------
    UserError
        Where every copy of a frame is damaged, or another one than its name says, or the archive has it elsewhere.
    """
    order = reading_order(overlaps)
    made = Provenance.of_nothing(len(ra))
    flux[:] = np.nan
    depth[:] = 0
    awaited = np.zeros((len(ra), len(BANDS)), np.int64)
    for frame, galaxies in order:
        awaited[galaxies, BANDS.index(frame.band)] += 1
    layers = defaultdict(list)
    expected = {} if expected is None else expected
    for frame, galaxies in progress(order, unit="frame", label=label):
        band = BANDS.index(frame.band)
        place = expected.get(frame), made.off
        for galaxy, layer, missing in _layers(frame, copies(frame), galaxies, ra, dec, place, threads, exact):
            made.missing[galaxy, band] = max(made.missing[galaxy, band], missing)
            if layer is not None:
                layers[galaxy].append(layer)
        awaited[galaxies, band] -= 1
        for galaxy in galaxies[awaited[galaxies, band] == 0]:
            if of_galaxy := layers.pop(galaxy, None):
                image, depth[galaxy, band] = _stacked(of_galaxy, stack, overlap_rows, made, (galaxy, band))
                flux[galaxy, :, :, band] = image
    for sentence in doubts(made.off, len({frame for frame, _ in order})):
        print(sentence, file=sys.stderr)
    return made


def _stacked(layers: list[Layer], stack: str, overlap_rows: str, made: Provenance, place) -> tuple[np.ndarray, int]:
    """The image and depth of one galaxy in one band, from its frames; what they are is noted at its place."""
    layers.sort(key=lambda layer: layer.frame)  # whatever the order of reading was
    images = np.stack([layer.image for layer in layers])
    if overlap_rows == "trim":
        trim(images, [layer.frame[:2] for layer in layers])
        used = np.isfinite(images).any(axis=(1, 2))
        layers = [layer for layer, is_used in zip(layers, used, strict=True) if is_used]
        images = images[used]
    image, deepest, covered = STACKS[stack](images)
    limits = np.array([layer.saturated for layer in layers])
    made.used[place] = tuple(layer.frame for layer in layers)
    made.frames[place] = len(layers)
    made.coverage[place] = covered / image.size
    saturated = (images >= limits[:, None, None]).any(axis=0)
    made.saturated[place] = np.nan if np.isnan(limits).any() else np.count_nonzero(saturated)
    return image, deepest


def _layers(frame: Frame, paths, galaxies, ra, dec, place, threads: int, exact: bool):
    """Yield each galaxy with its layer, None where the frame covers no pixel of it, and its missing pixels.

    `place` is where the archive has the frame, and the mapping that keeps how far its header is off.
    """
    damaged = []
    with closing(paths):
        for path in paths:
            try:
                projection, image, nmgy, near = _read(frame, path, galaxies, ra, dec, place, threads)
                break
            except DamagedFrame as error:
                damaged.append(error)
        else:
            _refuse(damaged)
            return
    for some in (near[start : start + AT_ONCE] for start in range(0, len(near), AT_ONCE)):
        factors = projection.flux_factor(ra[some], dec[some])
        grids = projection.homography(ra[some], dec[some])
        images, covered, missing = resample_grids(image, grids, factors, exact=exact, threads=threads)
        for k, galaxy in enumerate(some):
            layer = Layer(frame, images[k].copy(), SATURATED * nmgy * factors[k])  # a view would hold all the others
            yield galaxy, layer if covered[k] else None, missing[k]


def _read(frame: Frame, path, galaxies, ra, dec, place, threads: int):
    """A frame's projection, its image as far as it is needed, its nanomaggies a count, and the galaxies near it."""
    expected, headers_off = place
    with OpenFrame(path, threads, frame) as opened:
        wcs, off = locate(opened, frame, expected)
        if off != 0:
            headers_off[frame] = off
        projection = Projection(wcs)
        windows = [window(homography) for homography in projection.homography(ra[galaxies], dec[galaxies])]
        near = galaxies[[read is not None for read in windows]]
        last = max((read[0].stop for read in windows if read), default=0) - 1
        return projection, opened.read(last) if len(near) else None, opened.nanomaggies_per_count or np.nan, near


def _refuse(damaged: list[DamagedFrame]) -> None:
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        raise UserError(
            f"{damaged[-1].path} {damaged[-1].what}, though it was fetched once more: put a sound copy there, and tell "
            "the archive's help desk."
        )


def _room_for_layers(galaxies: int, chunk: int, memory_gb: float) -> float:
    """Bytes that the layers of a chunk may take, beside its flux and the rest."""
    needed = BESIDE + COPIES * galaxies * 4 * math.prod(CUBE)
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
        galaxy (position in `galaxies`), run, camcol, field, band: the frames that may cover each galaxy.
    manifest : DataFrame
        run, camcol, field, band, sha256, state of the chunk's frames: those that are "ok" are in the archive's folder
        or the mirror, those that come "later" are fetched for this chunk alone where the mirror has none, others are
        left out.
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
    fields : DataFrame, optional
        run, camcol, field, with the columns :data:`sdss_photoz.sample.footprint.CONDITIONS`, seeing and sky, and those
        of :func:`sdss_photoz.sample.footprint.overlapping_frames`, to which the frames' headers are compared.
    stack, overlap_rows
        As for :func:`stack_cubes`.
    memory_gb : float
        Memory that the job may take (GB): where its galaxies would pass it, they are cut from the frames in parts, and
        frames of two parts are read twice. The bytes of the shards do not depend on it.
    threads : int
        Threads that decompress and resample.

    Returns
    -------
    DataFrame
        As of :func:`sdss_photoz.cubes.quality.quality_table`.

    Raises
    ------
    UserError
        Where a frame is not in the manifest, is missing, damaged or elsewhere on the sky than `fields` say, the
        galaxies are not the chunk's, or `memory_gb` is not enough to write their cubes.
    """
    group = open_store(store)
    check_rows(galaxies, group, store, chunk)
    entries = manifest[[*FRAME_COLUMNS, "sha256", "state"]].itertuples(index=False, name=None)
    listed = {Frame(*entry[:4]): entry[4:] for entry in entries}
    wanted = group_overlaps(overlaps)
    unknown = [frame for frame, _ in wanted if frame not in listed]
    if unknown:
        raise UserError(
            f"the manifest of chunk {chunk} lacks {len(unknown)} frames, among them {unknown[0].name}: "
            "rerun the stage archive."
        )
    room = _room_for_layers(len(galaxies), chunk, memory_gb)
    flux = np.empty((len(galaxies), *CUBE), np.float32)
    depth = np.empty((len(galaxies), len(BANDS)), np.uint16)
    order = reading_order((group for group in wanted if listed[group[0]][1] in (OK, LATER)), room)
    coming = {frame: None for frame, _ in order if listed[frame][1] == LATER}
    lacking = {frame for frame in coming if not archive_frames.is_there(frame, mirror, release)}
    bounds = {"gigabytes": scratch_gb, "connections": connections, "needed": len(coming)}
    fetched = Scratch(scratch, [frame for frame, _ in order if frame in lacking], sas, release, archive, **bounds)

    def copies(frame):
        if frame in lacking:
            paths = fetched.copies(frame)
        else:
            paths = archive_frames.copies(frame, mirror, sas, release, archive)
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
