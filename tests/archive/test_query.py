"""What is asked, and what is believed of an answer."""

import duckdb
import numpy as np
import pandas as pd
import pytest

from sdss_photoz.archive.query import FIELD_RADIUS, build_query, check_result, read_result, remove_state, state_folder
from sdss_photoz.config import Archive, Region
from sdss_photoz.embedded import answer
from sdss_photoz.errors import UserError
from sdss_photoz.surveys.sphere import unit_vectors

REGIONS = {
    "a box": Region(ra=(150.0, 160.0), dec=(-5.0, 5.0)),
    "through right ascension 0": Region(ra=(350.0, 10.0), dec=(-1.0, 1.0)),
    "written below 0": Region(ra=(-10.0, 10.0), dec=(-1.0, 1.0)),
    "more than half, through 0": Region(ra=(-200.0, 10.0), dec=(-1.0, 1.0)),
    "ends at 360": Region(ra=(330.0, 360.0), dec=(20.0, 30.0)),
    "near the pole": Region(ra=(10.0, 20.0), dec=(85.0, 89.0)),
    "to the pole": Region(ra=(10.0, 20.0), dec=(80.0, 90.0)),
    "all around": Region(ra=(0.0, 360.0), dec=(-90.0, -60.0)),
}


@pytest.fixture(scope="module")
def sky():
    """Positions all over the sky, and at the edges of the regions."""
    rng = np.random.default_rng(1)
    ra, dec = [rng.uniform(0, 360, 40_000)], [np.degrees(np.arcsin(rng.uniform(-1, 1, 40_000)))]
    for region in REGIONS.values():
        ra.append((rng.uniform(region.ra[0] - 1, region.ra[0] + (region.ra[1] - region.ra[0]) % 360 + 1, 2000)) % 360)
        dec.append(np.clip(rng.uniform(region.dec[0] - 0.5, region.dec[1] + 0.5, 2000), -90, 90))
    return pd.DataFrame({"ra": np.concatenate(ra), "dec": np.concatenate(dec)})


def kept(name, region, sky):
    """What the condition that a region adds to a query keeps."""
    added = build_query(name, region).sql.removeprefix(build_query(name).sql)
    table = build_query(name).longitude.split(".")[0]
    with duckdb.connect() as connection:
        rows = connection.execute(f"SELECT (TRUE {added}) AS kept FROM sky {table}")  # DuckDB reads the variable
        return rows.fetchdf()["kept"].to_numpy(bool)


def in_box(region, sky):
    wide = region.ra[1] - region.ra[0] if region.ra[1] - region.ra[0] >= 360 else (region.ra[1] - region.ra[0]) % 360
    around = (sky.ra - region.ra[0]) % 360 <= wide
    return (around & sky.dec.between(*region.dec)).to_numpy()


@pytest.mark.parametrize("where", REGIONS)
def test_galaxies_of_a_region_are_those_in_the_box(where, sky):
    inside = in_box(REGIONS[where], sky)
    assert inside.sum() > 100
    assert np.array_equal(kept("galaxies", REGIONS[where], sky), inside)


@pytest.mark.parametrize("where", REGIONS)
def test_fields_of_a_region_have_their_centre_no_farther_than_a_field_reaches(where, sky):
    inside, asked = in_box(REGIONS[where], sky), kept("fields", REGIONS[where], sky)
    vectors = unit_vectors(sky.ra, sky.dec)
    rng = np.random.default_rng(2)
    for index in rng.choice(np.flatnonzero(inside), 200):
        near = np.linalg.norm(vectors - vectors[index], axis=1) < 2 * np.sin(np.radians(0.15) / 2)
        assert asked[near].all()
    assert asked.sum() < inside.sum() + (sky.dec > 79).sum() * (REGIONS[where].dec[1] > 79) + 3500


def test_a_box_is_widened_in_degrees_on_the_sky():
    assert Region(ra=(10.0, 20.0), dec=(0.0, 59.8)).box(FIELD_RADIUS)[0] == pytest.approx((9.6, 20.4))
    assert Region(ra=(0.1, 20.0), dec=(-0.01, 0.01)).box(0.2)[0] == pytest.approx((359.9, 380.2), abs=1e-5)
    assert Region(ra=(10.0, 20.0), dec=(80.0, 90.0)).box(0.2) == ((0.0, 360.0), (79.8, 90.0))


def test_without_a_region_the_whole_query_is_asked():
    for name in ("galaxies", "fields"):
        assert build_query(name).span == (0.0, 360.0)
        assert build_query(name).sql.rstrip().endswith(("<= 17.8)", "fr.rerun = 301"))


def test_another_query_or_release_is_kept_elsewhere_and_forgotten_at_the_end(tmp_path):
    fields, galaxies = build_query("fields"), build_query("galaxies")
    near = build_query("fields", REGIONS["a box"])
    places = {
        state_folder(query, archive, tmp_path)
        for query in (fields, galaxies, near)
        for archive in (Archive(), Archive(release=13), Archive(service="skyserver"))
    }
    assert len(places) == 9
    for place in places:
        place.mkdir(parents=True)
    remove_state(tmp_path, "fields")
    assert {place for place in places if place.exists()} == {p for p in places if p.name.startswith("galaxies-")}


@pytest.mark.parametrize(("name", "rows"), [("xid.txt", 1), ("xid_im.txt", 18), ("xid_sp.txt", 1)])
def test_recorded_replies_are_read_exactly(name, rows, shared_data):
    body = (shared_data / "services" / name).read_bytes()
    table = read_result(body)
    lines = body.decode().removeprefix("#Table1").split()
    assert len(table) == rows == len(lines) - 1
    assert table.objid.dtype == np.int64
    for line, row in zip(lines[1:], table.itertuples(index=False), strict=True):
        for text, value in zip(line.split(","), row, strict=True):
            assert type(value)(text) == value
    assert list(table.objid.astype(str)) == [line.split(",")[2] for line in lines[1:]]


def test_an_answer_is_the_same_after_it_was_printed_and_read():
    table = pd.DataFrame(
        {"specObjID": [2**62 + 1, 845594848269461504], "z": [0.1, -9999.0], "class": ["GALAXY", "STAR"]}
    )
    table = table.assign(subClass=["", "AGN BROADLINE"], zErr=np.float32([0.04559058, 1e-12]))
    read = read_result(answer.to_csv(table).encode())
    assert list(read.specObjID) == list(table.specObjID)
    assert list(read["class"]) == ["GALAXY", "STAR"]
    assert list(read.subClass) == ["", "AGN BROADLINE"]
    assert np.array_equal(read.z, table.z)
    assert np.array_equal(read.zErr.astype(np.float32), table.zErr)
    assert read_result(b"\xef\xbb\xbf#Table1\nz,n\nnull,1\n0.5,2\n").z.tolist()[1] == 0.5


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"#Table1",
        b"<html>down</html>",
        b'#Table1\n"ERROR: Maximum 60 queries allowed per minute. Rejected query: SELECT \n',
        b"a,b\n1,2\n3,4,5\n",
        b"\x1f\x8b\x08\x00binary",
        b'a,b\n1,"2\n',
        b"a,b\n1,2,\n3,4,\n",
        b"z,z\n1,2\n",
        b"Service unavailable\n",
    ],
)
def test_what_is_no_table_is_refused(body):
    with pytest.raises(ValueError, match=r"."):
        read_result(body)


@pytest.fixture
def fields():
    """An answer to the query for the fields, with rows in any order and names in any case."""
    query = build_query("fields")
    table = pd.DataFrame({name: [1.0, 2.0, 3.0] for name in query.columns})
    table = table.assign(fieldID=[30, 10, 20], run=[94, 94, 125], camcol=[1, 6, 3], field=[11, 12, 4095])
    return query, table.rename(columns=str.upper)


def test_an_answer_gets_the_names_and_the_order_of_the_query(fields):
    query, table = fields
    checked = check_result(query, table.assign(extra=1)[["EXTRA" if c == "extra" else c for c in table]], "casjobs")
    assert list(checked) == query.columns
    assert list(checked.fieldID) == [10, 20, 30]
    assert list(checked.field) == [12, 4095, 11]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("run", ["94", "../../etc", "125"], "'../../etc'"),
        ("run", ["94", "94", "125"], "of type"),
        ("run", [94, 0, 125], "'0'"),
        ("run", [94, 70_000, 125], "'70000'"),
        ("camcol", [1, 9, 3], "'9'"),
        ("camcol", [1.0, np.nan, 3.0], "'nan'"),
        ("field", [11, 12, 4096], "'4096'"),
        ("field", [11, -1, 3], "'-1'"),
        ("field", [11.5, 12.0, 3.0], "'11.5'"),
        ("fieldID", [1.2376e18, 1.2377e18, 1.2378e18], "of type float64"),
        ("fieldID", [30, 0, 20], "'0'"),
    ],
)
def test_a_hostile_identifier_is_refused_by_name(column, values, expected, fields):
    query, table = fields
    with pytest.raises(UserError, match=f"query of fields has {column} {expected}.*it cannot be used") as refusal:
        check_result(query, table.assign(**{column.upper(): values}), "skyserver")
    assert "\n" not in str(refusal.value)


def test_an_answer_without_a_column_or_row_is_one_sentence(fields):
    query, table = fields
    with pytest.raises(UserError, match="casjobs archive to the query of fields lacks the column incl: it has FIELDID"):
        check_result(query, table.drop(columns="INCL"), "casjobs")
    with pytest.raises(UserError, match=r"no rows: check archive\.release and archive\.region"):
        check_result(query, table.iloc[:0], "casjobs")
