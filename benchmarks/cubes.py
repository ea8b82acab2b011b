"""Cubes: kernel against SWarp, stage against bare decompression, store against memory.

    python benchmarks/cubes.py SAS

SAS is a folder of corrected frames in the archive's layout. Each ratio is of two times taken in turn in one run; one
thread, the best of a few rounds. The stage and the decompression are CPU seconds, which other work on the machine does
not lengthen; the kernel and SWarp are wall seconds. Prints one JSON object.

Two cores of an AMD EPYC shared with other work, 19 real frames, 3 rounds: one cutout 0.148 ms, 337 times SWarp's speed
(exact weights: 0.63 ms); stage 1.037 times the decompression of the same frames to the same last row (260 ms a frame),
of which 0.015 are the rest of the last block, read for its CRC;
store 13,000 cubes a second loaded in random order, 7,000 written.
"""

import argparse
import bz2
import functools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import indexed_bzip2
import numpy as np
import pandas as pd

from sdss_photoz.cubes.cutouts import find_frames
from sdss_photoz.cubes.frame import read_frame, read_wcs
from sdss_photoz.cubes.make import stack_cubes
from sdss_photoz.cubes.resample import Projection, resample, window
from sdss_photoz.cubes.store import create_store, load_cubes, open_store, shard_files, write_shard
from sdss_photoz.survey import BANDS, FRAME_SHAPE

GALAXIES = 20  # on a frame


def seconds(function, repeats: int, clock=time.perf_counter) -> float:
    start = clock()
    for _ in range(repeats):
        function()
    return (clock() - start) / repeats


def kernel_against_swarp(path: Path, rounds: int) -> dict:
    """One cutout from one open frame, against a run of SWarp on the same frame, plain on disk."""
    image, wcs = read_frame(path)
    projection = Projection(wcs)
    ra, dec = projection.centre()
    out = np.empty((64, 64), np.float32)

    def cut(exact):
        return lambda: resample(image, projection.homography(ra, dec), projection.flux_factor(ra, dec), out, exact)

    times = {"table": [], "exact": [], "swarp": []}
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "frame.fits"
        plain.write_bytes(bz2.decompress(path.read_bytes()))
        words = f"SWarp {plain} -SUBTRACT_BACK N -CENTER_TYPE MANUAL -CENTER {ra:.9f},{dec:.9f} -PIXELSCALE_TYPE MANUAL"
        words += " -PIXEL_SCALE 0.396 -IMAGE_SIZE 64 -VERBOSE_TYPE QUIET -WRITE_XML N -NTHREADS 1"
        for _ in range(rounds + 1):
            times["table"].append(seconds(cut(False), 50))
            times["exact"].append(seconds(cut(True), 10))
            if shutil.which("SWarp"):
                times["swarp"].append(
                    seconds(lambda: subprocess.run(words.split(), cwd=folder, capture_output=True, check=True), 5)
                )
    best = {f"{name}_ms": round(1e3 * min(values), 4) for name, values in times.items() if values}
    if times["swarp"]:
        best["swarp_over_table"] = round(min(times["swarp"]) / min(times["table"]), 1)
    return best


def stage_against_decompression(paths: dict, rounds: int) -> dict:
    """Cubes of 20 galaxies on each frame, against decompressing the same frames to the same last row."""
    rng = np.random.default_rng(1)
    ra, dec, overlaps, sizes = [], [], [], {}
    for frame, path in paths.items():
        projection = Projection(read_wcs(path))
        centre = projection.centre()
        members = np.arange(len(ra), len(ra) + GALAXIES)
        ra += list(centre[0] + rng.uniform(-0.08, 0.08, GALAXIES) / np.cos(np.radians(centre[1])))
        dec += list(centre[1] + rng.uniform(-0.08, 0.08, GALAXIES))
        windows = [window(projection.homography(ra[k], dec[k])) for k in members]
        sizes[path] = 4 * 2880 + 4 * FRAME_SHAPE[1] * max((read[0].stop for read in windows if read), default=0)
        overlaps.append((frame, members))
    ra, dec = np.array(ra), np.array(dec)
    flux, depth = np.empty((GALAXIES, 64, 64, 5), np.float32), np.empty((GALAXIES, 5), np.uint16)
    here = np.arange(GALAXIES)

    def only_copy(frame):
        yield paths[frame]

    def decompress(path):
        with indexed_bzip2.open(str(path), parallelization=1) as file:
            file.read(sizes[path])

    stage, bare = np.full((2, len(paths)), np.inf)
    for _ in range(rounds):
        for k, (frame, members) in enumerate(overlaps):
            path, where = paths[frame], (ra[members], dec[members])
            bare[k] = min(bare[k], seconds(lambda p=path: decompress(p), 1, time.process_time))
            cubes = functools.partial(stack_cubes, *where, [(frame, here)], only_copy, flux, depth)
            stage[k] = min(stage[k], seconds(cubes, 1, time.process_time))
    return {
        "frames": len(paths),
        "galaxies_a_frame": GALAXIES,
        "stage_ms_a_frame": round(1e3 * stage.mean(), 2),
        "decompression_ms_a_frame": round(1e3 * bare.mean(), 2),
        "stage_over_decompression": round(stage.sum() / bare.sum(), 4),
    }


def store_throughput(galaxies: int) -> dict:
    """Writing one shard and loading its cubes in random order."""
    flux, depth = np.ones((galaxies, 64, 64, 5), np.float32), np.ones((galaxies, 5))
    rows = np.random.default_rng(0).permutation(galaxies)
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame({"object_id": rows, "ra": 0.0, "dec": 0.0})
        create_store(Path(folder) / "s", table, 1)
        write = min(seconds(lambda: write_shard(Path(folder) / "s", 0, flux, depth), 1) for _ in range(3))
        load = min(seconds(lambda: load_cubes(Path(folder) / "s", rows), 1) for _ in range(3))
    return {"write_cubes_per_s": round(galaxies / write), "load_cubes_per_s": round(galaxies / load)}


def store_precision(paths: dict, rounds: int, positions: int = 200) -> dict:
    """Size, error and speed of each `cubes.precision`, on cubes of the fields that have frames in all bands.

    Errors are in units of the noise of each pixel's frame, of all pixels, and relative, of those above 100 noises.
    """
    rng, fields, cubes, noise = np.random.default_rng(1), {}, [], []
    for frame in paths:
        fields.setdefault(frame[:3], []).append(frame)
    for frames in (frames for frames in fields.values() if len(frames) == len(BANDS)):
        ra, dec = Projection(read_wcs(paths[frames[0]])).centre()
        ra = ra + rng.uniform(-0.08, 0.08, positions) / np.cos(np.radians(dec))
        dec = dec + rng.uniform(-0.06, 0.06, positions)
        flux = np.empty((positions, 64, 64, 5), np.float32)
        overlaps = [(frame, np.arange(positions)) for frame in frames]
        stack_cubes(
            ra,
            dec,
            overlaps,
            lambda frame: (path for path in [paths[frame]]),
            flux,
            np.empty((positions, 5), np.uint16),
        )
        images = [read_frame(paths[frame])[0] for frame in sorted(frames, key=lambda frame: BANDS.index(frame.band))]
        cubes.append(flux)
        noise.append(
            np.broadcast_to([1.4826 * np.median(np.abs(image - np.median(image))) for image in images], (positions, 5))
        )
    flux, noise = np.concatenate(cubes), np.concatenate(noise)[:, None, None]
    table = pd.DataFrame({"object_id": np.arange(len(flux)), "ra": 0.0, "dec": 0.0})
    rows, depth = rng.permutation(len(flux)), np.ones((len(flux), 5), np.uint16)
    bright = flux > 100 * noise
    found = {"cubes": len(flux), "bright_pixels": int(bright.sum())}
    for precision in ("float32", "float16", "bits10"):
        with tempfile.TemporaryDirectory() as folder:
            create_store(folder, table, 1, precision=precision)
            write = min(seconds(lambda: write_shard(folder, 0, flux, depth), 1) for _ in range(rounds))
            load = min(seconds(lambda: load_cubes(folder, rows), 1) for _ in range(rounds))
            error = open_store(folder)["flux"][:] - flux
            found[precision] = {
                "bytes_a_cube": round(shard_files(folder, 0)[0].stat().st_size / len(flux)),
                "rms_error_in_noises": float(f"{np.sqrt(np.nanmean((error / noise) ** 2)):.2g}"),
                "max_error_in_noises": float(f"{np.nanmax(np.abs(error / noise)):.2g}"),
                "max_relative_error_of_bright": float(f"{np.abs(error / flux)[bright].max():.2g}"),
                "write_cubes_per_s": round(len(flux) / write),
                "load_cubes_per_s": round(len(flux) / load),
            }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sas", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    paths = find_frames(words.sas)
    results = {
        "kernel": kernel_against_swarp(next(path for frame, path in paths.items() if frame.band == "r"), words.rounds),
        "stage": stage_against_decompression(paths, words.rounds),
        "store": store_throughput(1024),
        "precision": store_precision(paths, words.rounds),
    }
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
