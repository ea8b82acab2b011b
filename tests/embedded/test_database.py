"""The embedded catalogue has the survey's columns, and every kind of row that the query must drop."""

import json

import duckdb
import numpy as np
import pandas as pd
import pytest

from sdss_photoz.embedded.database import write_catalog
from sdss_photoz.embedded.schema import PAGES, PHOTO_FLAGS, TABLES
from sdss_photoz.surveys.sdss import split_object_id


@pytest.fixture(scope="module")
def tables(catalog):
    with duckdb.connect(str(catalog), read_only=True) as connection:
        return {name: connection.execute(f'SELECT * FROM "{name}"').fetchdf() for name in TABLES}


@pytest.mark.parametrize("table", ["PhotoObjAll", "SpecObjAll"])
def test_columns_have_the_names_and_types_of_the_survey(table, shared_data):
    described = json.loads((shared_data / "services" / f"{table}_dr12.json").read_text())[0]["Rows"]
    types = {row["name"]: row["type"] for row in described}
    assert {name: types.get(name) for name in TABLES[table]} == TABLES[table]


def test_every_table_names_the_page_that_describes_it():
    spectroscopic = {"SpecObjAll", "galSpecInfo", "galSpecExtra"}
    photometric = {"PhotoObjAll", "Photoz", "Field", "Frame", "Run", "Neighbors"}
    assert set(TABLES) == set(PAGES) == spectroscopic | photometric
    assert all(page.endswith(f"+{table}+U") for table, page in PAGES.items())


def test_flags_have_the_values_of_the_survey():
    documented = {"EDGE": 0x4, "CHILD": 0x10, "SATURATED": 0x40000, "BINNED1": 0x10000000, "MOVED": 0x80000000}
    documented |= {"DEBLENDED_AS_MOVING": 0x100000000, "SATUR_CENTER": 0x80000000000, "MAYBE_CR": 0x100000000000000}
    assert {name: PHOTO_FLAGS[name] for name in documented} == documented


def test_object_ids_hold_the_field(tables):
    photo = tables["PhotoObjAll"]
    assert photo.objID.is_unique
    for name, values in zip(("run", "camcol", "field", "obj"), split_object_id(photo.objID), strict=True):
        assert (photo[name] == values).all()
    assert tables["SpecObjAll"].specObjID.is_unique
    assert tables["SpecObjAll"].bestObjID.isin(photo.objID).all()


def test_every_kind_of_row_that_must_be_dropped_is_there(tables):
    photo, spec = tables["PhotoObjAll"], tables["SpecObjAll"]
    info = tables["galSpecInfo"]
    both = spec.merge(photo, left_on="bestObjID", right_on="objID", suffixes=("", "_photo"))
    dered = both.petroMag_r - both.extinction_r
    planted = {
        "stars": (spec["class"] == "STAR").sum(),
        "stars with z > 0": ((spec["class"] == "STAR") & (spec.z > 0)).sum(),
        "quasars or stars": (spec["class"] != "GALAXY").sum(),
        "zWarning": (spec.zWarning != 0).sum(),
        "z < 0 of a galaxy": ((spec.z < 0) & (spec["class"] == "GALAXY")).sum(),
        "boss": (spec.survey == "boss").sum(),
        "targetType": (spec.targetType != "SCIENCE").sum(),
        "primtarget": (info.primtarget < 64).sum(),
        "not clean": (photo.clean == 0).sum(),
        "masked": (photo.insideMask != 0).sum(),
        "faint, with a flag of the main sample": ((dered > 17.8) & (both.primTarget >= 64)).sum(),
        "repeats": (spec.sciencePrimary == 0).sum(),
        "two primary spectra": spec[spec.sciencePrimary == 1].bestObjID.duplicated().sum(),
        "petroMag_r = -9999": (photo.petroMag_r == -9999).sum(),
        "petroMag_u = -9999": (photo.petroMag_u == -9999).sum(),
        "modelMag_u = -9999": (photo.modelMag_u == -9999).sum(),
        "Photoz.z = -9999": (tables["Photoz"].z == -9999).sum(),
        "no Photoz": (~both[both["class"] == "GALAXY"].objID.isin(tables["Photoz"].objID)).sum(),
        "no galSpecInfo": (~spec.specObjID.isin(info.specObjID)).sum(),
        "smaller pictures in Frame": (tables["Frame"].zoom != 0).sum(),
    }
    assert {kind: count for kind, count in planted.items() if count == 0} == {}


def test_shreds_are_two_objects_with_spectra_within_two_arcsec(tables):
    close = tables["Neighbors"].query("distance < 2 / 60")
    with_spectra = tables["SpecObjAll"].query("sciencePrimary == 1").bestObjID
    pairs = close[close.objID.isin(with_spectra) & close.neighborObjID.isin(with_spectra)]
    redshift = tables["SpecObjAll"].drop_duplicates("bestObjID").set_index("bestObjID").z
    differ = np.abs(redshift[pairs.objID].to_numpy() - redshift[pairs.neighborObjID].to_numpy())
    assert (differ < 2e-4).sum() >= 4  # two pairs, each seen from both sides


def test_neighbors_are_all_pairs_within_half_an_arcmin(tables):
    from astropy import units
    from astropy.coordinates import SkyCoord, search_around_sky

    photo, neighbors = tables["PhotoObjAll"], tables["Neighbors"]
    sky = SkyCoord(photo.ra.to_numpy() * units.deg, photo.dec.to_numpy() * units.deg)
    first, second, separation, _ = search_around_sky(sky, sky, 30 * units.arcsec)
    ids = photo.objID.to_numpy()
    expected = pd.DataFrame(
        {"objID": ids[first], "neighborObjID": ids[second], "arcmin": separation.to_value("arcmin")}
    )
    expected = expected[first != second]
    merged = neighbors.merge(expected, how="outer", on=["objID", "neighborObjID"], indicator=True)
    assert (merged._merge == "both").all()
    assert np.abs(merged.distance - merged.arcmin).max() < 1e-6


def test_redshifts_scatter_by_their_errors_about_the_truth(sky, tables):
    _, objects = sky
    good = tables["SpecObjAll"].query("zWarning == 0 and survey == 'sdss' and z > 0.001")
    photo = tables["PhotoObjAll"].set_index("objID").loc[good.bestObjID]
    truth = objects.set_index(["run", "camcol", "field", "obj"])["z_true"]
    keys = pd.MultiIndex.from_frame(photo[["run", "camcol", "field", "obj"]].astype(np.int64))
    pull = (good.z.to_numpy() - truth.reindex(keys).to_numpy()) / good.zErr.to_numpy()
    pull = pull[np.isfinite(pull)]
    assert len(pull) > 700
    assert np.std(pull) == pytest.approx(1, abs=0.1)


def test_photometric_redshifts_are_fitted_on_other_galaxies(tables):
    """A fit that has seen a galaxy, weighted by distance, would return its own redshift."""
    spec = (
        tables["SpecObjAll"].query("zWarning == 0 and z > 0.001 and sciencePrimary == 1").drop_duplicates("bestObjID")
    )
    both = spec.merge(tables["Photoz"].query("z > 0"), left_on="bestObjID", right_on="objID", suffixes=("", "phot"))
    both = both[both.primTarget >= 64]
    residual = (both.zphot - both.z) / (1 + both.z)
    assert np.abs(residual).quantile(0.05) > 2e-4
    assert 0.005 < 1.4826 * residual.abs().median() < 0.04
    missing = ~spec[spec.primTarget >= 64].bestObjID.isin(tables["Photoz"].objID)
    assert 0.002 < missing.mean() < 0.04


def test_the_order_of_rows_tells_no_redshift(tables):
    for table, column in {"SpecObjAll": "z", "Photoz": "z", "galSpecInfo": "z", "PhotoObjAll": "petroMag_r"}.items():
        values = tables[table][column]
        values = values[values > 0].rank().to_numpy()
        assert abs(np.corrcoef(values, np.arange(len(values)))[0, 1]) < 4 / np.sqrt(len(values))
    fiber = tables["SpecObjAll"].query("z > 0")
    assert abs(np.corrcoef(fiber.fiberID, fiber.z.rank())[0, 1]) < 4 / np.sqrt(len(fiber))


def test_stellar_masses_are_those_of_galaxies(tables):
    mass = tables["galSpecExtra"].query("lgm_tot_p50 > 0").lgm_tot_p50
    assert 9.5 < mass.median() < 11.5
    assert (tables["galSpecExtra"].lgm_tot_p50 == -9999).any()


def test_fields_keep_their_terms(sky, tables):
    fields = sky[0].sort_values("field")
    frame = tables["Frame"].query("zoom == 0").sort_values("field")
    for term in ("a", "b", "c", "d", "e", "f", "node", "incl"):
        assert (frame[term].to_numpy() == fields[term].to_numpy()).all()
    field = tables["Field"].sort_values("field")
    assert np.allclose(field.a_r, fields.a, atol=2e-5)
    assert (field.a_g == -9999).all()  # this synthetic sky gives the r band's terms alone


def test_terms_of_each_band_enter_table_field(sky, tmp_path):
    fields, objects = sky
    own = {f"{t}_{b}": fields[t] + 1e-4 * (t == "a") for t in "abcdef" for b in "ugiz"}
    write_catalog(tmp_path / "catalog.duckdb", fields.assign(**own), objects, seed=1)
    with duckdb.connect(str(tmp_path / "catalog.duckdb"), read_only=True) as connection:
        field = connection.execute("SELECT * FROM Field ORDER BY field").fetchdf()
    assert np.allclose(field.a_g - field.a_r, 1e-4, atol=3e-5)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(sky, catalog, tmp_path):
    def read(path):
        with duckdb.connect(str(path), read_only=True) as connection:
            return {name: connection.execute(f'SELECT * FROM "{name}"').fetchdf() for name in TABLES}

    write_catalog(tmp_path / "again.duckdb", *sky, seed=1)
    write_catalog(tmp_path / "other.duckdb", *sky, seed=2)
    first, again, other = read(catalog), read(tmp_path / "again.duckdb"), read(tmp_path / "other.duckdb")
    for name in TABLES:
        pd.testing.assert_frame_equal(first[name], again[name])
    assert not first["SpecObjAll"].equals(other["SpecObjAll"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.duckdb", "other.duckdb"]


def test_measurements_that_failed_are_minus_9999(sky, tmp_path):
    fields, objects = sky
    objects = objects.copy()
    objects.loc[objects.kind == "faint", "petro_mag_z"] = np.nan
    write_catalog(tmp_path / "catalog.duckdb", fields, objects, seed=1)
    with duckdb.connect(str(tmp_path / "catalog.duckdb"), read_only=True) as connection:
        count = connection.execute("SELECT COUNT(*) FROM PhotoObjAll WHERE petroMag_z = -9999").fetchone()[0]
    assert count == (objects.kind == "faint").sum()
