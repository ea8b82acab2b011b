"""Time of equal cutouts of a frame by SWarp, reproject and the kernel, and of reading a frame by several libraries."""

import bz2
import functools
import importlib.util
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import indexed_bzip2
import numpy as np
import pandas as pd
import reproject
from astropy.io import fits
from astropy.wcs import WCS
from clocks import time_alternately

from sdss_photoz.cubes.frame import read_frame
from sdss_photoz.cubes.reproject_lanczos3 import reproject_lanczos3
from sdss_photoz.cubes.resample import Projection, resample_grids
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import FRAME_SHAPE

EDGE = 60  # pixels: smallest distance of positions from the frame's edge, and half size of the images for reproject
IMAGE = 4 * FRAME_SHAPE[0] * FRAME_SHAPE[1]  # bytes
_THREADS = {1: "", 2: ", 2 threads"}


def kernels(path: Path, positions: int, rounds: int) -> pd.DataFrame:
    """Measure milliseconds per cutout, and the largest difference from SWarp's pixels in units of the frame's noise.

    SWarp reads the whole frame from disk; reproject, which maps all of its input, gets a part of the frame around each
    position.

    Returns
    -------
    DataFrame
        wall_ms, cpu_ms, speed (cutouts per second of wall time), over_swarp (CPU seconds of SWarp over those of the
        row), sigma; the index names the program.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "frame.fits"
        plain.write_bytes(_plain(path))
        image, terms = read_frame(plain)
        projection = Projection(terms)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecated keywords of the survey
            wcs = WCS(fits.getheader(plain))
        rng = np.random.default_rng(1)
        pixels = rng.uniform(EDGE, (FRAME_SHAPE[1] - EDGE, FRAME_SHAPE[0] - EDGE), (positions, 2))
        ra, dec = np.round(wcs.wcs_pix2world(*pixels.T, 0), 8)
        factors = projection.flux_factor(ra, dec)
        corners = np.rint(pixels).astype(int) - EDGE
        parts = [(slice(y, y + 2 * EDGE), slice(x, x + 2 * EDGE)) for x, y in corners]
        inputs = [(image[part], wcs[part]) for part in parts]
        outputs = [_grid(*position) for position in zip(ra, dec, strict=True)]

        def grids(exact, threads):
            return resample_grids(
                image, projection.homography(ra, dec), projection.flux_factor(ra, dec), exact=exact, threads=threads
            )[0]

        def library(function, **options):
            pairs = zip(inputs, outputs, strict=True)
            return np.array([function(*pair, (64, 64), **options)[0] for pair in pairs]) * factors[:, None, None]

        programs = {
            "SWarp": lambda: np.array([_swarp(plain, *at) for at in zip(ra, dec, strict=True)]),
            "reproject_interp, bicubic": lambda: library(reproject.reproject_interp, order="bicubic"),
            "reproject_adaptive": lambda: library(reproject.reproject_adaptive),
            "reproject_exact": lambda: library(reproject.reproject_exact, parallel=False),
            "reproject_lanczos3": lambda: library(reproject_lanczos3),
        }
        for threads, suffix in _THREADS.items():
            programs["kernel, exact weights" + suffix] = functools.partial(grids, True, threads)
            programs["kernel" + suffix] = functools.partial(grids, False, threads)
        if shutil.which("SWarp") is None:
            del programs["SWarp"]
        cutouts = {name: function() for name, function in programs.items()}
        best = 1e3 * time_alternately(programs, rounds) / positions
    table = best.rename(columns={"wall": "wall_ms", "cpu": "cpu_ms"}).assign(speed=1e3 / best["wall"])
    if "SWarp" in programs:
        noise = 1.4826 * np.nanmedian(np.abs(image - np.nanmedian(image)))
        table["over_swarp"] = best.loc["SWarp", "cpu"] / best["cpu"]
        table["sigma"] = [np.nanmax(np.abs(found - cutouts["SWarp"])) / noise for found in cutouts.values()]
    return table


def _plain(path: Path) -> bytes:
    content = path.read_bytes()
    return bz2.decompress(content) if content.startswith(b"BZh") else content


def _grid(ra: float, dec: float) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [ra, dec], [32.5, 32.5]
    wcs.wcs.cd = np.diag([-SDSS.pixel_scale, SDSS.pixel_scale]) / 3600
    return wcs


def _swarp(path: Path, ra: float, dec: float) -> np.ndarray:
    words = f"SWarp {path} -SUBTRACT_BACK N -CENTER_TYPE MANUAL -CENTER {ra:.9f},{dec:.9f} -PIXELSCALE_TYPE MANUAL"
    words += " -PIXEL_SCALE 0.396 -IMAGE_SIZE 64 -VERBOSE_TYPE QUIET -WRITE_XML N -NTHREADS 1"
    subprocess.run(words.split(), cwd=path.parent, capture_output=True, check=True)
    return fits.getdata(path.with_name("coadd.fits"), memmap=False)  # the next run overwrites the file


def readers(paths: list[Path], rounds: int) -> pd.DataFrame:
    """Measure milliseconds per frame of reading its whole image.

    Returns
    -------
    DataFrame
        wall_ms, cpu_ms; the index names the library. Libraries that are not installed are left out.
    """
    openers = {"bz2": bz2.open, "astropy.io.fits": None}
    for threads in (1, 2):
        openers["indexed_bzip2" + _THREADS[threads]] = functools.partial(indexed_bzip2.open, parallelization=threads)
    if importlib.util.find_spec("rapidgzip"):
        import rapidgzip

        for threads in (1, 2):
            opener = functools.partial(rapidgzip.IndexedBzip2File, parallelization=threads)
            openers["rapidgzip" + _THREADS[threads]] = opener

    def read(opener, path):
        if opener is None:
            with fits.open(path) as hdus:
                return hdus[0].data.nbytes
        with opener(str(path)) as file:
            return len(file.read(IMAGE))

    total = 0
    for path in paths:
        readings = {name: functools.partial(read, opener, path) for name, opener in openers.items()}
        total += 1e3 * time_alternately(readings, rounds)
    return (total / len(paths)).rename(columns={"wall": "wall_ms", "cpu": "cpu_ms"})
