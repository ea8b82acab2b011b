"""Fields from the survey's window_flist.fits: no frame is missed though it has bounds alone; bad files are named."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from sdss_photoz.archive import flist
from sdss_photoz.archive.flist import read_flist
from sdss_photoz.archive.services import query_fields
from sdss_photoz.config import Archive, Region
from sdss_photoz.errors import UserError
from sdss_photoz.frames.footprint import overlapping_frames
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import CONDITIONS, TERMS, sky_position
from sdss_photoz.surveys.sdss import FRAME_SHAPE

NODE, INCL = 94.998448, 40.0044  # of run 3900, from HDU 3 of its frames
PIXEL = 0.396 / 3600


def write(path, table):
    """A table as the survey's list has it, with some of the columns that nobody asks for."""
    other = {"mjd": np.full(len(table), 52755), "tai": np.zeros((len(table), 5)), "score": np.ones(len(table), "f4")}
    columns = {name: table[name].to_numpy() for name in table if name != "rerun"}
    kinds = {"run": "J", "camcol": "I", "field": "J"}
    listed = [fits.Column(name.upper(), kinds.get(name, "D"), array=values) for name, values in columns.items()]
    if "rerun" in table:
        listed.append(fits.Column("RERUN", "3A", array=table["rerun"].to_numpy().astype("S3")))
    listed += [fits.Column("MJD", "J", array=other["mjd"]), fits.Column("TAI", "5D", array=other["tai"])]
    fits.BinTableHDU.from_columns(listed).writeto(path, overwrite=True)
    return path


@pytest.fixture(scope="module")
def real(shared_data):
    """Fields of a real run: bounds from the survey's list, and the terms of each band."""
    return fits.getdata(shared_data / "catalog" / "photoField-003900-6.fits")


@pytest.fixture(scope="module")
def listed(real):
    """The same fields as the list has them."""
    names = ("run", "camcol", "field", "rerun", "ra", "dec", *flist.BOUNDS)
    columns = {name: np.asarray(real[name.upper()]) for name in names}
    columns = {name: column.astype(column.dtype.newbyteorder("=")) for name, column in columns.items()}
    return pd.DataFrame(columns).assign(node=NODE, incl=INCL)


@pytest.fixture
def path(listed, tmp_path):
    return write(tmp_path / "window_flist.fits", listed)


def terms_of(real, band):
    return [np.asarray(real[name], float)[:, SDSS.band_names.index(band)] for name in ("A", "B", "C", "D", "E", "FF")]


def largest_error(real, fields):
    """How far (pixels) any band's corners lie from where the fields' terms have them."""
    a, b, c, d, e, f = (fields[term].to_numpy() for term in TERMS)
    largest = np.zeros(len(fields))
    for band in SDSS.band_names:
        own = terms_of(real, band)
        for row in (0, FRAME_SHAPE[0]):
            for col in (0, FRAME_SHAPE[1]):
                mu, nu = own[0] + own[1] * row + own[2] * col, own[3] + own[4] * row + own[5] * col
                far = np.maximum(np.abs(mu - a - b * row - c * col), np.abs(nu - d - e * row - f * col)) / PIXEL
                largest = np.maximum(largest, far)
    return largest


def test_terms_from_bounds_lie_within_their_margin_on_a_real_run(real, path):
    fields = read_flist(path)
    error = largest_error(real, fields)
    print(f"largest error over {len(fields)} fields and five bands: {error.max():.1f} pixels")
    assert list(fields.field) == list(real["FIELD"])
    assert 20 < error.max() < flist.BOUNDS_MARGIN
    assert (fields.margin >= flist.BOUNDS_MARGIN).all()
    assert fields[CONDITIONS].isna().all(axis=None)  # the list has neither seeing nor sky
    assert fields.margin.max() < flist.BOUNDS_MARGIN + 13  # of ra and dec, which are those of the r band


@pytest.mark.parametrize("band", SDSS.band_names)
def test_no_frame_of_a_real_run_is_missed(band, real, path):
    rng = np.random.default_rng(1)
    terms = dict(zip(TERMS, terms_of(real, band), strict=True))
    true = pd.DataFrame({name: real[name.upper()].astype(int) for name in ("run", "camcol", "field")})
    true = true.assign(node=NODE, incl=INCL, **terms)
    place = true.iloc[rng.integers(0, len(true), 3000)]
    row = np.where(rng.random(3000) < 0.5, rng.uniform(-40, 1530, 3000), rng.choice([-20.0, 5.0, 1480.0, 1500.0], 3000))
    col = rng.uniform(-40, 2090, 3000)
    mu, nu = place.a + place.b * row + place.c * col, place.d + place.e * row + place.f * col
    ra, dec = sky_position(mu.to_numpy(), nu.to_numpy(), NODE, INCL)
    names = ["galaxy", "run", "camcol", "field"]
    needed, found = (
        frames.loc[frames.band == at, names]
        for frames, at in (
            (overlapping_frames(ra, dec, true), "r"),
            (overlapping_frames(ra, dec, read_flist(path)), band),
        )
    )
    both = needed.merge(found, on=names)
    assert len(both) == len(needed) > 2800
    assert len(found) < 1.15 * len(needed)


def test_a_nominal_great_circle_widens_the_margin_by_what_it_is_wrong(listed, tmp_path):
    """If the list had node 95 and inclination 40 its ra and dec would tell so."""
    right = read_flist(write(tmp_path / "right.fits", listed))
    nominal = read_flist(write(tmp_path / "nominal.fits", listed.assign(node=95.0, incl=40.0)))
    assert (nominal.margin > right.margin + 5).all()
    place = right.iloc[::40]
    corner = (place.a - 20 * place.b).to_numpy(), (place.d + 900 * place.f).to_numpy()
    ra, dec = sky_position(*corner, NODE, INCL)
    names = ["galaxy", "run", "camcol", "field", "band"]
    needed, found = (overlapping_frames(ra, dec, fields)[names] for fields in (right.assign(margin=0.0), nominal))
    assert len(needed.merge(found, on=names)) == len(needed) > 0


def test_fields_of_other_reruns_are_left_out(listed, tmp_path):
    mixed = listed.assign(rerun=np.where(listed.field % 2 == 0, "301", "157"))
    fields = read_flist(write(tmp_path / "window_flist.fits", mixed))
    assert (fields.field % 2 == 0).all()
    assert len(fields) == (listed.field % 2 == 0).sum()


def test_fields_of_a_region_are_those_that_reach_into_it(listed, path):
    region = Region(ra=(150.0, 152.0), dec=(0.0, 60.0))
    fields, everywhere = read_flist(path, region), read_flist(path)
    assert 0 < len(fields) < len(everywhere) / 4
    rng = np.random.default_rng(2)
    place = everywhere.iloc[rng.integers(0, len(everywhere), 20_000)]
    mu = place.a + place.b * rng.uniform(0, 1489, 20_000)
    nu = place.d + place.f * rng.uniform(0, 2048, 20_000)
    ra, dec = sky_position(mu.to_numpy(), nu.to_numpy(), NODE, INCL)
    inside = (ra >= 150) & (ra <= 152)
    assert inside.sum() > 100
    pd.testing.assert_frame_equal(
        overlapping_frames(ra[inside], dec[inside], fields), overlapping_frames(ra[inside], dec[inside], everywhere)
    )


def test_a_field_across_mu_360_keeps_its_width(listed, tmp_path):
    moved = listed.iloc[:1].copy()
    wide = float(moved.mu_end.iloc[0] - moved.mu_start.iloc[0])
    mu = np.array([360 - wide / 3])
    nu = (moved.nu_start + moved.nu_end).to_numpy() / 2
    ra, dec = sky_position(mu + wide / 2, nu, NODE, INCL)
    moved = moved.assign(mu_start=mu, mu_end=mu + wide - 360, ra=ra, dec=dec)
    field = read_flist(write(tmp_path / "window_flist.fits", moved)).iloc[0]
    assert field.b == pytest.approx(PIXEL, rel=1e-3)
    assert field.margin == pytest.approx(flist.BOUNDS_MARGIN, abs=1e-3)


def test_the_key_leads_to_the_list_and_asks_no_service(path, tmp_path):
    archive = Archive(service="skyserver", skyserver="http://127.0.0.1:1", window_flist=str(path))
    pd.testing.assert_frame_equal(query_fields(archive, tmp_path / "archive"), read_flist(path))


def test_a_file_that_is_missing_or_none_is_one_sentence(listed, path, tmp_path):
    text, image = tmp_path / "text.fits", tmp_path / "image.fits"
    text.write_text("<html>404</html>")
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(image)
    short = tmp_path / "short.fits"
    short.write_bytes(path.read_bytes()[:50_000])
    sentences = {
        tmp_path / "nowhere.fits": r"nowhere\.fits, cannot be read: No such file or directory",
        text: r"text\.fits, cannot be read: it is no FITS file",
        image: r"image\.fits, is no whole FITS file with a table",
        short: r"short\.fits, is no whole FITS file with a table",
        write(tmp_path / "lacking.fits", listed.drop(columns="mu_end")): r"lacking\.fits lacks the column mu_end",
        write(tmp_path / "others.fits", listed.assign(rerun="157")): r"others\.fits, has no field of rerun 301\.",
    }
    for file, sentence in sentences.items():
        with pytest.raises(UserError, match=sentence) as refusal:
            read_flist(file)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match=r"no field of rerun 301 in the region: check archive\.region"):
        read_flist(path, Region(ra=(10.0, 11.0), dec=(-80.0, -70.0)))


@pytest.mark.parametrize(
    ("column", "value"), [("incl", 32.5), ("mu_end", 0.0), ("nu_end", np.nan), ("camcol", 9), ("ra", -9999.0)]
)
def test_a_field_that_cannot_be_right_is_named(column, value, listed, tmp_path):
    listed = listed.copy()
    listed.loc[7, column] = value
    with pytest.raises(UserError, match=r"has 1 fields, 3900-\d-\d+ for one, that are not 1361 x 1920 pixels"):
        read_flist(write(tmp_path / "window_flist.fits", listed))
