"""A store's shards are whole or absent, of one selection, and every damage is named."""

import hashlib
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray
import zarr
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from sdss_photoz.cubes.frame import read_wcs
from sdss_photoz.cubes.layout import COORDINATES, create_store, layout_paths, selection_digest
from sdss_photoz.cubes.load import load_cubes, load_depth
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.store import grid_of, open_store, shard_files, write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import CUBE, PixelGrid


def table(n=300):
    """Galaxies as they stand in a store."""
    return pd.DataFrame({"object_id": 1000 + np.arange(n), "ra": np.linspace(10, 20, n), "dec": np.linspace(0, 1, n)})


def digest(n=300, chunks=2):
    return selection_digest(*(table(n)[name] for name in ("object_id", "ra", "dec")), chunks)


def fill(path, n=300, chunks=2, missing=True, **options):
    """A store whose cube k holds k everywhere, with uncovered pixels."""
    create_store(path, table(n), chunks, **options)
    flux = np.broadcast_to(np.arange(n, dtype="f4")[:, None, None, None], (n, 64, 64, 5)).copy()
    if missing:
        flux[:, :8, :, 2] = np.nan
    shard = zarr.open_group(path)["flux"].shards[0]
    for chunk in range(chunks):
        rows = slice(chunk * shard, (chunk + 1) * shard)
        write_shard(path, chunk, flux[rows], np.full((len(flux[rows]), 5), 2))
    return flux


def test_store_is_plain_zarr_that_says_what_it_holds(tmp_path):
    flux = fill(tmp_path / "cubes.zarr")
    group = zarr.open_group(tmp_path / "cubes.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    assert group.metadata.consolidated_metadata is None
    assert group["flux"].metadata.dimension_names == ("galaxy", "y", "x", "band")
    assert group["flux"].attrs["units"] == "nanomaggy"
    assert group["flux"].attrs["bands"] == "ugriz"  # for readers without Zarr's strings
    assert list(group["band"][:]) == list("ugriz")
    assert group.attrs["selection"] == digest()
    assert group["flux"].dtype == np.float32
    assert np.isnan(group["flux"].fill_value)
    assert group["flux"].shards == (150, 64, 64, 5)
    assert group["flux"].chunks == (75, 64, 64, 5)
    np.testing.assert_array_equal(group["flux"][:], flux)
    assert (group["depth"][:] == 2).all()


def test_xarray_shows_a_store_with_its_coordinates_and_units(tmp_path):
    path = tmp_path / "cubes.zarr"
    flux = fill(path, n=9)
    with xarray.open_zarr(path, consolidated=False) as data:
        assert set(data.variables) == {"flux", "depth", *COORDINATES}
        assert set(data.coords) == set(COORDINATES)
        assert data["flux"].dims == ("galaxy", "y", "x", "band")
        assert data["object_id"].values.tolist() == list(range(1000, 1009))
        np.testing.assert_array_equal(data["ra"], table(9)["ra"])
        np.testing.assert_array_equal(data["dec"], table(9)["dec"])
        assert data["flux"].dtype == np.float32
        assert data["depth"].dtype == np.uint16  # its zeros are numbers, not missing values
        units = {"flux": "nanomaggy", "depth": "1", "ra": "deg", "dec": "deg"}
        assert {name: data[name].attrs["units"] for name in units} == units
        assert all(variable.attrs["long_name"] for variable in data.variables.values())
        cube = data["flux"].sel(band="r").isel(galaxy=7)
        assert cube["object_id"] == 1007
        np.testing.assert_array_equal(cube, flux[7, ..., 2])


def test_wcs_of_the_attributes_is_that_of_the_pixels(tmp_path, write_frame):
    """astropy leads each pixel of a cube to the pixel of a frame that the kernel reads for it."""
    path = tmp_path / "cubes.zarr"
    create_store(path, table(3).assign(ra=[180.0, 180.1, 179.9], dec=[30.0, 30.1, 29.9]), 1)
    file = write_frame(tmp_path / "frame-r-000094-1-0011.fits", ra=180.03, dec=30.02, angle=70.0)
    frame, projection, group = WCS(fits.getheader(file)), Projection(read_wcs(file)), open_store(path)
    y, x = np.mgrid[:64, :64]
    for ra, dec in zip(group["ra"][:], group["dec"][:], strict=True):
        grid = WCS({**group["flux"].attrs["wcs"], "CRVAL1": ra, "CRVAL2": dec})
        expected = frame.wcs_world2pix(*grid.wcs_pix2world(x.ravel(), y.ravel(), 0), 0)
        found = projection.homography(ra, dec) @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
        np.testing.assert_allclose(found[:2] / found[2], expected, atol=1e-5)


@pytest.mark.parametrize("grid", [CUBE, PixelGrid(45, 0.3, tuple("griz")), PixelGrid(8, 0.123456, ("i",))], ids=str)
def test_a_store_tells_its_grid_and_holds_cubes_of_it(tmp_path, grid):
    path = tmp_path / "cubes.zarr"
    create_store(path, table(5), 2, grid=grid)
    assert grid_of(open_store(path)) == grid
    flux = np.random.default_rng(0).normal(size=(5, *grid.shape)).astype(np.float32)
    for chunk, rows in enumerate((slice(3), slice(3, 5))):
        write_shard(path, chunk, flux[rows], np.full((len(flux[rows]), len(grid.bands)), 2))
    np.testing.assert_array_equal(load_cubes(path, [4, 0]), flux[[4, 0]])
    assert load_depth(path).shape == (5, len(grid.bands))
    wcs = WCS({**open_store(path)["flux"].attrs["wcs"], "CRVAL1": 10.0, "CRVAL2": 20.0})
    np.testing.assert_allclose(wcs.wcs_pix2world(grid.centre, grid.centre, 0), [10, 20])
    assert np.allclose(proj_plane_pixel_scales(wcs) * 3600, grid.pixel_scale)


def test_a_store_of_another_grid_is_refused_as_one_of_another_selection_is(tmp_path):
    fill(tmp_path / "cubes.zarr")
    columns = [table()[name] for name in ("object_id", "ra", "dec")]
    others = [CUBE._replace(size=65), CUBE._replace(pixel_scale=0.4), CUBE._replace(bands=tuple("griz"))]
    expected = [selection_digest(*columns, 2, grid) for grid in others]
    assert len({digest(), *expected}) == 4
    for other in expected:
        with pytest.raises(UserError, match="another selection of galaxies, or other pixels or bands"):
            load_cubes(tmp_path / "cubes.zarr", [0], other)


def test_a_store_whose_parts_contradict_each_other_tells_no_grid(tmp_path):
    create_store(tmp_path / "cubes.zarr", table(5), 1)
    zarr.open_group(tmp_path / "cubes.zarr", mode="r+")["flux"].attrs["bands"] = "ugri"
    with pytest.raises(UserError, match="contradict each other: make it again"):
        grid_of(open_store(tmp_path / "cubes.zarr"))


def test_float16_and_bits10_keep_ten_bits_and_what_is_not_covered(tmp_path):
    rng = np.random.default_rng(0)
    flux = (10 ** rng.uniform(-3, 4, (9, 64, 64, 5)) * rng.choice([-1, 1], (9, 64, 64, 5))).astype("f4")
    flux[:, :8, :, 2] = np.nan
    flux[0, 0, 0, 0] = np.frombuffer(b"\xff\xff\xff\x7f", "f4")[0]  # a NaN of all bits: rounded up it would be -0
    flux[8, 0, 0, 1] = 65504
    before = flux.tobytes()
    read = {}
    for precision in ("float32", "float16", "bits10"):
        path = tmp_path / precision
        create_store(path, table(9), 2, precision=precision)
        for chunk, rows in enumerate((slice(5), slice(5, 9))):
            write_shard(path, chunk, flux[rows], np.ones((rows.stop - (rows.start or 0), 5)))
        read[precision] = zarr.open_group(path, mode="r")["flux"][:].astype("f4")
        np.testing.assert_array_equal(np.isnan(read[precision]), np.isnan(flux))
        np.testing.assert_array_equal(load_cubes(path, range(9)), np.nan_to_num(read[precision]))
        assert load_cubes(path, [3]).dtype == np.float32
    assert flux.tobytes() == before  # rounding did not touch what was given
    np.testing.assert_array_equal(read["float32"], flux)
    np.testing.assert_array_equal(read["float16"], flux.astype("f2").astype("f4"))
    for precision in ("float16", "bits10"):
        np.testing.assert_allclose(read[precision], flux, rtol=2**-11)
        assert (read[precision] == flux).mean() < 0.01
    assert (read["bits10"].view("u4")[~np.isnan(flux)] % 2**13 == 0).all()


def test_flux_too_large_for_float16_is_refused_by_the_galaxys_name_and_nothing_is_touched(tmp_path):
    path = tmp_path / "cubes.zarr"
    create_store(path, table(9), 2, precision="float16")
    flux = np.zeros((4, 64, 64, 5), "f4")
    write_shard(path, 1, flux, np.ones((4, 5)))
    before = [file.read_bytes() for file in shard_files(path, 1)]
    flux[2, 5, 5, 3] = -65505
    with pytest.raises(UserError, match=r"object_id 1007 \(row 7\) has pixels beyond 65,504 nanomaggies"):
        write_shard(path, 1, flux, np.zeros((4, 5)))
    assert [file.read_bytes() for file in shard_files(path, 1)] == before


def test_digest_of_a_shard_is_that_of_its_file(tmp_path):
    path = tmp_path / "cubes.zarr"
    create_store(path, table(5), 1)
    digests = write_shard(path, 0, np.zeros((5, 64, 64, 5), "f4"), np.ones((5, 5)))
    read = [hashlib.sha256(file.read_bytes()).hexdigest() for file in shard_files(path, 0)]
    assert [digests["flux"], digests["depth"]] == read


def test_depth_that_is_missing_or_damaged_is_named(tmp_path):
    path = tmp_path / "cubes.zarr"
    fill(path, n=9)
    assert (load_depth(path) == 2).all()
    file = shard_files(path, 1)[1]
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(UserError, match=rf"{file} is damaged"):
        load_depth(path)
    file.unlink()
    with pytest.raises(UserError, match=r"chunk 1 of .* has not been made"):
        load_depth(path)


def test_shard_of_a_chunk_is_one_file_even_where_nothing_is_covered(tmp_path):
    path = tmp_path / "cubes.zarr"
    create_store(path, table(5), 2)
    write_shard(path, 1, np.full((2, 64, 64, 5), np.nan, "f4"), np.zeros((2, 5)))
    assert [file.is_file() for file in shard_files(path, 1)] == [True, True]
    assert [file.is_file() for file in shard_files(path, 0)] == [False, False]
    assert shard_files(path, 1)[0] == path / "flux/c/1/0/0/0"
    assert shard_files(path, 1)[1] == path / "depth/c/1/0"
    assert np.isnan(zarr.open_group(path, mode="r")["flux"][:3]).all()  # never zeros
    assert (load_cubes(path, [3, 4]) == 0).all()


@pytest.mark.parametrize("precision", ["float32", "float16", "bits10"])
def test_same_cubes_give_the_same_bytes(tmp_path, precision):
    for name in "ab":
        fill(tmp_path / name, n=130, precision=precision)
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*") if file.is_file())
    assert len(files) == len(layout_paths("")) + 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_creating_a_store_again_keeps_its_shards_and_its_bytes(tmp_path):
    path = tmp_path / "cubes.zarr"
    flux = fill(path, n=20)
    before = [file.read_bytes() for file in layout_paths(path)]
    for file in layout_paths(path):  # as Snakemake does before it runs the rule again
        file.unlink()
    create_store(path, table(20), 2)
    assert [file.read_bytes() for file in layout_paths(path)] == before
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["flux"][:], flux)


def test_cubes_come_in_the_order_asked_for_with_zeros_where_uncovered(tmp_path):
    flux = fill(tmp_path / "cubes.zarr")
    rows = np.random.default_rng(0).integers(0, 300, 500)
    cubes = load_cubes(tmp_path / "cubes.zarr", rows, digest())
    assert cubes.dtype == np.float32
    np.testing.assert_array_equal(cubes, np.nan_to_num(flux[rows]))
    assert load_cubes(tmp_path / "cubes.zarr", []).shape == (0, 64, 64, 5)


def test_rewriting_over_a_damaged_shard_heals_it(tmp_path):
    path = tmp_path / "cubes.zarr"
    flux = fill(path, n=9)
    for file in shard_files(path, 1):
        file.write_bytes(b"broken")
    write_shard(path, 1, flux[5:], np.full((4, 5), 2))
    np.testing.assert_array_equal(load_cubes(path, np.arange(9)), np.nan_to_num(flux))


@pytest.mark.parametrize("place", [100, -5, "end"])
@pytest.mark.parametrize("precision", ["float32", "float16", "bits10"])
def test_damaged_shard_never_reads_back(tmp_path, place, precision):
    path = tmp_path / "cubes.zarr"
    fill(path, n=9, precision=precision)
    file = shard_files(path, 1)[0]
    content = bytearray(file.read_bytes())
    if place == "end":
        content = content[: len(content) // 2]
    else:
        content[place] ^= 1
    file.write_bytes(content)
    assert load_cubes(path, [0])[0, 0, 0, 0] == 0
    with pytest.raises(UserError, match="damaged") as error:
        load_cubes(path, [0, 8])
    assert str(file) in str(error.value)


@pytest.mark.parametrize("kind", [0, 1], ids=["flux", "depth"])
@pytest.mark.parametrize("precision", ["float32", "float16", "bits10"])
def test_an_empty_shard_is_refused_and_never_zeros(tmp_path, kind, precision):
    """What a full disk, or a copy that was cut off, leaves: zarr itself reads fill values from it."""
    path = tmp_path / "cubes.zarr"
    fill(path, n=9, precision=precision)
    file = shard_files(path, 1)[kind]
    file.write_bytes(b"")
    sentence = rf"^{file} is damaged \(it is empty\): sdss-photoz verify {path} names the command that makes it again.$"
    for read in (lambda: load_cubes(path, [0, 8]), lambda: load_depth(path)):
        with pytest.raises(UserError, match=sentence):
            read()
    assert len(load_cubes(path, [0])) == 1


def test_missing_chunk_is_named(tmp_path):
    path = tmp_path / "cubes.zarr"
    fill(path, n=9)
    shard_files(path, 1)[0].unlink()
    with pytest.raises(UserError, match=r"chunk 1 of .* has not been made"):
        load_cubes(path, [8])
    with pytest.raises(UserError, match="not a store of cubes"):
        load_cubes(tmp_path / "nowhere.zarr", [8])
    zarr.create_group(tmp_path / "foreign.zarr").create_array("flux", shape=(9, 64, 64, 5), dtype="f4")
    with pytest.raises(UserError, match="not a store of cubes"):
        load_cubes(tmp_path / "foreign.zarr", [8])
    with pytest.raises(UserError, match="holds 9 cubes, but rows 0 to 9"):
        load_cubes(path, [0, 9])


def test_shard_of_another_selection_is_refused(tmp_path):
    path = tmp_path / "cubes.zarr"
    fill(path, n=9, quality="../cubes/quality-{chunk}.parquet")
    (tmp_path / "cubes").mkdir()
    other = selection_digest([2, 1], [10.0, 20.0], [0.0, 1.0], 2)
    own = digest(9)
    assert other != own
    for chunk, selection in enumerate([own, other]):
        pd.DataFrame({"selection": [selection] * 3}).to_parquet(tmp_path / f"cubes/quality-{chunk}.parquet")
    assert len(load_cubes(path, [0, 4], own)) == 2
    with pytest.raises(UserError, match=r"quality-1.parquet was made for another selection"):
        load_cubes(path, [0, 8], own)
    with pytest.raises(UserError, match=r"cubes.zarr was made for another selection"):
        load_cubes(path, [0], other)
    (tmp_path / "cubes/quality-0.parquet").unlink()
    with pytest.raises(UserError, match=r"quality-0.parquet cannot be read"):
        load_cubes(path, [0])


def test_digest_follows_galaxies_order_positions_and_chunks():
    digests = {
        selection_digest([1, 2], [10.0, 20.0], [0.0, 1.0], 2),
        selection_digest([2, 1], [20.0, 10.0], [1.0, 0.0], 2),
        selection_digest([1, 3], [10.0, 20.0], [0.0, 1.0], 2),
        selection_digest([1, 2], [10.0, 20.0], [0.0, 1.0 + 1e-12], 2),
        selection_digest([1, 2], [10.0, 20.0], [0.0, 1.0], 3),
    }
    assert len(digests) == 5


WRITER = """
import resource, signal, sys
import numpy as np
from sdss_photoz.cubes.store import write_shard
path, most = sys.argv[1], int(sys.argv[2])
flux = np.full((256, 64, 64, 5), 7, "f4")
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the kernel kills the process in the middle of its write
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
write_shard(path, 0, flux, np.ones((256, 5)))
"""


def test_writer_killed_in_the_middle_of_a_write_leaves_no_shard(tmp_path):
    path = tmp_path / "cubes.zarr"
    create_store(path, table(256), 1)
    done = subprocess.run([sys.executable, "-c", WRITER, path, str(256 * 64 * 64 * 5 * 4 // 2)])
    assert done.returncode == -signal.SIGXFSZ
    (leftover,) = shard_files(path, 0)[0].parent.iterdir()
    assert leftover.suffix == ".part"
    assert leftover.stat().st_size > 0
    os.utime(leftover, (0, 0))
    write_shard(path, 0, np.full((256, 64, 64, 5), 8, "f4"), np.ones((256, 5)))
    assert (load_cubes(path, [0, 255]) == 8).all()
    assert list(shard_files(path, 0)[0].parent.iterdir()) == [shard_files(path, 0)[0]]
