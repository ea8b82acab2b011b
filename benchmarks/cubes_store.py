"""Size, error and speed of each precision of the store, on cubes of real fields."""

import functools
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from clocks import quiet, time_alternately

from sdss_photoz.cubes.frame import read_frame, read_wcs
from sdss_photoz.cubes.layout import PRECISIONS, create_store
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.make import stack_cubes
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.store import open_store, shard_files, write_shard
from sdss_photoz.surveys import CUBE, SDSS
from sdss_photoz.surveys.sdss import Frame

BRIGHT = 100  # in units of the noise


def precisions(paths: dict[Frame, Path], positions: int, rounds: int) -> pd.DataFrame | None:
    """Measure each precision on cubes at random positions in fields that have frames in all bands.

    Returns
    -------
    DataFrame
        bytes: per cube; rms, largest: error in units of the noise of each pixel's frame; relative: largest relative
        error of pixels above 100 times the noise; write, load: cubes per second, in one shard and in random order;
        index precision. None if no field has frames in all bands.
    """
    bands = Counter(frame[:3] for frame in paths)
    paths = {frame: path for frame, path in paths.items() if bands[frame[:3]] == len(SDSS.band_names)}
    if not paths:
        return None
    flux, noise = _cubes(paths, positions)
    table = pd.DataFrame({"object_id": np.arange(len(flux)), "ra": 0.0, "dec": 0.0})
    rows, depth = np.random.default_rng(2).permutation(len(flux)), np.ones((len(flux), len(SDSS.band_names)), np.uint16)
    bright = flux > BRIGHT * noise
    found = pd.DataFrame(index=pd.Index(PRECISIONS, name="precision"))
    with tempfile.TemporaryDirectory() as folder:
        stores = {precision: Path(folder) / precision for precision in PRECISIONS}
        for precision, store in stores.items():
            create_store(store, table, 1, precision=precision)
        writers = {name: functools.partial(write_shard, store, 0, flux, depth) for name, store in stores.items()}
        readers = {name: functools.partial(load_cubes, store, rows) for name, store in stores.items()}
        with quiet():
            write, load = time_alternately(writers, rounds), time_alternately(readers, rounds)
        for name, store in stores.items():
            error = open_store(store)["flux"][:] - flux
            found.loc[name, "bytes"] = shard_files(store, 0)[0].stat().st_size / len(flux)
            found.loc[name, "rms"] = np.sqrt(np.nanmean((error / noise) ** 2))
            found.loc[name, "largest"] = np.nanmax(np.abs(error / noise))
            found.loc[name, "relative"] = np.abs(error / flux)[bright].max(initial=0)
    return found.assign(write=len(flux) / write["wall"], load=len(flux) / load["wall"])


def _cubes(paths: dict[Frame, Path], positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cubes of each field, and the noise of their frames (nanomaggies)."""
    rng, fields, cubes, noise = np.random.default_rng(1), {}, [], []
    for frame in paths:
        fields.setdefault(frame[:3], []).append(frame)

    def copies(frame):
        yield paths[frame]

    for frames in fields.values():
        ra, dec = Projection(read_wcs(paths[frames[0]])).centre()
        ra = ra + rng.uniform(-0.08, 0.08, positions) / np.cos(np.radians(dec))
        dec = dec + rng.uniform(-0.06, 0.06, positions)
        cubes.append(np.empty((positions, *CUBE.shape), np.float32))
        with quiet():
            overlaps = [(frame, np.arange(positions)) for frame in frames]
            stack_cubes(ra, dec, overlaps, copies, cubes[-1], np.empty((positions, len(SDSS.band_names)), np.uint16))
        images = [read_frame(paths[frame]).image for frame in sorted(frames, key=lambda frame: SDSS.index(frame.band))]
        sigma = [1.4826 * np.nanmedian(np.abs(image - np.nanmedian(image))) for image in images]
        noise.append(np.broadcast_to(np.float32(sigma), (positions, 1, 1, len(SDSS.band_names))))
    return np.concatenate(cubes), np.concatenate(noise)
