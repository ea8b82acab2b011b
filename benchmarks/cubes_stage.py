"""Time of the stage over that of decompression, by the number of galaxies per frame and by depth."""

import tempfile
import time
from pathlib import Path

import indexed_bzip2
import numpy as np
import pandas as pd
from astropy.io import fits
from clocks import in_own_process, peak_gigabytes, quiet

from sdss_photoz.cubes.cutouts import find_frames
from sdss_photoz.cubes.frame import read_wcs
from sdss_photoz.cubes.frame_astrometry import GreatCircle, read_terms
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.make import stack_cubes
from sdss_photoz.cubes.resample import Projection, window
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.surveys import CUBE, SDSS
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame

HEADERS = 4 * 2880  # bytes
ROW = 4 * FRAME_SHAPE[1]  # bytes


class TimedCopies:
    """The `copies` of `stack_cubes`, which times the job and the bare decompression of the same rows, frame by frame.

    Parameters
    ----------
    paths : dict
        Path of each frame.
    last_rows : dict
        Number of rows of each frame to decompress.
    """

    def __init__(self, paths: dict[Frame, Path], last_rows: dict[Frame, int]):
        self._paths, self._last_rows = paths, last_rows
        self._times = []  # frame, seconds of bare decompression, seconds of the job until the next frame

    def __call__(self, frame: Frame):
        self._close()
        start = time.process_time()
        _decompress(self._paths[frame], HEADERS + ROW * self._last_rows[frame])
        self._given = time.process_time()
        self._times.append([frame, self._given - start, None])
        yield self._paths[frame]

    def _close(self) -> None:
        if self._times:
            self._times[-1][2] = time.process_time() - self._given

    def finished(self) -> pd.DataFrame:
        """Return CPU seconds bare and stage, a row for each request of a frame, which the index names."""
        self._close()
        return pd.DataFrame(self._times, columns=["frame", "bare", "stage"]).set_index("frame")


def _decompress(path: Path, size: int) -> None:
    with open(path, "rb") as file:
        bzip2 = file.read(3) == b"BZh"
    with indexed_bzip2.open(str(path), parallelization=1) if bzip2 else open(path, "rb") as file:
        file.read(size)


def _random_positions(projection: Projection, count: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Draw right ascensions and declinations (degrees) uniformly over a frame."""
    x, y = rng.uniform(0, [[FRAME_SHAPE[1]], [FRAME_SHAPE[0]]], (2, count))
    places = np.linalg.solve(projection.from_sky, np.stack([x, y, np.ones(count)]))
    return np.degrees(np.arctan2(places[1], places[0])) % 360, np.degrees(np.arctan2(places[2], np.hypot(*places[:2])))


def _expected(paths: dict[Frame, Path]) -> dict[Frame, GreatCircle]:
    """Return the terms of frames, which a run has from the archive's table of fields."""
    return {frame: terms for frame, path in paths.items() if (terms := read_terms(path, frame))}


def _last_row(projection: Projection, ra, dec) -> int:
    windows = [window(homography) for homography in projection.homography(ra, dec)]
    return max((read[0].stop for read in windows if read), default=0)


def stage(sas: Path, galaxies: int, frames: int) -> dict[str, float]:
    """Time the cubes of at least `frames` frames with `galaxies` galaxies each, and their shard; frames may repeat.

    Returns
    -------
    dict
        frames, galaxies_per_frame; over_decompression: ratio of CPU seconds; fastest: that of the fastest visit to each
        frame; decompression: its fraction of the stage; frame_ms, cutouts_per_second: of the stage; gigabytes: peak
        memory; libraries_gigabytes: that before the stage.
    """
    libraries = peak_gigabytes()
    paths, rng = find_frames(sas), np.random.default_rng(1)
    projections = {frame: Projection(read_wcs(path)) for frame, path in paths.items()}
    fields = {frame[:3]: _random_positions(projection, galaxies, rng) for frame, projection in projections.items()}
    repeats = -(-frames // len(paths))
    ra, dec = np.tile(np.concatenate(list(fields.values()), axis=1), repeats)
    first = {field: galaxies * k for k, field in enumerate(fields)}
    overlaps = [
        (frame, repeat * galaxies * len(fields) + first[frame[:3]] + np.arange(galaxies))
        for repeat in range(repeats)
        for frame in paths
    ]
    copies = TimedCopies(paths, {frame: _last_row(projections[frame], *fields[frame[:3]]) for frame in paths})
    expected = _expected(paths)
    compile_loops(*next(iter(paths.items())))
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame({"object_id": np.arange(len(ra)), "ra": ra, "dec": dec})
        create_store(Path(folder) / "store", table, 1)
        flux, depth = _empty_cubes(len(ra))
        with quiet():
            stack_cubes(ra, dec, overlaps, copies, flux, depth, expected=expected)
        times = copies.finished()
        start = time.process_time()
        write_shard(Path(folder) / "store", 0, flux, depth)
        writing = time.process_time() - start
    seconds, bare = times["stage"].sum() + writing, times["bare"].sum()
    fastest = times.groupby(level="frame").min().sum()
    return {
        "frames": len(overlaps),
        "galaxies_per_frame": galaxies,
        "over_decompression": seconds / bare,
        "fastest": (fastest["stage"] + writing / repeats) / fastest["bare"],
        "decompression": bare / seconds,
        "frame_ms": 1e3 * seconds / len(overlaps),
        "cutouts_per_second": galaxies * len(overlaps) / seconds,
        "gigabytes": peak_gigabytes(),
        "libraries_gigabytes": libraries,
    }


def galaxies_per_frame(frame: Frame, path: Path, counts, rounds: int) -> pd.DataFrame:
    """Measure over_decompression and ms_per_cutout by the number of galaxies per frame; index galaxies."""
    compile_loops(frame, path)
    expected = _expected({frame: path})
    projection, rng = Projection(read_wcs(path)), np.random.default_rng(2)
    places = {count: _random_positions(projection, count, rng) for count in counts}
    times = {count: [] for count in counts}
    for _ in range(rounds):
        for count, (ra, dec) in places.items():
            copies = TimedCopies({frame: path}, {frame: _last_row(projection, ra, dec)})
            with quiet():
                stack_cubes(ra, dec, [(frame, np.arange(count))], copies, *_empty_cubes(count), expected=expected)
            times[count].append(copies.finished())
    best = pd.DataFrame({count: pd.concat(found).min() for count, found in times.items()}).T.rename_axis("galaxies")
    return pd.DataFrame(
        {"over_decompression": best["stage"] / best["bare"], "ms_per_cutout": 1e3 * best["stage"] / best.index}
    )


def _empty_cubes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return empty arrays for the flux and depth of `count` galaxies."""
    return np.empty((count, *CUBE.shape), np.float32), np.empty((count, len(CUBE.bands)), np.uint16)


def depths(counts, galaxies: int) -> pd.DataFrame:
    """Time the cubes of galaxies in one band from uncompressed frames, for each number of frames in `counts`.

    Returns
    -------
    DataFrame
        ms_per_cutout: CPU milliseconds per galaxy and frame; gigabytes: peak memory; index depth.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_visits(Path(folder), max(counts))
        rows = {count: in_own_process(_deep, Path(folder), count, galaxies) for count in counts}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("depth")


def _write_visits(folder: Path, visits: int) -> None:
    """Write uncompressed frames of noise, of one field observed by many runs."""
    noise = np.random.default_rng(3).normal(0, 0.03, FRAME_SHAPE).astype(">f4")
    cards = fits.Header()
    cards.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1025.0, "CRPIX2": 745.0})
    cards.update({"CAMCOL": 1, "FILTER": "r", "FRAME": 11, "NMGY": 0.005, "CRVAL2": 0.0, "CD1_1": 0.0, "CD2_2": 0.0})
    cards.update({"CD1_2": SDSS.pixel_scale / 3600, "CD2_1": SDSS.pixel_scale / 3600})
    for run in range(1, visits + 1):
        cards.update({"RUN": run, "CRVAL1": 20.0 + 1e-5 * run})
        name = Frame(run, 1, 11, "r").name.removesuffix(".bz2")
        fits.PrimaryHDU(np.roll(noise, 37 * run, axis=1), cards).writeto(folder / name)


def _deep(folder: Path, visits: int, galaxies: int) -> dict[str, float]:
    paths = {frame: path for frame, path in find_frames(folder).items() if frame.run <= visits}
    ra, dec = _random_positions(Projection(read_wcs(paths[Frame(1, 1, 11, "r")])), galaxies, np.random.default_rng(4))
    flux, depth = _empty_cubes(galaxies)

    def copies(frame):
        yield paths[frame]

    compile_loops(*next(iter(paths.items())))
    with quiet():
        start = time.process_time()
        stack_cubes(ra, dec, [(frame, np.arange(galaxies)) for frame in paths], copies, flux, depth)
        seconds = time.process_time() - start
    return {"ms_per_cutout": 1e3 * seconds / galaxies / visits, "gigabytes": peak_gigabytes()}


def compile_loops(frame: Frame, path: Path) -> None:
    """Make one cube, to compile the loops, or read them from the cache, before timing."""
    ra, dec = _random_positions(Projection(read_wcs(path)), 1, np.random.default_rng(0))
    with quiet():
        stack_cubes(ra, dec, [(frame, np.zeros(1, int))], TimedCopies({frame: path}, {frame: 0}), *_empty_cubes(1))
