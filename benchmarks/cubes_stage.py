"""The stage against the decompression in it, over galaxies a frame, and over depth."""

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
from sdss_photoz.cubes.great_circle import GreatCircle, read_terms
from sdss_photoz.cubes.make import stack_cubes
from sdss_photoz.cubes.resample import Projection, window
from sdss_photoz.cubes.store import create_store, write_shard
from sdss_photoz.survey import CUBE_SIZE, FRAME_SHAPE, PIXEL_SCALE, Frame

HEADERS = 4 * 2880  # bytes
ROW = 4 * FRAME_SHAPE[1]  # bytes


class Alternating:
    """The copies of frames that a job asks for, each decompressed once more, on its own, before it is handed over.

    So the job and bare decompression, to the same last row, are measured in turn, frame by frame.

    Parameters
    ----------
    paths : dict
        Path of each frame.
    last_rows : dict
        Rows that are decompressed of each.
    """

    def __init__(self, paths: dict[Frame, Path], last_rows: dict[Frame, int]):
        self._paths, self._last_rows = paths, last_rows
        self._times = []  # frame, its bare decompression, the job's seconds until it asks for the next

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
        """Processor seconds: bare, stage, a row for each time that a frame was asked for, its name in the index."""
        self._close()
        return pd.DataFrame(self._times, columns=["frame", "bare", "stage"]).set_index("frame")


def _decompress(path: Path, size: int) -> None:
    with open(path, "rb") as file:
        bzip2 = file.read(3) == b"BZh"
    with indexed_bzip2.open(str(path), parallelization=1) if bzip2 else open(path, "rb") as file:
        file.read(size)


def _anywhere(projection: Projection, count: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Right ascensions and declinations (degrees) of places spread evenly over a frame."""
    x, y = rng.uniform(0, [[FRAME_SHAPE[1]], [FRAME_SHAPE[0]]], (2, count))
    places = np.linalg.solve(projection.from_sky, np.stack([x, y, np.ones(count)]))
    return np.degrees(np.arctan2(places[1], places[0])) % 360, np.degrees(np.arctan2(places[2], np.hypot(*places[:2])))


def _expected(paths: dict[Frame, Path]) -> dict[Frame, GreatCircle]:
    """What a run knows of frames from the archive's table of fields, so that it need not read their ends."""
    return {frame: terms for frame, path in paths.items() if (terms := read_terms(path, frame))}


def _last_row(projection: Projection, ra, dec) -> int:
    windows = [window(homography) for homography in projection.homography(ra, dec)]
    return max((read[0].stop for read in windows if read), default=0)


def stage(sas: Path, galaxies: int, frames: int) -> dict[str, float]:
    """Cubes of at least so many frames with so many galaxies each, and their shard; frames may come more than once.

    Returns
    -------
    dict
        frames, galaxies_a_frame; over_decompression: ratio of processor seconds, all of them; undisturbed: that of the
        fastest visits to each frame; share: of decompression in the stage; frame_ms, cutouts_a_second: of the stage;
        gigabytes: peak memory; libraries_gigabytes: before it began.
    """
    libraries = peak_gigabytes()
    paths, rng = find_frames(sas), np.random.default_rng(1)
    projections = {frame: Projection(read_wcs(path)) for frame, path in paths.items()}
    fields = {frame[:3]: _anywhere(projection, galaxies, rng) for frame, projection in projections.items()}
    repeats = -(-frames // len(paths))
    ra, dec = np.tile(np.concatenate(list(fields.values()), axis=1), repeats)
    first = {field: galaxies * k for k, field in enumerate(fields)}
    overlaps = [
        (frame, repeat * galaxies * len(fields) + first[frame[:3]] + np.arange(galaxies))
        for repeat in range(repeats)
        for frame in paths
    ]
    copies = Alternating(paths, {frame: _last_row(projections[frame], *fields[frame[:3]]) for frame in paths})
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
        "galaxies_a_frame": galaxies,
        "over_decompression": seconds / bare,
        "undisturbed": (fastest["stage"] + writing / repeats) / fastest["bare"],
        "share": bare / seconds,
        "frame_ms": 1e3 * seconds / len(overlaps),
        "cutouts_a_second": galaxies * len(overlaps) / seconds,
        "gigabytes": peak_gigabytes(),
        "libraries_gigabytes": libraries,
    }


def galaxies_a_frame(frame: Frame, path: Path, counts, rounds: int) -> pd.DataFrame:
    """The stage's ratio to decompression over galaxies a frame: over_decompression, ms_a_cutout; index galaxies."""
    compile_loops(frame, path)
    expected = _expected({frame: path})
    projection, rng = Projection(read_wcs(path)), np.random.default_rng(2)
    places = {count: _anywhere(projection, count, rng) for count in counts}
    times = {count: [] for count in counts}
    for _ in range(rounds):
        for count, (ra, dec) in places.items():
            copies = Alternating({frame: path}, {frame: _last_row(projection, ra, dec)})
            with quiet():
                stack_cubes(ra, dec, [(frame, np.arange(count))], copies, *_empty_cubes(count), expected=expected)
            times[count].append(copies.finished())
    best = pd.DataFrame({count: pd.concat(found).min() for count, found in times.items()}).T.rename_axis("galaxies")
    return pd.DataFrame(
        {"over_decompression": best["stage"] / best["bare"], "ms_a_cutout": 1e3 * best["stage"] / best.index}
    )


def _empty_cubes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Room for the flux and depth of so many galaxies."""
    return np.empty((count, CUBE_SIZE, CUBE_SIZE, 5), np.float32), np.empty((count, 5), np.uint16)


def depths(counts, galaxies: int) -> pd.DataFrame:
    """Cubes of many galaxies of one band, as many frames deep as `counts` say; the frames lie there plain.

    Returns
    -------
    DataFrame
        ms_a_cutout: processor milliseconds of the stage a galaxy and frame; gigabytes: peak memory; index depth.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write_visits(Path(folder), max(counts))
        rows = {count: in_own_process(_deep, Path(folder), count, galaxies) for count in counts}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("depth")


def _write_visits(folder: Path, visits: int) -> None:
    """Plain frames of noise, of one field seen by many runs."""
    noise = np.random.default_rng(3).normal(0, 0.03, FRAME_SHAPE).astype(">f4")
    cards = fits.Header()
    cards.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1025.0, "CRPIX2": 745.0})
    cards.update({"CAMCOL": 1, "FILTER": "r", "FRAME": 11, "NMGY": 0.005, "CRVAL2": 0.0, "CD1_1": 0.0, "CD2_2": 0.0})
    cards.update({"CD1_2": PIXEL_SCALE / 3600, "CD2_1": PIXEL_SCALE / 3600})
    for run in range(1, visits + 1):
        cards.update({"RUN": run, "CRVAL1": 20.0 + 1e-5 * run})
        name = Frame(run, 1, 11, "r").name.removesuffix(".bz2")
        fits.PrimaryHDU(np.roll(noise, 37 * run, axis=1), cards).writeto(folder / name)


def _deep(folder: Path, visits: int, galaxies: int) -> dict[str, float]:
    paths = {frame: path for frame, path in find_frames(folder).items() if frame.run <= visits}
    ra, dec = _anywhere(Projection(read_wcs(paths[Frame(1, 1, 11, "r")])), galaxies, np.random.default_rng(4))
    flux, depth = _empty_cubes(galaxies)

    def copies(frame):
        yield paths[frame]

    compile_loops(*next(iter(paths.items())))
    with quiet():
        start = time.process_time()
        stack_cubes(ra, dec, [(frame, np.arange(galaxies)) for frame in paths], copies, flux, depth)
        seconds = time.process_time() - start
    return {"ms_a_cutout": 1e3 * seconds / galaxies / visits, "gigabytes": peak_gigabytes()}


def compile_loops(frame: Frame, path: Path) -> None:
    """Make one cube, so that the loops are compiled, or read from their cache, before anything is timed."""
    ra, dec = _anywhere(Projection(read_wcs(path)), 1, np.random.default_rng(0))
    with quiet():
        stack_cubes(ra, dec, [(frame, np.zeros(1, int))], Alternating({frame: path}, {frame: 0}), *_empty_cubes(1))
