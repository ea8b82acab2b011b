"""Footprints: no frame is missed, none is listed that adds no pixel, against brute force through astropy.wcs."""

import bz2
import io
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from sdss_photoz.errors import UserError
from sdss_photoz.frames import footprint
from sdss_photoz.frames.footprint import covers, fields_near, grid_on_frame, overlapping_frames
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid
from sdss_photoz.surveys.great_circle import TERMS, sky_position
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame

PIXEL = 0.396 / 3600
NY, NX = FRAME_SHAPE


def swarp_grid(ra, dec, grid=CUBE):
    """World coordinates of the pixels of SWarp's grid round a position."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
    step = grid.pixel_scale / 3600
    wcs.wcs.crpix, wcs.wcs.cdelt = [(grid.size + 1) / 2] * 2, [-step, step]
    x, y = np.meshgrid(np.arange(grid.size), np.arange(grid.size))
    return wcs.all_pix2world(x.ravel(), y.ravel(), 0)


def any_pixel(x, y, larger=0.0):
    """SWarp's rule: 2 <= floor(x) <= NX - 4, likewise y, for a frame grown by `larger` pixels."""
    return bool(np.any((x >= 2 - larger) & (x < NX - 3 + larger) & (y >= 2 - larger) & (y < NY - 3 + larger)))


@pytest.fixture(scope="module")
def real_frames(shared_data):
    """Header and astrometric terms of every real frame."""
    frames = {}
    for path in sorted(shared_data.glob("sas/**/frame-*.fits.bz2")):
        with fits.open(io.BytesIO(bz2.decompress(path.read_bytes()))) as file:
            row = file[3].data[0]
            terms = [float(row[name]) for name in ("A", "B", "C", "D", "E", "F")]
            with warnings.catch_warnings(action="ignore"):  # RADECSYS is the deprecated spelling
                wcs = WCS(file[0].header)
            frames[Frame.from_path(path)] = (wcs, float(row["NODE"]), float(row["INCL"]), terms)
    return frames


def edge_positions(wcs, count, rng, reach=60):
    """Positions within `reach` pixels of a frame's edges and corners, inside and outside."""
    across = rng.integers(0, 4, count)
    x, y = rng.uniform(-reach, NX + reach, count), rng.uniform(-reach, NY + reach, count)
    depth = rng.uniform(-reach, reach, count)
    x = np.where(across == 0, depth, np.where(across == 1, NX + depth, x))
    y = np.where(across == 2, depth, np.where(across == 3, NY + depth, y))
    return wcs.all_pix2world(x, y, 0)


def as_fields(frames, bands=True):
    """The table of fields that the archive would give for real frames: r terms, and those of each band."""
    rows = {}
    for frame, (_, node, incl, terms) in frames.items():
        row = rows.setdefault(frame[:3], dict(zip(("run", "camcol", "field"), frame[:3], strict=True)))
        row |= {"node": node, "incl": incl}
        if bands:
            row |= {f"{name}_{frame.band}": value for name, value in zip(TERMS, terms, strict=True)}
        if frame.band == "r" or "a" not in row:
            row |= dict(zip(TERMS, terms, strict=True))
    return pd.DataFrame(rows.values())


def test_great_circle_terms_place_pixels_as_the_headers_of_real_frames_do(real_frames):
    rng = np.random.default_rng(1)
    worst = 0.0
    for wcs, node, incl, terms in real_frames.values():
        x, y = rng.uniform(0, NX, 300), rng.uniform(0, NY, 300)
        ra, dec = wcs.all_pix2world(x, y, 0)
        pixels = grid_on_frame(ra, dec, node, incl, terms)[:, 0]
        worst = max(worst, np.abs(pixels - np.stack([x, y], axis=1)).max())
    print(f"largest difference over {len(real_frames)} real frames: {worst:.3f} pixels")
    assert worst < footprint.FRAME_MARGIN


def test_no_real_frame_is_missed_and_none_listed_that_adds_no_pixel(real_frames):
    rng = np.random.default_rng(2)
    listed = missed = extra = 0
    fields = as_fields(real_frames)
    for frame, (wcs, *_) in real_frames.items():
        ra, dec = edge_positions(wcs, 40, rng)
        found = overlapping_frames(ra, dec, fields)
        own = (found[["run", "camcol", "field", "band"]] == list(frame)).all(axis=1)
        mine = set(found.loc[own, "galaxy"])
        for index in range(len(ra)):
            x, y = wcs.all_world2pix(*swarp_grid(ra[index], dec[index]), 0)
            truth = any_pixel(x, y)
            listed += truth
            missed += truth and index not in mine
            extra += index in mine and not any_pixel(x, y, 2 * footprint.FRAME_MARGIN)
    print(f"{listed} of {40 * len(real_frames)} grids touch their frame: {missed} missed, {extra} listed in vain")
    assert listed > 300
    assert (missed, extra) == (0, 0)


@pytest.mark.parametrize("grid", [PixelGrid(256, 0.396, ("g", "i")), PixelGrid(27, 0.55, tuple("griz"))], ids=str)
def test_no_real_frame_is_missed_by_larger_and_smaller_cubes_of_fewer_bands(real_frames, grid):
    rng = np.random.default_rng(grid.size)
    listed = missed = extra = 0
    fields = as_fields(real_frames)
    chosen = [frame for frame in real_frames if frame[:3] == (4510, 4, 30)]
    for frame in chosen:
        wcs, half = real_frames[frame][0], grid.size * grid.pixel_scale / SDSS.pixel_scale / 2
        ra, dec = edge_positions(wcs, 30, rng, reach=1.6 * half)
        found = overlapping_frames(ra, dec, fields, grid)
        assert set(found["band"]) <= set(grid.bands)
        mine = set(found.loc[(found[["run", "camcol", "field", "band"]] == list(frame)).all(axis=1), "galaxy"])
        for index in range(len(ra)):
            x, y = wcs.all_world2pix(*swarp_grid(ra[index], dec[index], grid), 0)
            truth = any_pixel(x, y) and frame.band in grid.bands
            listed += truth
            missed += truth and index not in mine
            extra += index in mine and not any_pixel(x, y, 2 * footprint.FRAME_MARGIN)
    assert listed > 15 * len(set(grid.bands) & {frame.band for frame in chosen})
    assert (missed, extra) == (0, 0)


def test_fields_whose_centres_are_as_far_as_half_the_diagonals_are_near(real_frames, tmp_path):
    """A cube of 256 pixels reaches 36 arcsec further than one of 64, beyond the circle that bounds a field for it."""
    fields, (wcs, *_) = as_fields(real_frames), real_frames[Frame(4510, 4, 30, "r")]
    fields = fields[fields["run"] == 4510]
    fields.to_parquet(tmp_path / "fields.parquet")
    ra, dec = (np.atleast_1d(value) for value in wcs.all_pix2world(-80.0, -80.0, 0))
    large = CUBE._replace(size=256)
    assert len(fields_near(tmp_path / "fields.parquet", ra, dec)) == 0
    near = fields_near(tmp_path / "fields.parquet", ra, dec, grid=large)
    assert len(overlapping_frames(ra, dec, near, large)) == 5


def test_without_terms_of_their_own_other_bands_take_a_margin(real_frames):
    """Table Frame has the r band's terms only: still no frame is missed, and the extras lie within the margin."""
    rng = np.random.default_rng(3)
    whole = {frame for frame in real_frames if all((*frame[:3], band) in real_frames for band in SDSS.band_names)}
    assert len(whole) == 15
    fields = as_fields({frame: real_frames[frame] for frame in whole}, bands=False)
    missed = beyond = extra = 0
    for frame in whole:
        wcs = real_frames[frame][0]
        ra, dec = edge_positions(wcs, 25, rng, reach=80)
        found = overlapping_frames(ra, dec, fields)
        mine = set(found.loc[(found[["run", "camcol", "field", "band"]] == list(frame)).all(axis=1), "galaxy"])
        for index in range(len(ra)):
            x, y = wcs.all_world2pix(*swarp_grid(ra[index], dec[index]), 0)
            missed += any_pixel(x, y) and index not in mine
            extra += index in mine and not any_pixel(x, y)
            beyond += index in mine and not any_pixel(x, y, 2 * footprint.BAND_MARGIN)
    assert (missed, beyond) == (0, 0)
    assert extra > 0


def test_bands_of_a_real_run_lie_within_the_margin(shared_data, real_frames):
    table = fits.getdata(shared_data / "catalog" / "photoField-003900-6.fits")
    a, b, c, d, e, f = (np.asarray(table[name], float) for name in ("A", "B", "C", "D", "E", "FF"))
    r = SDSS.band_names.index("r")
    largest = 0.0
    for row, col in ((0, 0), (0, NX), (NY, 0), (NY, NX)):
        mu, nu = a + b * row + c * col, d + e * row + f * col
        largest = max(largest, *(np.abs(term - term[:, r : r + 1]).max() / PIXEL for term in (mu, nu)))
    print(f"bands lie up to {largest:.1f} pixels from r in {len(table)} fields")
    assert 10 < largest < footprint.BAND_MARGIN


def test_single_precision_terms_stay_within_their_margin(shared_data, real_frames):
    """Table Field (and photoField) round a … f to single precision."""
    table = fits.getdata(shared_data / "catalog" / "photoField-003900-6.fits")
    row = table[table["FIELD"] == 269][0]
    (wcs, node, incl, _) = real_frames[Frame(3900, 6, 269, "u")]
    rounded = [float(row[name][0]) for name in ("A", "B", "C", "D", "E", "FF")]
    x, y = np.meshgrid(np.linspace(0, NX, 20), np.linspace(0, NY, 20))
    ra, dec = wcs.all_pix2world(x.ravel(), y.ravel(), 0)
    pixels = grid_on_frame(ra, dec, node, incl, rounded)[:, 0]
    assert np.abs(pixels - np.stack([x.ravel(), y.ravel()], axis=1)).max() < footprint.FRAME_MARGIN
    assert np.spacing(np.float32(359.9)) / 2 / PIXEL + 0.05 < footprint.FRAME_MARGIN


def fields_anywhere(count, rng, node=None, incl=None, mu=None, nu=None):
    node = rng.uniform(0, 360, count) if node is None else np.full(count, node)
    incl = rng.uniform(-10, 90, count) if incl is None else np.full(count, incl)
    mu = rng.uniform(0, 360, count) if mu is None else mu
    nu = rng.uniform(-1.3, 1.1, count) if nu is None else nu
    table = pd.DataFrame({"run": np.arange(count) + 94, "camcol": 3, "field": 11, "node": node, "incl": incl})
    scale = PIXEL * (1 + rng.normal(0, 1e-4, (2, count)))
    table = table.assign(a=mu, b=scale[0], c=rng.normal(0, 3e-8, count), d=nu, e=rng.normal(0, 3e-8, count), f=scale[1])
    return table


def brute_force(ra, dec, field, larger=0.0):
    """Whether one field covers a pixel of a galaxy's grid, by the formula on each of the 4,096 pixels."""
    ra, dec = np.radians(swarp_grid(ra, dec))
    x, i = ra - np.radians(field.node), np.radians(field.incl)
    mu = field.node + np.degrees(
        np.arctan2(np.sin(x) * np.cos(dec) * np.cos(i) + np.sin(dec) * np.sin(i), np.cos(x) * np.cos(dec))
    )
    nu = np.degrees(np.arcsin(-np.sin(x) * np.cos(dec) * np.sin(i) + np.sin(dec) * np.cos(i)))
    terms = np.array([[field.b, field.c], [field.e, field.f]])
    row, col = np.linalg.solve(terms, np.stack([(mu - field.a + 180) % 360 - 180, nu - field.d]))
    return any_pixel(col - 0.5, row - 0.5, larger)


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("anywhere", {}),
        ("through right ascension 0", {"node": 275.0, "incl": 15.0, "mu": np.array([359.9, 0.0, 359.95, 359.98] * 2)}),
        ("at the pole", {"node": 95.0, "incl": 90.0, "mu": np.linspace(184.5, 185.4, 8), "nu": np.zeros(8)}),
        ("on the equator", {"incl": 0.0}),
    ],
)
def test_fields_anywhere_on_the_sky_are_found(where, options):
    rng = np.random.default_rng(4)
    fields = fields_anywhere(8, rng, **options)
    near = rng.integers(0, len(fields), 80)
    place = fields.iloc[near].reset_index(drop=True)
    depth = rng.uniform(-40, 5, 80)
    row = np.where(rng.random(80) < 0.5, np.where(rng.random(80) < 0.5, depth, NY - depth), rng.uniform(-30, NY, 80))
    col = np.where((row < 10) | (row > NY - 10), rng.uniform(-40, NX + 40, 80), NX - depth)
    ra, dec = sky_position(
        place.a + place.b * row + place.c * col, place.d + place.e * row + place.f * col, place.node, place.incl
    )
    found = overlapping_frames(ra.to_numpy(), dec.to_numpy(), fields)
    listed = set(found.loc[found.band == "r", ["galaxy", "run"]].itertuples(index=False, name=None))
    yes = no = 0
    for galaxy in range(80):
        for field in fields.itertuples():
            pair = (galaxy, field.run)
            if brute_force(ra[galaxy], dec[galaxy], field):
                yes += 1
                assert pair in listed
            elif pair in listed:
                no += 1
                assert brute_force(ra[galaxy], dec[galaxy], field, footprint.FRAME_MARGIN + 1e-3)
    assert yes > 30
    assert no < 5


def test_rows_that_adjacent_fields_share_list_both():
    fields = fields_anywhere(1, np.random.default_rng(5)).iloc[[0, 0]].reset_index(drop=True)
    fields["field"] = [11, 12]
    fields.loc[1, "a"] += 1361 * fields.b[0]
    row = np.array([700.0, 1425.0, 1361 + 700.0])
    first = fields.iloc[0]
    ra, dec = sky_position(
        first.a + first.b * row + first.c * 1000, first.d + first.e * row + first.f * 1000, first.node, first.incl
    )
    found = overlapping_frames(ra, dec, fields)
    assert [sorted(set(found.field[found.galaxy == galaxy])) for galaxy in range(3)] == [[11], [11, 12], [12]]
    assert list(found.band[(found.galaxy == 0)]) == list(SDSS.band_names)


def test_a_grid_that_only_slips_between_pixel_centres_is_not_covered():
    """A corner of the turned grid may reach into the frame without any of its pixel centres."""
    turn = np.radians(45)
    step = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    reach = 31.5 * np.sqrt(2)
    for depth in np.linspace(-0.19, 0.81, 21):
        pixels = np.array([[[2 - reach + depth, 700.0], *step]])
        assert covers(pixels)[0] == (depth >= 0)


def test_fields_without_terms_are_refused():
    fields = fields_anywhere(3, np.random.default_rng(6))
    with pytest.raises(UserError, match="lacks the column incl"):
        overlapping_frames([1.0], [2.0], fields.drop(columns="incl"))
    fields.loc[1, "d"] = np.nan
    with pytest.raises(UserError, match="field 95-3-11 has no astrometric terms"):
        overlapping_frames([1.0], [2.0], fields)


def test_a_galaxy_outside_of_all_fields_has_no_frame():
    fields = fields_anywhere(3, np.random.default_rng(7), incl=10.0)
    found = overlapping_frames([10.0], [80.0], fields)
    assert len(found) == 0
    assert list(found.columns) == ["galaxy", "run", "camcol", "field", "band"]


@pytest.fixture
def survey(tmp_path):
    """A table of fields on disk, and galaxies round a few of them."""
    rng = np.random.default_rng(8)
    fields = fields_anywhere(3000, rng).assign(fieldID=np.arange(3000), quality=3)
    bands = {f"{term}_{band}": np.float32(fields[term]) for term in TERMS for band in SDSS.band_names}
    fields = pd.concat([fields, pd.DataFrame(bands)], axis=1)
    fields.to_parquet(tmp_path / "fields.parquet", row_group_size=500)
    place = fields.iloc[rng.integers(0, 40, 300)]
    row, col = rng.uniform(-40, NY + 40, 300), rng.uniform(-40, NX + 40, 300)
    mu, nu = place.a + place.b * row + place.c * col, place.d + place.e * row + place.f * col
    return tmp_path / "fields.parquet", fields, *sky_position(*map(np.asarray, (mu, nu, place.node, place.incl)))


def test_fields_near_a_chunk_give_all_of_its_frames(survey):
    path, fields, ra, dec = survey
    near = fields_near(path, ra, dec)
    assert len(near) < 400
    assert "quality" not in near
    assert fields_near(path, ra, dec, ["quality", "unheard of"]).drop(columns="quality").equals(near)
    pd.testing.assert_frame_equal(overlapping_frames(ra, dec, near), overlapping_frames(ra, dec, fields))
    assert len(fields_near(path, [], [])) == 0


def test_fields_near_a_chunk_are_refused_without_terms(survey, tmp_path):
    _, fields, ra, dec = survey
    fields.drop(columns="incl").to_parquet(tmp_path / "lacking.parquet")
    with pytest.raises(UserError, match="lacks the column incl"):
        fields_near(tmp_path / "lacking.parquet", ra, dec)
    fields.assign(d=np.where(fields.index == 2999, np.nan, fields.d)).to_parquet(tmp_path / "holes.parquet")
    with pytest.raises(UserError, match="field 3093-3-11 has no astrometric terms"):
        fields_near(tmp_path / "holes.parquet", ra, dec)


def test_galaxies_are_matched_in_blocks_as_at_once(survey, monkeypatch):
    _, fields, ra, dec = survey
    at_once = overlapping_frames(ra, dec, fields)
    monkeypatch.setattr(footprint, "BATCH_GALAXIES", 7)
    pd.testing.assert_frame_equal(overlapping_frames(ra, dec, fields), at_once)
    order = ["galaxy", "rank", "run", "camcol", "field"]
    ranked = at_once.assign(rank=at_once.band.map(SDSS.band_names.index))
    pd.testing.assert_frame_equal(ranked, ranked.sort_values(order, ignore_index=True))


def test_a_field_with_a_margin_of_its_own_is_listed_that_far_out_in_every_band():
    fields = fields_anywhere(1, np.random.default_rng(9), incl=20.0).assign(margin=60.0)
    field = fields.iloc[0]
    for beyond, listed in ((59.0, True), (62.0, False)):
        row = -(31.5 + beyond - 2)  # the outermost pixel of the grid lies this far outside
        mu, nu = field.a + field.b * row + field.c * 1000, field.d + field.e * row + field.f * 1000
        ra, dec = sky_position(np.array([mu]), np.array([nu]), field.node, field.incl)
        turned = 31.5 * (
            np.abs(grid_on_frame(ra, dec, field.node, field.incl, field[list(TERMS)])[0, 1:]).sum(0)[1] - 1
        )
        mu = mu - field.b * turned  # a turned grid reaches farther than 31.5 pixels
        ra, dec = sky_position(np.array([mu]), np.array([nu]), field.node, field.incl)
        assert list(overlapping_frames(ra, dec, fields).band) == (list(SDSS.band_names) if listed else [])
