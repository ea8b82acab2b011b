"""The sample's queries: what they keep, what they drop, and how they fail."""

import errno
import shutil

import duckdb
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from sdss_photoz import files
from sdss_photoz.archive import services
from sdss_photoz.archive.query import build_query, full_state_disk_as_user_error, read_query, state_folder
from sdss_photoz.archive.services import query_fields, query_galaxies
from sdss_photoz.config import Archive, Region, Sample
from sdss_photoz.cubes.frame_astrometry import read_terms
from sdss_photoz.embedded import tsql
from sdss_photoz.embedded.schema import TABLES
from sdss_photoz.errors import UserError
from sdss_photoz.frames.footprint import overlapping_frames
from sdss_photoz.sample.selection import select
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import CONDITIONS, TERMS, centre_error, sky_position
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame


@pytest.fixture(scope="module")
def tables(catalog):
    with duckdb.connect(str(catalog), read_only=True) as connection:
        return {name: connection.execute(f'SELECT * FROM "{name}"').fetchdf() for name in TABLES}


@pytest.fixture(scope="module")
def wanted(tables):
    """The rows that the paper's conditions keep, by pandas."""
    spec = tables["SpecObjAll"].merge(
        tables["PhotoObjAll"], left_on="bestObjID", right_on="objID", suffixes=("", "_po")
    )
    spec = spec.merge(tables["galSpecInfo"], on="specObjID", suffixes=("", "_zi"))
    spec = spec[spec.objID.isin(tables["Photoz"].objID)]
    kept = (spec.z > 0) & (spec.zWarning == 0) & (spec.targetType == "SCIENCE") & (spec.survey == "sdss")
    kept &= (spec["class"] == "GALAXY") & (spec.primtarget >= 64) & (spec.clean == 1) & (spec.insideMask == 0)
    return spec[kept & (spec.petroMag_r - spec.extinction_r <= np.float32(17.8))].sort_values("specObjID")


@pytest.mark.parametrize("name", ["paper", "extended"])
def test_the_query_keeps_the_papers_rows_and_no_other(name, catalog, wanted):
    galaxies = tsql.run(catalog, read_query(name)).sort_values("specObjID")
    assert list(galaxies.specObjID) == list(wanted.specObjID)
    assert 600 < len(galaxies) < len(wanted) + 1
    assert np.array_equal(galaxies.z, wanted.z)
    assert np.allclose(galaxies.dered_petro_r, wanted.petroMag_r - wanted.extinction_r)


PAPERS_CUTS = ["za.z > 0", "za.zWarning = 0", "za.targetType = 'SCIENCE'", "za.survey = 'sdss'", "za.class = 'GALAXY'"]
PAPERS_CUTS += ["zi.primtarget >= 64", "po.clean = 1", "po.insideMask = 0", "(po.petroMag_r - po.extinction_r) <= 17.8"]
OUTER = {  # tables that hold no row for what a condition drops too
    "za.class = 'GALAXY'": "JOIN Photoz",
}


@pytest.mark.parametrize("condition", PAPERS_CUTS)
def test_without_a_condition_rows_come_that_it_drops(catalog, condition):
    """So the catalogue holds what each condition is there for, and nothing else drops it."""
    sent = read_query("paper")
    assert sent.count(condition) == 1
    if condition in OUTER:  # stars have no photometric redshift either
        sent = sent.replace(OUTER[condition], f"LEFT {OUTER[condition]}")
    kept, more = (set(tsql.run(catalog, query).specObjID) for query in (sent, sent.replace(condition, "1 = 1")))
    assert kept < more


@pytest.mark.parametrize(("table", "others"), [("Photoz", []), ("galSpecInfo", ["zi.primtarget >= 64"])])
def test_galaxies_without_a_row_in_a_joined_table_are_there_and_dropped(catalog, table, others):
    sent = read_query("paper")
    looser = sent.replace(f"JOIN {table}", f"LEFT JOIN {table}")
    for condition in others:
        looser = looser.replace(condition, f"({condition} OR zi.primtarget IS NULL)")
    assert set(tsql.run(catalog, sent).specObjID) < set(tsql.run(catalog, looser).specObjID)


def test_the_galaxies_are_the_rows_of_the_extended_query(catalog, wanted):
    galaxies = query_galaxies(Archive(), catalog.parent)
    assert list(galaxies.specObjID) == list(wanted.specObjID)
    assert list(galaxies) == build_query("galaxies").columns


def test_the_extended_query_has_the_papers_columns_and_more(catalog):
    paper, extended = (
        tsql.run(catalog, read_query(name)).sort_values("specObjID", ignore_index=True)
        for name in ("paper", "extended")
    )
    assert set(paper) <= set(extended)
    for column in paper:
        assert paper[column].equals(extended[column])


def test_neighbours_are_primary_objects_within_17_arcsec(catalog, tables):
    galaxies = query_galaxies(Archive(), catalog.parent)
    near = tables["Neighbors"].query("distance < 17 / 60").groupby("objID").size()
    assert np.array_equal(galaxies.neighbors, near.reindex(galaxies.objID).fillna(0))
    assert galaxies.neighbors.max() > 0
    assert (galaxies.neighbors == 0).any()


def test_the_papers_query_has_too_few_columns_for_the_analysis_and_the_selection_says_so(catalog):
    with pytest.raises(UserError, match="lacks the column sciencePrimary"):
        select(tsql.run(catalog, read_query("paper")), Sample(chunks=2))


def test_repeats_shreds_and_unmeasured_values_pass_the_query_and_not_the_selection(catalog, tables):
    asked = query_galaxies(Archive(), catalog.parent)
    galaxies, _ = select(asked, Sample(chunks=2))
    photo, close = tables["PhotoObjAll"], tables["Neighbors"].query("distance < 2 / 60")

    def both(objects, rows):
        return set(objects) & set(rows)

    for column in ("petroMag_r", "modelMag_u"):
        unmeasured = photo.objID[photo[column] == -9999]
        assert both(unmeasured, asked.objID)
        assert not both(unmeasured, galaxies.object_id)
    assert asked.objID.duplicated().any()
    assert (asked.sciencePrimary == 0).any()
    assert galaxies.object_id.is_unique
    for rows, left in ((asked.objID, True), (galaxies.object_id, False)):
        assert (close.objID.isin(rows) & close.neighborObjID.isin(rows)).any() == left
    unknown = tables["Photoz"].query("z == -9999").objID
    assert galaxies.z_archive[galaxies.object_id.isin(unknown)].isna().all()
    assert galaxies.z_archive.isna().sum() == len(both(unknown, galaxies.object_id))
    assert galaxies.petro_mag_u.isna().any()  # the sample needs no Petrosian u


def test_every_selected_galaxy_has_a_frame_in_every_band(catalog):
    galaxies, _ = select(query_galaxies(Archive(), catalog.parent), Sample(chunks=2))
    frames = overlapping_frames(galaxies.ra, galaxies.dec, query_fields(Archive(), catalog.parent))
    assert (frames.groupby("galaxy").band.nunique() == 5).all()
    assert frames.galaxy.nunique() == len(galaxies)


def test_fields_are_the_full_pictures_once_each(catalog, tables):
    fields = query_fields(Archive(), catalog.parent)
    assert len(fields) == len(tables["Field"]) == 4
    assert fields.field.is_monotonic_increasing
    assert np.array_equal(fields.a, tables["Frame"].query("zoom == 0").sort_values("field").a)
    listed = tables["Field"].sort_values("field")
    assert np.array_equal(fields[CONDITIONS].astype("f4"), listed[CONDITIONS])
    assert fields[[f"psfWidth_{band}" for band in "ugriz"]].stack().between(0.8, 2.5).all()


@pytest.fixture(scope="module")
def real_run(shared_data):
    """The fields of a real run as the query would give them, with the exact great circle of one of its frames."""
    frame = Frame(3900, 6, 269, "u")
    exact = read_terms(shared_data / "sas" / frame.path(), frame)
    real = fits.getdata(shared_data / "catalog" / "photoField-003900-6.fits")
    table = pd.DataFrame({name: real[name.upper()].astype(int) for name in ("run", "camcol", "field")})
    for term, name in zip(TERMS, ("A", "B", "C", "D", "E", "FF"), strict=True):
        each = {f"{term}_{band}": real[name][:, k].astype(float) for k, band in enumerate(SDSS.band_names)}
        table = table.assign(**each, **{term: each[f"{term}_r"]})
    table = table.assign(node=exact.node, incl=exact.incl, ra=real["RA"].astype(float), dec=real["DEC"].astype(float))
    table = table.assign(fieldID=1 + np.arange(len(table), dtype=np.int64), strip="N")
    return table.reindex(columns=build_query("fields").columns, fill_value=0)


def test_the_exact_great_circle_of_a_real_run_leads_to_the_centres_of_its_fields(real_run, tmp_path, monkeypatch):
    monkeypatch.setitem(services.SERVICES, "casjobs", lambda *_: real_run)
    fields = query_fields(Archive(service="casjobs"), tmp_path)
    print(f"largest of {len(fields)} distances: {centre_error(fields).max():.2f} arcsec")
    assert len(fields) == 815
    assert centre_error(fields).max() < 0.5 * services.MAX_CENTRE_ERROR


@pytest.mark.parametrize("nominal", [{"node": 95.0}, {"incl": 40.0}, {"node": 95.0, "incl": 40.0}], ids=str)
def test_a_rounded_great_circle_that_would_miss_frames_is_refused(real_run, tmp_path, monkeypatch, nominal):
    rng = np.random.default_rng(1)
    place = real_run.iloc[rng.integers(0, len(real_run), 1000)].reset_index(drop=True)
    row, col = rng.uniform(0, FRAME_SHAPE[0], 1000), rng.choice([-10.0, 0.0, 10.0, 2040.0, 2050.0], 1000)
    mu, nu = place.a + place.b * row + place.c * col, place.d + place.e * row + place.f * col
    ra, dec = sky_position(mu.to_numpy(), nu.to_numpy(), place["node"], place["incl"])
    needed, found = (overlapping_frames(ra, dec, fields) for fields in (real_run, real_run.assign(**nominal)))
    assert len(needed.merge(found)) < len(needed)
    monkeypatch.setitem(services.SERVICES, "casjobs", lambda *_: real_run.assign(**nominal))
    sentence = r"are not the exact ones in 815 of 815 fields: with node 9\S+ and incl 40\S* the centre of field 3900-6-"
    with pytest.raises(UserError, match=sentence + r"\d+ lies \d+\.\d arcsec from .* archive\.window_flist") as refusal:
        query_fields(Archive(service="casjobs"), tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("wrong", [{"dec": 2 / 3600}, {"ra": np.nan}, {"a": -9999.0}], ids=str)
def test_a_single_field_that_lies_elsewhere_is_named(real_run, tmp_path, monkeypatch, wrong):
    ((column, by),) = wrong.items()
    fields = real_run.copy()
    fields.loc[7, column] += by
    name = "-".join(str(fields[key][7]) for key in ("run", "camcol", "field"))
    monkeypatch.setitem(services.SERVICES, "skyserver", lambda *_: fields)
    with pytest.raises(UserError, match=rf"in 1 of 815 fields: .* the centre of field {name} lies"):
        query_fields(Archive(service="skyserver"), tmp_path)


def test_queries_are_those_of_t_sql_with_a_table_to_put_rows_in():
    for name in ("galaxies", "fields"):
        query = build_query(name)
        assert query.table == f"sdss_photoz_{name}"
        assert query.key in query.columns
        assert len({column.lower() for column in query.columns}) == len(query.columns)


def test_a_region_holds_the_galaxies_in_it_and_the_fields_that_reach_into_it(catalog, tables):
    region = Region(ra=(164.6, 164.8), dec=(39.1, 39.2))
    everywhere, near = (query_galaxies(Archive(), catalog.parent, where) for where in (None, region))
    inside = everywhere.ra.between(164.6, 164.8) & everywhere.dec.between(39.1, 39.2)
    pd.testing.assert_frame_equal(near, everywhere[inside].reset_index(drop=True))
    assert len(near) > 5
    frames = [
        overlapping_frames(near.ra, near.dec, query_fields(Archive(), catalog.parent, where))
        for where in (None, region)
    ]
    pd.testing.assert_frame_equal(*frames)


def test_an_archive_without_such_galaxies_is_one_sentence(catalog, tmp_path):
    empty = tmp_path / "catalog.duckdb"
    shutil.copy(catalog, empty)
    with duckdb.connect(str(empty)) as connection:
        connection.execute("UPDATE SpecObjAll SET survey = 'boss'")
    with pytest.raises(UserError, match=r"answered the query of galaxies with no rows: check archive\.release"):
        query_galaxies(Archive(), tmp_path)


@pytest.mark.parametrize(
    ("table", "column"), [("PhotoObjAll", "petroMag_r"), ("galSpecInfo", "e_bv_sfd"), ("Frame", "incl")]
)
def test_a_catalogue_without_a_needed_column_is_one_sentence(catalog, tmp_path, table, column):
    lacking = tmp_path / "catalog.duckdb"
    shutil.copy(catalog, lacking)
    with duckdb.connect(str(lacking)) as connection:
        connection.execute(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
    with pytest.raises(UserError, match=column) as refusal:
        (query_fields if table == "Frame" else query_galaxies)(Archive(), tmp_path)
    assert "\n" not in str(refusal.value)


def test_an_answer_that_lacks_a_column_is_refused(catalog, monkeypatch):
    whole = services.SERVICES["embedded"]
    monkeypatch.setitem(services.SERVICES, "embedded", lambda *sent: whole(*sent).drop(columns="zErr"))
    with pytest.raises(UserError, match="query of galaxies lacks the column zErr"):
        query_galaxies(Archive(), catalog.parent)


def test_an_answer_that_is_refused_is_not_kept_for_the_next_run(tmp_path, monkeypatch):
    def service(query, archive, folder):
        files.write_text(state_folder(query, archive, folder) / "page-000.parquet", "")
        return pd.DataFrame({"fieldID": [1]})

    monkeypatch.setitem(services.SERVICES, "casjobs", service)
    with pytest.raises(UserError, match="lacks the column run"):
        query_fields(Archive(service="casjobs"), tmp_path)
    assert not list(tmp_path.rglob("*.parquet"))


def test_the_answer_that_does_not_fit_on_the_disk_is_one_sentence(tmp_path):
    sentence = r"^the disk of .* is full: make room and run again; what came is kept\.$"
    with pytest.raises(UserError, match=sentence), full_state_disk_as_user_error(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), full_state_disk_as_user_error(tmp_path):
        (tmp_path / "nothing").read_text()


def test_a_missing_catalogue_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/catalog\.duckdb"):
        query_galaxies(Archive(), tmp_path / "nowhere")
