"""The same cutouts of one open frame through SWarp, reproject and the kernel; the same frames through each reader."""

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
from clocks import in_turn

from sdss_photoz.cubes.frame import read_frame
from sdss_photoz.cubes.lanczos3 import reproject_lanczos3
from sdss_photoz.cubes.resample import Projection, resample_grids
from sdss_photoz.survey import FRAME_SHAPE, PIXEL_SCALE

EDGE = 60  # pixels: so far from the frame's edge that all grids are covered, and so much round them for reproject
IMAGE = 4 * FRAME_SHAPE[0] * FRAME_SHAPE[1]  # bytes
_THREADS = {1: "", 2: ", 2 threads"}


def kernels(path: Path, positions: int, rounds: int) -> pd.DataFrame:
    """Milliseconds a cutout, and the largest difference from SWarp's pixels in the frame's noise.

    SWarp is given the whole frame, on disk as it needs it; reproject, which maps all of its input, a part of the frame
    round each position.

    Returns
    -------
    DataFrame
        wall_ms, cpu_ms, speed (cutouts a second by the wall clock), over_swarp (processor seconds of SWarp over
        those of the row), sigma; the index names the program.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "frame.fits"
        plain.write_bytes(_plain(path))
        image, terms = read_frame(plain)
        projection = Projection(terms)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the survey's deprecated spellings
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

        contestants = {
            "SWarp": lambda: np.array([_swarp(plain, *at) for at in zip(ra, dec, strict=True)]),
            "reproject_interp, bicubic": lambda: library(reproject.reproject_interp, order="bicubic"),
            "reproject_adaptive": lambda: library(reproject.reproject_adaptive),
            "reproject_exact": lambda: library(reproject.reproject_exact, parallel=False),
            "reproject_lanczos3": lambda: library(reproject_lanczos3),
        }
        for threads, words in _THREADS.items():
            contestants["kernel, exact weights" + words] = functools.partial(grids, True, threads)
            contestants["kernel" + words] = functools.partial(grids, False, threads)
        if shutil.which("SWarp") is None:
            del contestants["SWarp"]
        cutouts = {name: function() for name, function in contestants.items()}
        best = 1e3 * in_turn(contestants, rounds) / positions
    table = best.rename(columns={"wall": "wall_ms", "cpu": "cpu_ms"}).assign(speed=1e3 / best["wall"])
    if "SWarp" in contestants:
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
    wcs.wcs.cd = np.diag([-PIXEL_SCALE, PIXEL_SCALE]) / 3600
    return wcs


def _swarp(path: Path, ra: float, dec: float) -> np.ndarray:
    words = f"SWarp {path} -SUBTRACT_BACK N -CENTER_TYPE MANUAL -CENTER {ra:.9f},{dec:.9f} -PIXELSCALE_TYPE MANUAL"
    words += " -PIXEL_SCALE 0.396 -IMAGE_SIZE 64 -VERBOSE_TYPE QUIET -WRITE_XML N -NTHREADS 1"
    subprocess.run(words.split(), cwd=path.parent, capture_output=True, check=True)
    return fits.getdata(path.with_name("coadd.fits"), memmap=False)  # the next run writes to the same file


def readers(paths: list[Path], rounds: int) -> pd.DataFrame:
    """Milliseconds a frame, by each way to read its whole image.

    Returns
    -------
    DataFrame
        wall_ms, cpu_ms; the index names the library. Libraries that are not installed are left out.
    """
    ways = {"bz2": bz2.open, "astropy.io.fits": None}
    for threads in (1, 2):
        ways["indexed_bzip2" + _THREADS[threads]] = functools.partial(indexed_bzip2.open, parallelization=threads)
    if importlib.util.find_spec("rapidgzip"):
        import rapidgzip

        for threads in (1, 2):
            opener = functools.partial(rapidgzip.IndexedBzip2File, parallelization=threads)
            ways["rapidgzip" + _THREADS[threads]] = opener

    def read(opener, path):
        if opener is None:
            with fits.open(path) as hdus:
                return hdus[0].data.nbytes
        with opener(str(path)) as file:
            return len(file.read(IMAGE))

    total = 0
    for path in paths:
        readings = {name: functools.partial(read, opener, path) for name, opener in ways.items()}
        total += 1e3 * in_turn(readings, rounds)
    return (total / len(paths)).rename(columns={"wall": "wall_ms", "cpu": "cpu_ms"})
