"""Cubes equal SWarp's, pixel by pixel, on real frames."""

import bz2
import subprocess
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sdss_photoz.cubes.cutouts import cutouts, find_frames
from sdss_photoz.cubes.store import open_store
from sdss_photoz.survey import BANDS, FRAME_SHAPE, Frame

GALAXIES = [(38.35503888, -0.15572588), (38.35938656, -0.08644481), (38.24929799, -0.13716416), (38.26535, -0.21845)]
RUNS = (2820, 4948, 3565, 3900)
SIGMA = 1e-4  # largest difference, in the frame's noise …
LOCAL = 3e-6  # … or of the local maximum
DECIMALS = 8  # degrees: SWarp is given what the kernel is given


def plain_frames(paths, folder):
    """Frames as plain FITS, which SWarp reads: path, projection and noise of each."""
    plain = {}
    for frame, path in paths.items():
        if path.suffix == ".bz2":
            unpacked = folder / path.name.removesuffix(".bz2")
            unpacked.write_bytes(bz2.decompress(path.read_bytes()))
            path = unpacked
        with fits.open(path) as hdus, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the survey's deprecated spellings
            wcs, sky = WCS(hdus[0].header), hdus[0].data[::3, ::3]
            noise = 1.4826 * np.nanmedian(np.abs(sky - np.nanmedian(sky)))
        plain[frame] = (path, wcs, noise)
    return plain


@pytest.fixture(scope="module")
def frames(shared_data, tmp_path_factory):
    found = find_frames(shared_data / "sas").items()
    return plain_frames({frame: path for frame, path in found if frame.run in RUNS}, tmp_path_factory.mktemp("frames"))


def positions_on(wcs, pixels):
    ra, dec = wcs.wcs_pix2world(*np.array(pixels, dtype=float).T, 0)
    return [(round(float(a), DECIMALS), round(float(d), DECIMALS)) for a, d in zip(ra, dec, strict=True)]


def further_positions(wcs):
    """50 positions in field 2820-3-122: its corners, its edges, just outside, and anywhere."""
    columns, rows = FRAME_SHAPE[1] - 1, FRAME_SHAPE[0] - 1
    corners = [(x, y) for x in (0, columns) for y in (0, rows)]
    edges = [(x, y) for x in (-20, 5, 40.5, columns - 33, columns + 15) for y in (210.25, 1000)]
    edges += [(x, y) for x in (333.3, 1700) for y in (-25, 6, 34, rows - 31.5, rows + 22)]
    anywhere = np.random.default_rng(2820).uniform((32, 32), (columns - 32, rows - 32), (50 - 24, 2)).tolist()
    return positions_on(wcs, corners + edges + anywhere)


def swarp(paths, ra, dec, folder):
    """SWarp's cutout and where it is covered."""
    words = ["-SUBTRACT_BACK", "N", "-CENTER_TYPE", "MANUAL", "-CENTER", f"{ra:.9f},{dec:.9f}", "-PIXELSCALE_TYPE"]
    words += ["MANUAL", "-PIXEL_SCALE", "0.396", "-IMAGE_SIZE", "64", "-VERBOSE_TYPE", "QUIET", "-WRITE_XML", "N"]
    done = subprocess.run(["SWarp", *map(str, paths), *words, "-NTHREADS", "1"], cwd=folder, capture_output=True)
    if done.returncode:  # no frame overlaps the grid
        return np.zeros((64, 64)), np.zeros((64, 64), bool)
    image = fits.getdata(folder / "coadd.fits").astype("f8")
    return image, fits.getdata(folder / "coadd.weight.fits") > 0


@pytest.fixture
def compare(tmp_path, need_program, capsys):
    """A function that compares the cubes at some positions with SWarp's and prints what it found."""
    need_program("SWarp")

    def compared(frames, folder, positions, bands):
        results = _compare(frames, folder, positions, bands, tmp_path)
        with capsys.disabled():
            print(f"\n{results[0]}", end=" ")
        return results[1:]

    return compared


def _compare(frames, folder, positions, bands, tmp_path):
    """Make a store and compare each of its cutouts with SWarp's: counts, and the largest differences."""
    places = threading.local()
    cutouts(pd.DataFrame(positions, columns=["ra", "dec"]), folder, tmp_path / "cubes.zarr")
    group = open_store(tmp_path / "cubes.zarr")
    flux, depth = group["flux"][:], group["depth"][:]

    def one(task):
        row, band = task
        ra, dec = positions[row]
        hits = []
        for frame, (path, wcs, noise) in frames.items():
            x, y = wcs.wcs_world2pix(ra, dec, 0) if abs(wcs.wcs.crval[1] - dec) < 1 else (np.nan, np.nan)
            if frame.band == band and -50 < x < FRAME_SHAPE[1] + 50 and -50 < y < FRAME_SHAPE[0] + 50:
                hits.append((path, noise))
        ours = flux[row, :, :, BANDS.index(band)].astype("f8")
        if not hits:
            return 0, 0, 0.0, 0.0, np.isfinite(ours).sum()
        if not hasattr(places, "folder"):
            places.folder = tmp_path / f"swarp-{threading.get_ident()}"
            places.folder.mkdir()
        image, covered = swarp([path for path, _ in hits], ra, dec, places.folder)
        other = np.count_nonzero(np.isfinite(ours) != covered)
        if not covered.any():
            return len(hits), 0, 0.0, 0.0, other
        error = np.abs(np.nan_to_num(ours) - image)[covered]
        in_sigma, in_local = error / min(noise for _, noise in hits), error / np.abs(image[covered]).max()
        counted = np.where(in_local <= LOCAL, 0, in_sigma).max()
        return len(hits), covered.sum(), counted, in_sigma.max(), other

    tasks = [(row, band) for row in range(len(positions)) for band in bands]
    with ThreadPoolExecutor(2) as executor:
        results = list(executor.map(one, tasks))
    hits, pixels, counted, in_sigma, other = map(np.array, zip(*results, strict=True))
    figure = (
        f"{np.count_nonzero(pixels)} cutouts of up to {hits.max()} frames, {pixels.sum()} pixels: largest difference "
        f"{in_sigma.max():.1e} sigma ({counted.max():.1e} outside {LOCAL} of the local maximum), "
        f"{other.sum()} pixels with another coverage"
    )
    return figure, hits, pixels, counted, other, depth


def test_five_bands_equal_swarp_on_a_real_field(frames, shared_data, compare):
    positions = GALAXIES + further_positions(frames[Frame(2820, 3, 122, "r")][1])
    assert len(positions) == 54
    hits, pixels, counted, other, depth = compare(frames, shared_data / "sas", positions, BANDS)
    assert np.count_nonzero(pixels) > 250
    assert counted.max() <= SIGMA
    assert other.sum() == 0
    u = hits.reshape(-1, 5)[:, 0]  # run 4948 saw part of this sky in u
    assert ((u == 2) & (pixels.reshape(-1, 5)[:, 0] > 0)).sum() >= 4
    assert depth[:, 0].max() == 2
    assert depth[:, 1:].max() == 1


def test_two_runs_and_adjacent_fields_equal_swarp(frames, shared_data, compare):
    first, other_run = frames[Frame(3565, 1, 58, "g")][1], frames[Frame(4948, 3, 199, "u")][1]
    shared = [(300, 1361 + 40), (900, 1361 + 64), (1500, 1361), (1800, 1488), (700, 1340), (1100, 1361 + 127.5)]
    positions = positions_on(first, shared) + positions_on(other_run, [(500, 600), (1500, 300), (1000, 1460)])
    hits, pixels, counted, other, depth = compare(frames, shared_data / "sas", positions, "ug")
    assert counted.max() <= SIGMA
    assert other.sum() == 0
    assert (hits.reshape(-1, 2)[:6, 1] == 2).all()
    assert (depth[:6, 1] == 2).all()
    assert (pixels.reshape(-1, 2)[6:, 0] > 0).all()


def test_rotated_frame_equals_swarp(frames, shared_data, compare):
    wcs = frames[Frame(3900, 6, 269, "u")][1]
    positions = positions_on(wcs, [(1000, 700), (10, 20), (2040, 1480), (1024, 1490), (1500.5, 300.2)])
    _, pixels, counted, other, _ = compare(frames, shared_data / "sas", positions, "u")
    assert (pixels > 0).all()
    assert counted.max() <= SIGMA
    assert other.sum() == 0


def test_median_of_six_runs_equals_swarp_with_rotations_and_missing_pixels(tmp_path, write_frame, compare):
    """Frames of six runs, each turned, shifted and scaled its own way, some pixels not finite."""
    rng = np.random.default_rng(6)
    for run in range(1, 7):
        image = rng.normal(0.01 * run, 0.03, FRAME_SHAPE).astype("f4")
        image[rng.integers(0, FRAME_SHAPE[0], 3000), rng.integers(0, FRAME_SHAPE[1], 3000)] = np.nan
        frame = Frame(run, 2, 50, "r")
        where = {"ra": 10 + 0.01 * run, "dec": 55 - 0.02 * run, "angle": 61.0 * run, "scale": 0.396 * (1 + 1e-3 * run)}
        write_frame(tmp_path / "mirror" / frame.name.removesuffix(".bz2"), image, frame, **where)
    frames = plain_frames(find_frames(tmp_path / "mirror"), tmp_path)
    positions = [(10.0 + 0.02 * k, round(54.85 + 0.013 * k, DECIMALS)) for k in range(12)]
    _, pixels, counted, other, depth = compare(frames, tmp_path / "mirror", positions, "r")
    assert counted.max() <= SIGMA
    assert other.sum() == 0
    assert depth[:, 2].max() == 6
    assert len(set(depth[:, 2])) >= 3  # odd and even counts
    assert 0 < pixels.min() < 64 * 64
