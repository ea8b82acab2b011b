"""Cubes equal SWarp's, pixel by pixel: on every real frame, and on rendered ones of any declination and depth.

A run of SWarp takes 50 ms or more, so the tests take few positions; ``--swarp-positions 200`` takes that many on each
real frame, and prints the figures that docs/benchmarks/swarp.md keeps.
"""

import bz2
import subprocess
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from photutils.datasets import make_model_image
from photutils.psf import CircularGaussianPRF

from sdss_photoz.cubes.cutouts import cutouts, find_frames
from sdss_photoz.cubes.store import open_store
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE, Frame

FIELDS = {  # of the real frames
    (1035, 6, 17): "ugriz",
    (2820, 3, 122): "ugriz",
    (3565, 1, 58): "g",
    (3565, 1, 59): "g",
    (3900, 6, 269): "u",
    (4510, 4, 30): "ugriz",
    (4948, 3, 199): "u",
}
GALAXIES = [(38.35503888, -0.15572588), (38.35938656, -0.08644481), (38.24929799, -0.13716416), (38.26535, -0.21845)]
DEEP = {-20: 1, -5: 2, 22: 4, 47: 7, 62: 12, 76: 21, 88: 32}  # rendered frames at each declination
SIGMA = 1e-4  # largest difference, in the frame's noise …
LOCAL = 3e-6  # … or of the local maximum …
POLAR = 1e-6  # … or this over cos(dec): SWarp's angles lose digits near a pole (1e-5 pixels at 88 degrees)
DECIMALS = 8  # degrees: SWarp is given what the kernel is given
PIXEL = SDSS.pixel_scale / 3600  # degrees
HALF = 32  # pixels: half a grid
LAST = (FRAME_SHAPE[1] - 1, FRAME_SHAPE[0] - 1)  # x, y


def plain_frames(paths, folder):
    """Frames as plain FITS, which SWarp reads: path, projection and noise of each."""
    plain = {}
    for frame, path in paths.items():
        if path.suffix == ".bz2":
            unpacked = Path(folder) / path.name.removesuffix(".bz2")
            unpacked.write_bytes(bz2.decompress(path.read_bytes()))
            path = unpacked
        with fits.open(path) as hdus, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the survey's deprecated spellings
            wcs, sky = WCS(hdus[0].header), hdus[0].data[::3, ::3]
            noise = 1.4826 * np.nanmedian(np.abs(sky - np.nanmedian(sky)))
        plain[frame] = (path, wcs, noise)
    return plain


@pytest.fixture(scope="module")
def frames(shared_data):
    with tempfile.TemporaryDirectory() as folder:
        yield plain_frames(find_frames(shared_data / "sas"), folder)


@pytest.fixture
def number(request):
    """Positions on a frame."""
    return request.config.getoption("--swarp-positions")


def positions_on(wcs, pixels):
    ra, dec = wcs.wcs_pix2world(*np.array(pixels, dtype=float).T, 0)
    return [(round(float(a), DECIMALS), round(float(d), DECIMALS)) for a, d in zip(ra, dec, strict=True)]


def pixels_on(number, seed):
    """Pixels of a frame: its corners, a quarter with the edge somewhere in the grid or just outside, anywhere."""
    rng = np.random.default_rng(seed)
    anywhere = rng.uniform((0, 0), LAST, (number, 2))
    for k, pixel in enumerate(anywhere[4 : 4 + number // 4]):
        side, end = k % 2, (k // 2) % 2
        pixel[side] = end * LAST[side] + rng.uniform(-HALF - 4, HALF + 4)
    corners = [(x, y) for x in (0, LAST[0]) for y in (0, LAST[1])]
    return np.concatenate([corners, anywhere[4:]])


def swarp(paths, ra, dec, folder, grid=CUBE):
    """SWarp's cutout and where it is covered."""
    words = ["-SUBTRACT_BACK", "N", "-CENTER_TYPE", "MANUAL", "-CENTER", f"{ra:.9f},{dec:.9f}", "-PIXELSCALE_TYPE"]
    words += [
        "MANUAL",
        "-PIXEL_SCALE",
        str(grid.pixel_scale),
        "-IMAGE_SIZE",
        str(grid.size),
        "-VERBOSE_TYPE",
        "QUIET",
        "-WRITE_XML",
        "N",
    ]
    done = subprocess.run(["SWarp", *map(str, paths), *words, "-NTHREADS", "1"], cwd=folder, capture_output=True)
    if done.returncode:  # no frame overlaps the grid
        return np.zeros(grid.shape[:2]), np.zeros(grid.shape[:2], bool)
    image = fits.getdata(folder / "coadd.fits").astype("f8")
    return image, fits.getdata(folder / "coadd.weight.fits") > 0


@pytest.fixture
def compare(request, tmp_path, need_program, capsys):
    """A function that compares the cubes at some positions with SWarp's, prints what it found and asserts the limits.

    It returns, for each position and band, the number of frames given to SWarp and of pixels that it covered, and the
    depth of the cubes.
    """
    need_program("SWarp")

    def compared(frames, folder, positions, bands, grid=CUBE):
        found, depth = _compare(frames, folder, positions, bands, grid, tmp_path)
        counted = found["local"].where(found["sigma"] > SIGMA, 0).max()
        with capsys.disabled():
            print(
                f"\n{request.node.name}: {(found['pixels'] > 0).sum()} cutouts of up to {found['hits'].max()} frames, "
                f"{found['pixels'].sum()} pixels: largest difference {found['sigma'].max():.1e} sigma (where "
                f"above {SIGMA}: {counted:.1e} of the local maximum), {found['other'].sum()} pixels covered otherwise",
                end=" ",
            )
        assert counted <= max(LOCAL, POLAR / np.cos(np.radians(max(abs(dec) for _, dec in positions))))
        assert found["other"].sum() == 0
        shape = len(positions), len(bands)
        return found["hits"].to_numpy().reshape(shape), found["pixels"].to_numpy().reshape(shape), depth

    return compared


def _compare(frames, folder, positions, bands, grid, tmp_path):
    """Make a store and compare each of its cutouts with SWarp's, two runs of it at a time."""
    places = threading.local()
    cutouts(pd.DataFrame(positions, columns=["ra", "dec"]), folder, tmp_path / "cubes.zarr", grid=grid)
    reach = grid.size * grid.pixel_scale / SDSS.pixel_scale * 0.75 + 5  # frame pixels
    group = open_store(tmp_path / "cubes.zarr")
    flux, depth = group["flux"][:], group["depth"][:]

    def one(task):
        row, band = task
        ra, dec = positions[row]
        hits = []
        for frame, (path, wcs, noise) in frames.items():
            x, y = wcs.wcs_world2pix(ra, dec, 0) if abs(wcs.wcs.crval[1] - dec) < 1 else (np.nan, np.nan)
            if frame.band == band and -reach < x < LAST[0] + reach and -reach < y < LAST[1] + reach:
                hits.append((path, noise))
        ours = flux[row, :, :, grid.index(band)].astype("f8")
        if not hits:
            return 0, 0, 0.0, 0.0, np.isfinite(ours).sum()
        if not hasattr(places, "folder"):
            places.folder = tmp_path / f"swarp-{threading.get_ident()}"
            places.folder.mkdir()
        image, covered = swarp([path for path, _ in hits], ra, dec, places.folder, grid)
        other = np.count_nonzero(np.isfinite(ours) != covered)
        if not covered.any():
            return len(hits), 0, 0.0, 0.0, other
        error = np.abs(np.nan_to_num(ours) - image)[covered].max()
        noise = min(noise for _, noise in hits)
        return len(hits), covered.sum(), error / noise, error / np.abs(image[covered]).max(), other

    with ThreadPoolExecutor(2) as executor:
        rows = list(executor.map(one, [(row, band) for row in range(len(positions)) for band in bands]))
    return pd.DataFrame(rows, columns=["hits", "pixels", "sigma", "local", "other"]), depth


def test_these_are_all_real_frames(frames):
    assert set(frames) == {Frame(*field, band) for field, bands in FIELDS.items() for band in bands}


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_every_real_frame_equals_swarp(field, frames, shared_data, number, compare):
    bands = FIELDS[field]
    positions = positions_on(frames[Frame(*field, bands[-1])][1], pixels_on(number, field))
    if field == (2820, 3, 122):
        positions[4 : 4 + len(GALAXIES)] = GALAXIES
    _, pixels, depth = compare(frames, shared_data / "sas", positions, bands)
    assert len(positions) == number
    assert np.count_nonzero(pixels) > 0.8 * pixels.size
    assert 0 < pixels[pixels > 0].min() < 64 * 64 == pixels.max()
    assert (depth.max(axis=0) > 0).sum() >= len(bands)


GRIDS = [(28, 0.396), (72, 0.396), (96, 0.396), (128, 0.396), (64, 0.296), (45, 0.55)]


@pytest.mark.parametrize(("size", "pixel_scale"), GRIDS, ids=str)
def test_other_pixels_equal_swarp(size, pixel_scale, frames, shared_data, number, compare):
    """In one band of a real field, beside its edges too."""
    frame = Frame(4510, 4, 30, "i")
    positions = positions_on(frames[frame][1], pixels_on(number, [size, round(1000 * pixel_scale)]))
    grid = PixelGrid(size, pixel_scale, ("g", "i"))
    _, pixels, depth = compare(frames, shared_data / "sas", positions, "i", grid)
    assert depth.shape == (len(positions), 2)
    assert np.count_nonzero(pixels) > 0.7 * pixels.size
    assert 0 < pixels[pixels > 0].min() < 0.8 * size**2 < pixels.max()


def test_sky_that_two_runs_saw_equals_swarp(frames, shared_data, number, compare):
    """Field 2820-3-122, and 4948-3-199 in u, 150 columns and 600 rows apart."""
    (_, first, _), (_, second, _) = frames[Frame(2820, 3, 122, "u")], frames[Frame(4948, 3, 199, "u")]
    drawn = np.random.default_rng(4948).uniform((0, 0), LAST, (20 * number, 2))
    drawn = np.array(positions_on(first, drawn))
    x, y = second.wcs_world2pix(*drawn.T, 0)
    both = (np.abs(x - LAST[0] / 2) < LAST[0] / 2 + HALF) & (np.abs(y - LAST[1] / 2) < LAST[1] / 2 + HALF)
    positions = [tuple(map(float, position)) for position in drawn[both][:number]]
    assert len(positions) == number
    hits, pixels, depth = compare(frames, shared_data / "sas", positions, "u")
    assert (hits == 2).all()
    assert (pixels > 0).all()
    assert np.count_nonzero(depth[:, 0] == 2) > 0.8 * number


def test_rows_that_adjacent_fields_share_equal_swarp(frames, shared_data, number, compare):
    rng = np.random.default_rng(3565)
    pixels = rng.uniform((0, FIELD_ROWS - HALF), (LAST[0], LAST[1] + HALF), (number, 2))
    positions = positions_on(frames[Frame(3565, 1, 58, "g")][1], pixels)
    hits, _, depth = compare(frames, shared_data / "sas", positions, "g")
    assert (hits == 2).all()
    assert np.count_nonzero(depth[:, 1] == 2) > 0.8 * number


@pytest.mark.parametrize(
    ("dec", "runs"),
    [pytest.param(*case, marks=pytest.mark.slow if 4 < case[1] < 32 else ()) for case in DEEP.items()],
)
def test_rendered_frames_of_many_runs_equal_swarp(dec, runs, number, write_frame, compare):
    """Frames of runs each turned, shifted and scaled its own way, with stars, noise and pixels that are not finite."""
    rng = np.random.default_rng([dec + 90, runs])
    stretch = 1 / np.cos(np.radians(dec))
    near = np.array([359.99, dec]) + rng.uniform(-0.11, 0.11, (max(number // 2, 6), 2)) * (stretch, 1)
    near[0] = 359.99, dec  # which all runs saw
    stars = np.repeat(near, 4, axis=0) + rng.uniform(-25, 25, (4 * len(near), 2)) * PIXEL * (stretch, 1)
    fluxes = 10 ** rng.uniform(0, 3, len(stars))  # nanomaggies
    noise = rng.normal(0, 0.03, FRAME_SHAPE).astype("f4")
    noise[rng.integers(0, FRAME_SHAPE[0], 500), rng.integers(0, FRAME_SHAPE[1], 500)] = np.nan
    with tempfile.TemporaryDirectory() as folder:
        for run in range(1, runs + 1):
            away = rng.uniform(-0.05, 0.05, 2)
            frame, path = Frame(run, 2, 50, "r"), Path(folder) / Frame(run, 2, 50, "r").name.removesuffix(".bz2")
            place = {"ra": (359.99 + away[0] * stretch) % 360, "dec": dec + away[1]}
            place |= {"angle": rng.uniform(0, 360), "scale": 0.396 * (1 + rng.normal(0, 1e-3))}
            write_frame(path, frame=frame, **place)
            with fits.open(path, mode="update") as hdus:
                x, y = WCS(hdus[0].header).wcs_world2pix(*stars.T, 0)
                on = (x > 0) & (y > 0) & (x < LAST[0]) & (y < LAST[1])
                seen = Table({"x_0": x[on], "y_0": y[on], "flux": fluxes[on]})
                seen["fwhm"] = rng.uniform(2.6, 3.8)  # pixels
                light = make_model_image(FRAME_SHAPE, CircularGaussianPRF(), seen, model_shape=(21, 21))
                hdus[0].data[:] = light + np.roll(noise, rng.integers(0, 1000, 2), (0, 1))
        frames = plain_frames(find_frames(folder), folder)
        positions = [(round(float(a) % 360, DECIMALS), round(float(d), DECIMALS)) for a, d in near]
        _, pixels, depth = compare(frames, folder, positions, "r")
    assert depth[:, 2].max() == runs
    assert np.count_nonzero(pixels) >= len(positions) / 2
