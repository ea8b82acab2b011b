"""A query of the user's takes the place of the package's at each door of the archive, or is refused in a sentence."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.casjobs_client import SECRETS
from tests.fixtures.skyserver_client import PLENTY
from tests.services.server import Server
from tests.services.server import casjobs as service

from sdss_photoz import config
from sdss_photoz.archive.own_query import check_own_query, own_query
from sdss_photoz.archive.query import build_query
from sdss_photoz.archive.services import query_galaxies
from sdss_photoz.config import Archive, Region, Sample
from sdss_photoz.errors import UserError
from sdss_photoz.sample.selection import select

BOX = Region(ra=(151.0, 164.6), dec=(-90.0, 45.0))


@pytest.fixture(scope="module")
def path(root):
    return root / "tests" / "fixtures" / "own_galaxies.sql"


@pytest.fixture
def edited(path, tmp_path):
    """A function that writes a changed query and returns its path."""

    def edited(old, new, count=1):
        text = path.read_text()
        assert old in text
        (tmp_path / "own.sql").write_text(text.replace(old, new, count))
        return str(tmp_path / "own.sql")

    return edited


@pytest.fixture(scope="module")
def answer(catalog, path):
    return query_galaxies(Archive(query=str(path)), catalog.parent)


def test_it_is_sent_as_written_with_every_line_in_its_place(path):
    written, sent = path.read_text().split("\n"), own_query(path).sql.split("\n")
    differ = [number for number, lines in enumerate(zip(written, sent, strict=False), 1) if lines[0] != lines[1]]
    assert [sent[number - 1] for number in differ] == [
        "SELECT sp.specobjid, sp.bestObjID, sp.sciencePrimary, sp.z, sp.zErr, p.objID, p.ra, p.dec,",
        " INTO mydb.sdss_photoz_galaxies ",
        "FROM SpecObjAll sp",
        "WHERE ( sp.class = 'GALAXY' and p.petroMag_r - p.extinction_r < 17 and sp.z > 0.01",
        ")",
    ]
    assert own_query(path).line_of("Invalid column name 'primtarget'") == " (line 7 of the query, 'zi.primtarget')"


def test_its_columns_are_read_with_their_brackets_comments_and_case(path):
    query = own_query(path)
    assert query.columns[:2] == ["specobjid", "bestObjID"]
    assert query.columns[-3:] == ["extinction_z", "log_Mass", "primtarget"]
    assert (query.key, query.longitude) == ("specobjid", "p.ra")
    assert build_query("galaxies").columns[:3] == ["specObjID", "bestObjID", "sciencePrimary"]


def test_the_embedded_archive_answers_it(answer, catalog):
    shipped = query_galaxies(Archive(), catalog.parent)
    assert set(shipped.specObjID[shipped.dered_petro_r < 16.99]) <= set(answer.specobjid)
    assert answer.dered_petro_r.max() < 17
    assert answer.log_Mass.between(6, 13).sum() > 100


def test_a_box_limits_all_of_its_conditions(answer, catalog, path):
    found = query_galaxies(Archive(query=str(path)), catalog.parent, BOX)
    inside = BOX.contains(answer.ra, answer.dec)
    assert 0 < inside.sum() < len(answer)
    pd.testing.assert_frame_equal(found, answer[inside].reset_index(drop=True))


def test_the_skyserver_answers_it_in_parts(answer, catalog, path, tmp_path):
    with Server(catalog.parent, limits=PLENTY) as server:
        archive = Archive(
            service="skyserver",
            skyserver=server.url,
            query=str(path),
            queries_per_minute=60_000.0,
            patience_minutes=1.0,
        )
        pd.testing.assert_frame_equal(query_galaxies(archive, tmp_path), answer)


def test_casjobs_answers_it(answer, catalog, path, tmp_path, monkeypatch):
    monkeypatch.delenv("SCISERVER_TOKEN", raising=False)
    monkeypatch.setenv("SCISERVER_USER", SECRETS[0])
    monkeypatch.setenv("SCISERVER_PASSWORD", SECRETS[1])
    monkeypatch.setattr(service, "ACCOUNT", SECRETS)
    with Server(catalog.parent) as server:
        archive = Archive(
            service="casjobs",
            casjobs=server.casjobs,
            login=server.login,
            query=str(path),
            queries_per_minute=60_000.0,
            poll_seconds=0.05,
        )
        pd.testing.assert_frame_equal(query_galaxies(archive, tmp_path), answer)


def test_its_other_columns_reach_the_sample_and_can_be_asked_of(answer):
    sample, counts = select(answer, Sample(chunks=1, where="log_mass > 10.5 and primtarget >= 64"), others=True)
    assert sample["log_mass"].min() > 10.5
    assert sample["primtarget"].dtype == np.int64
    assert list(sample)[-4:] == ["log_mass", "primtarget", "row", "chunk"]
    without = counts.set_index("cut")["removed"]["measured values of sample.where"]
    whole, _ = select(answer, Sample(chunks=1), others=True)
    assert without == whole["log_mass"].isna().sum()
    assert "log_mass" not in select(answer, Sample(chunks=1))[0]


def test_a_negative_redshift_is_no_galaxy_of_the_sample(answer):
    table = answer.copy()
    table.loc[:2, "z"] = [-0.001, -0.002, 0.0]
    sample, counts = select(table, Sample(chunks=1), others=True)
    assert counts.set_index("cut")["removed"]["z >= 0"] == 2
    assert sample["z_spec"].min() == 0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "sp.bestObjID, sp.sciencePrimary, ",
            "",
            "does not select bestObjID, sciencePrimary, which the analysis needs",
        ),
        ("p.ra, p.dec", "p.*", r"selects \*: name the columns"),
        ("select sp.", "select TOP 10 sp.", "has TOP in its outer SELECT"),
        ("select sp.", "select distinct sp.", "has DISTINCT in its outer SELECT"),
        (";\n;", "\nORDER BY sp.z", "has ORDER BY in its outer SELECT"),
        ("select", "WITH a AS (SELECT 1 AS b) select", "has WITH in its outer SELECT"),
        (";\n;", "\n; SELECT 1", "must hold one SELECT, but holds SELECT, SELECT"),
        ("select", "DROP TABLE a; select", "must hold one SELECT, but holds DROP, SELECT"),
        ("AS log_Mass", "log_Mass", "selects 'round.*: give it a name"),
        ("AS log_Mass", "AS Dec", "two columns dec"),
        ("AS log_Mass", "AS z_spec", "z_spec has the name of another column"),
        ("AS log_Mass", "AS chunk", "chunk has the name of another column"),
        ("ON (p.objID", "ON ((p.objID", "is not T-SQL"),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused_before_the_run(old, new, expected, edited):
    values = {"archive": {"query": edited(old, new)}}
    with pytest.raises(UserError, match=expected) as refusal:
        check_own_query(config.check(values))
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_refused_before_the_run(tmp_path):
    with pytest.raises(UserError, match=r"archive\.query \S+none\.sql cannot be read \(No such file"):
        check_own_query(config.check({"archive": {"query": str(tmp_path / "none.sql")}}))


def test_a_condition_on_a_column_that_it_does_not_select_is_refused_before_the_run(path):
    def check(**values):
        return check_own_query(config.check({"archive": {"query": str(path)}, **values}))

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert check(sample={"where": "log_mass > 10 and camcol in [1, 2]"}) == digest
    with pytest.raises(UserError, match=r"sample\.where .* names log_mas, .* did you mean log_mass\?"):
        check(sample={"where": "log_mas > 10"})
    with pytest.raises(UserError, match=r"trials\.a\.where .* names n_neighbors, but that is no column"):
        check(trials={"a": {"where": "n_neighbors == 0"}})


def test_a_query_edited_after_the_start_is_refused(edited, catalog):
    path = edited("< 17", "< 16.5")
    planned = check_own_query(config.check({"archive": {"query": path}}))
    assert len(query_galaxies(Archive(query=path), catalog.parent, planned=planned)) > 10
    edited("< 17", "< 16.4")
    with pytest.raises(UserError, match="edited since Snakemake started"):
        query_galaxies(Archive(query=path), catalog.parent, planned=planned)


def test_a_spectrum_that_comes_twice_is_refused(edited, catalog):
    path = edited("LEFT JOIN", "JOIN (SELECT 1 AS n UNION ALL SELECT 2 AS n) twice ON (1 = 1)\n  LEFT JOIN")
    with pytest.raises(UserError, match=r"gave specobjid .* more than once"):
        query_galaxies(Archive(query=path), catalog.parent)


def test_an_unknown_column_of_the_archive_is_named(edited, catalog):
    with pytest.raises(UserError, match="primtaget"):
        query_galaxies(Archive(query=edited("zi.primtarget", "zi.primtaget")), catalog.parent)


def test_the_query_of_the_documentation_is_answered_and_its_masses_reach_the_sample(catalog, root, tmp_path):
    text = (root / "docs" / "archive.md").read_text()
    (tmp_path / "mass.sql").write_text(text.split("```sql\n")[1].split("```")[0])
    values = {"archive": {"query": str(tmp_path / "mass.sql")}, "sample": {"where": "log_mass > 10", "chunks": 1}}
    run = config.check(values)
    planned = check_own_query(run)
    galaxies = query_galaxies(run.archive, catalog.parent, planned=planned)
    assert len(select(galaxies, run.sample, others=True)[0]) > 100
