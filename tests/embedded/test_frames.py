"""The rendered frames are what the archive serves, to the byte where it matters."""

import bz2
import itertools
import warnings

import galsim
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sdss_photoz.archive.services import query_fields
from sdss_photoz.config import Archive, Embedded
from sdss_photoz.embedded import build, render
from sdss_photoz.embedded.database import write_catalog
from sdss_photoz.embedded.scene import draw_scenes
from sdss_photoz.files import sha256
from sdss_photoz.frames.footprint import FRAME_MARGIN, overlapping_frames
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE, Frame

TINY = Embedded(seed=3, fields=2, visits=2, galaxies_per_field=20)


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A tiny sky: a strip of two adjacent fields and a patch seen twice; its folder, fields and objects."""
    folder = tmp_path_factory.mktemp("sky")
    return folder, *build.make_sky(TINY, folder, release=12, processes=2)


def open_frame(sky, field, band):
    frame = Frame(int(field.run), int(field.camcol), int(field.field), band)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fits.open(sky[0] / "sas" / frame.path(12), memmap=False)


def noise(image):
    return 1.4826 * np.median(np.abs(image - np.median(image)))


def test_same_seed_gives_the_same_bytes_whatever_the_number_of_processes(sky, tmp_path):
    fields, objects = build.make_sky(TINY, tmp_path, release=12, processes=1)
    assert (tmp_path / "frames.csv").read_bytes() == (sky[0] / "frames.csv").read_bytes()
    pd.testing.assert_frame_equal(fields, sky[1], check_exact=True)
    pd.testing.assert_frame_equal(objects, sky[2], check_exact=True)


def test_manifest_lists_every_frame_with_its_digest(sky):
    manifest = pd.read_csv(sky[0] / "frames.csv")
    assert len(manifest) == 4 * 5
    for row in manifest.itertuples():
        path = sky[0] / "sas" / row.path
        assert (path.stat().st_size, sha256(path)) == (row.bytes, row.sha256)
    written = {str(path.relative_to(sky[0] / "sas")) for path in (sky[0] / "sas").rglob("*.bz2")}
    assert written == set(manifest["path"])


def test_frames_are_packed_by_pythons_own_bzip2_whatever_else_is_installed(sky):
    content = next((sky[0] / "sas").rglob("frame-g-*.bz2")).read_bytes()
    assert content == bz2.compress(bz2.decompress(content), render.BZ2_LEVEL)


def test_adjacent_fields_share_128_rows_of_identical_pixels(sky):
    first, second = sky[1].iloc[0], sky[1].iloc[1]
    assert (first.run, first.field + 1) == (second.run, second.field)
    for band in SDSS.band_names:
        with open_frame(sky, first, band) as one, open_frame(sky, second, band) as two:
            assert np.array_equal(one[0].data[FIELD_ROWS:], two[0].data[: FRAME_SHAPE[0] - FIELD_ROWS])


def test_frames_have_the_layout_of_real_frames(sky, shared_data):
    real_path = shared_data / "sas" / Frame(3900, 6, 269, "u").path(12)
    with open_frame(sky, sky[1].iloc[0], "u") as ours, fits.open(real_path) as real:
        assert [type(hdu) for hdu in ours] == [type(hdu) for hdu in real]
        assert ours[0].data.shape == real[0].data.shape == FRAME_SHAPE
        assert ours[0].header["BITPIX"] == real[0].header["BITPIX"] == -32
        assert set(ours[0].header) <= set(real[0].header)
        for key, value in ours[0].header.items():
            assert type(value) is type(real[0].header[key]) or isinstance(value, int | float), key
        for key in ("BUNIT", "CTYPE1", "CTYPE2", "RADECSYS", "RERUN", "CRPIX1", "CRPIX2", "CUNIT1", "ORIGIN"):
            assert ours[0].header[key] == real[0].header[key]
        assert ours[1].data.dtype == real[1].data.dtype
        assert ours[1].data.shape == real[1].data.shape
        for number in (2, 3):
            assert ours[number].data.dtype == real[number].data.dtype
        assert ours[0].header["FRAME"] - ours[3].data["FIELD"][0] == real[0].header["FRAME"] - real[3].data["FIELD"][0]


def test_noise_is_that_of_real_frames(sky):
    typical = {"u": 0.043, "g": 0.017, "r": 0.029, "i": 0.05, "z": 0.17}
    for field in sky[1].itertuples():
        for band in SDSS.band_names:
            with open_frame(sky, field, band) as hdus:
                assert 0.65 < noise(hdus[0].data) / typical[band] < 1.5, (field.run, band)


def test_values_keep_ten_binary_digits_and_a_fifth_of_the_noise(sky):
    with open_frame(sky, sky[1].iloc[0], "r") as hdus:
        image = hdus[0].data.astype(np.float32)
        assert not np.any(image.view(np.uint32) & 0x1FFF)
        step = np.diff(np.unique(image[np.abs(image) < 0.05])).min()
        assert 0.1 < step / noise(image) < 0.3


def test_galaxies_lie_where_the_header_says(sky):
    objects = sky[2][(sky[2]["type"] == 3) & (sky[2]["model_mag_r"] < 17)]
    offsets = []
    for key, group in objects.groupby(["run", "camcol", "field"]):
        with open_frame(sky, pd.Series(key, ["run", "camcol", "field"]), "r") as hdus:
            image, wcs = hdus[0].data, WCS(hdus[0].header)
        for x, y in zip(*wcs.wcs_world2pix(group["ra"], group["dec"], 0), strict=True):
            if not (12 < x < 2035 and 12 < y < 1476):
                continue
            rows, columns = slice(int(y) - 5, int(y) + 7), slice(int(x) - 5, int(x) + 7)
            light = np.clip(image[rows, columns], 0, None) ** 2
            yy, xx = np.mgrid[rows, columns]
            offsets.append([(light * xx).sum() / light.sum() - x, (light * yy).sum() / light.sum() - y])
    assert len(offsets) > 15
    assert np.abs(np.median(offsets, axis=0)).max() < 0.15
    assert np.percentile(np.abs(offsets), 80) < 0.6


@pytest.mark.parametrize("band", "ur")
def test_catalogue_magnitudes_are_those_of_the_pixels_in_the_served_frames(sky, band):
    """Light within two Petrosian radii, summed on the file: it has the catalogue's own noise, not another draw."""
    pulls = []
    for key, group in sky[2].groupby(["run", "camcol", "field"]):
        with (
            open_frame(sky, pd.Series(key, ["run", "camcol", "field"]), band) as hdus,
            warnings.catch_warnings(action="ignore"),
        ):
            image, wcs = hdus[0].data.astype(float), WCS(hdus[0].header)
        x, y = wcs.wcs_world2pix(group["ra"], group["dec"], 0)
        separation = np.hypot(x[:, None] - x, y[:, None] - y) + 1e4 * np.eye(len(x))
        radius = 2 * group["petro_rad_r"].to_numpy() / SDSS.pixel_scale
        for k in np.flatnonzero((group["kind"] == "target") & (separation.min(axis=1) > radius + 25)):
            if not (radius[k] < x[k] < 2047 - radius[k] and radius[k] < y[k] < 1488 - radius[k]):
                continue
            inside = (np.arange(FRAME_SHAPE[0])[:, None] - y[k]) ** 2 + (np.arange(FRAME_SHAPE[1]) - x[k]) ** 2
            inside = inside < radius[k] ** 2
            expected = 10 ** (0.4 * (22.5 - group[f"petro_mag_{band}"].iat[k]))
            error = expected * group[f"petro_mag_err_{band}"].iat[k] * np.log(10) / 2.5
            pulls.append((image[inside].sum() - expected) / error)
    print(f"{band}: {len(pulls)} galaxies, median difference {np.median(np.abs(pulls)):.2f} of the quoted error")
    assert len(pulls) > 10
    assert np.median(np.abs(pulls)) < 0.3  # another draw would differ by 0.95


def test_suspect_strip_is_too_faint_in_one_band_by_three_hundredths(sky):
    truth = pd.concat([scene.objects for scene in draw_scenes(TINY)], ignore_index=True)
    objects = sky[2][(sky[2]["kind"] == "target") & (sky[2]["model_mag_r"] < 18)]
    shift = {}
    for suspect, group in objects.groupby("suspect"):
        nearest = [((truth["ra"] - o.ra) ** 2 + (truth["dec"] - o.dec) ** 2).idxmin() for o in group.itertuples()]
        true = 22.5 - 2.5 * np.log10(truth[["flux_g", "flux_r"]].loc[nearest].to_numpy())
        shift[suspect] = np.median(group[["model_mag_g", "model_mag_r"]].to_numpy() - true, axis=0)
    difference = shift[True] - shift[False]
    assert difference[0] - difference[1] == pytest.approx(build.SUSPECT_ERROR, abs=0.012)


def test_footprints_from_the_queried_fields_are_those_of_the_headers_in_every_band_and_run(sky, tmp_path):
    """Catalogue, query, each band's terms and formula, against the 4,096 pixels of each grid by astropy.wcs."""
    write_catalog(tmp_path / "catalog.duckdb", sky[1], sky[2], TINY.seed)
    fields = query_fields(Archive(), tmp_path)
    headers = {}
    for field, band in itertools.product(fields.itertuples(), SDSS.band_names):
        frame = Frame(field.run, field.camcol, field.field, band)
        with bz2.open(sky[0] / "sas" / frame.path()) as file, warnings.catch_warnings(action="ignore"):
            headers[frame] = WCS(fits.Header.fromfile(file))
    rng = np.random.default_rng(1)
    places = [sky[2][["ra", "dec"]].to_numpy()[::8]]
    for wcs in headers.values():  # as far outside of each edge as a grid, turned or not, begins to miss the frame
        pixels = rng.uniform(-40, (FRAME_SHAPE[1] + 40, FRAME_SHAPE[0] + 40), (8, 2))
        outside, axis = rng.uniform(24, 46, 8), np.arange(8) % 2
        length = np.array(FRAME_SHAPE[::-1])[axis]
        pixels[np.arange(8), axis] = np.where(np.arange(8) < 4, -outside, length + outside)
        places.append(wcs.wcs_pix2world(pixels, 0))
    ra, dec = np.concatenate(places).T
    found = overlapping_frames(ra, dec, fields)
    listed = set(found[["galaxy", "run", "camcol", "field", "band"]].itertuples(index=False, name=None))
    assert len(listed) == len(found)
    y, x = np.mgrid[:64, :64].reshape(2, -1) - 31.5
    covered, vain = 0, 0
    for galaxy in range(len(ra)):
        grid = WCS(naxis=2)
        grid.wcs.ctype, grid.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra[galaxy], dec[galaxy]]
        grid.wcs.crpix, grid.wcs.cdelt = [1, 1], [-SDSS.pixel_scale / 3600, SDSS.pixel_scale / 3600]
        pixels = np.column_stack(grid.wcs_pix2world(x, y, 0))
        for key, wcs in headers.items():
            if np.hypot(*((wcs.wcs.crval - [ra[galaxy], dec[galaxy]]) * [np.cos(np.radians(dec[galaxy])), 1])) > 0.3:
                assert (galaxy, *key) not in listed
                continue
            inside = inside_by(wcs.wcs_world2pix(pixels, 0))  # pixels by which the innermost one is inside, or not
            covered += inside >= 0
            assert inside < 0 or (galaxy, *key) in listed
            vain += inside < 0 and (galaxy, *key) in listed
            assert inside > -(FRAME_MARGIN + 0.1) or (galaxy, *key) not in listed  # headers are a fit to 0.1 pixel
    print(f"{covered} frames cover a pixel of a grid, none missed; {vain} listed that miss it by a fraction of a pixel")
    assert covered > 500
    assert vain < 0.06 * covered  # of positions that were put where grids begin to miss a frame
    by_run = found.groupby(["galaxy", "band", "run"])["field"].nunique()
    assert (by_run.groupby("band").max() == 2).all()  # adjacent fields
    assert (by_run.groupby(["galaxy", "band"]).size().groupby("band").max() == 2).all()  # both runs of the patch


def inside_by(pixels):
    """Depth (pixels) of the innermost pixel of a grid in the part of a frame where all 36 taps lie inside."""
    highest = np.array([FRAME_SHAPE[1] - 3, FRAME_SHAPE[0] - 3])
    return np.minimum(pixels - 2, np.nextafter(highest, 0) - pixels).min(axis=1).max()


@pytest.mark.parametrize(("half_light", "axis_ratio"), [(3.0, 0.9), (6.0, 0.4)])
def test_stamps_equal_galsims_own_drawing(half_light, axis_ratio):
    size, x, y = 128, 70.3, 55.8
    psf = render.PointSpread(1.3, (0.01, -0.02))
    for kind in (galsim.Exponential, galsim.DeVaucouleurs):
        galaxy = kind(half_light_radius=half_light).shear(q=axis_ratio, beta=40 * galsim.degrees)
        pixels, row, column = render.stamp(render.fourier_image(galaxy, size) * psf.fourier(size), x, y)
        star = galsim.Moffat(beta=render.MOFFAT_BETA, fwhm=1.3 / SDSS.pixel_scale).shear(g1=0.01, g2=-0.02)
        image = galsim.ImageF(size, size)
        offset = galsim.PositionD(x - column - (size - 1) / 2, y - row - (size - 1) / 2)
        expected = galsim.Convolve(galaxy, star).drawImage(image, scale=1.0, offset=offset).array
        assert np.abs(pixels - expected).max() < 2e-3 * expected.max()
        core = expected > 0.01 * expected.max()
        assert pixels[core].sum() == pytest.approx(expected[core].sum(), rel=2e-3)


def test_profiles_end_where_they_have_vanished_in_the_noise():
    scene = draw_scenes(TINY)[0]
    shapes = build._shapes(scene, 0)
    now = scene.conditions[0][0]
    psf = render.PointSpread(now["r"]["fwhm"], tuple(now["r"]["shear"]))
    limit = np.sqrt(now["r"]["sky"] / now["r"]["gain"] + now["r"]["dark_variance"]) * now["r"]["nmgy"]
    for (parts, size), thing in zip(shapes, scene.objects.itertuples(), strict=True):
        if parts is None or size == render.STAMP_SIZES[-1]:
            continue
        fraction = thing.bulge_fraction_r
        pixels, _, _ = render.stamp((fraction * parts[0] + (1 - fraction) * parts[1]) * psf.fourier(size), 0.0, 0.0)
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]) * thing.flux_r
        assert edge.max() < 0.05 * limit
