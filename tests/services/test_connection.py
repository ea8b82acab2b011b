"""A query reaches nothing but the tables of the embedded archive, whatever it asks for."""

import shutil

import duckdb
import pandas as pd
import pytest
from tests.services.client import Client, search
from tests.services.server import Limits, Server
from tests.services.server.sqlserver import message

from sdss_photoz.embedded import tsql
from sdss_photoz.embedded.connection import CONFIG, MEMORY, connect
from sdss_photoz.errors import UserError

SECRET = "word\nof the machine\n"
READ = (
    "SELECT * FROM '{file}'",
    'SELECT * FROM "{file}"',
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM glob('{folder}/*')",
    "CREATE TEMP TABLE taken(word VARCHAR); COPY taken FROM '{file}'",
    "SELECT * FROM variable",
)
WRITE = (
    "COPY (SELECT 1) TO '{folder}/written.csv'",
    "EXPORT DATABASE '{folder}/written'",
    "ATTACH '{folder}/written.duckdb' AS written",
    "INSTALL httpfs",
    "LOAD '{folder}/secret.csv'",
)
CHANGE = ("SET enable_external_access = true", "SET temp_directory = '{folder}'", "RESET memory_limit")
THROUGH_TSQL = (  # each names the file where a table's name stands, in the scope of a CTE or beside it
    "WITH [{file}] AS (SELECT * FROM [{file}]) SELECT * FROM [{file}]",
    "WITH a AS (SELECT * FROM [{file}]), [{file}] AS (SELECT 1 AS x) SELECT * FROM a",
    "SELECT u.* FROM (SELECT x FROM (SELECT 1 AS x) t) v, [{file}] u",
    "SELECT * FROM (WITH [{file}] AS (SELECT 1 AS x) SELECT x FROM [{file}]) t, [{file}] u",
    "SELECT * FROM [{file}]",
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM OPENROWSET(BULK '{file}', SINGLE_CLOB) u",
)


@pytest.fixture
def folder(tmp_path):
    """A folder with a file that no query may read and beside which none may write."""
    (tmp_path / "secret.csv").write_text(SECRET)
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


@pytest.fixture(params=["catalogue", "in memory"])
def connection(request, catalog):
    with connect(catalog if request.param == "catalogue" else None) as connection:
        yield connection


def filled(sql, folder):
    return sql.format(file=folder / "secret.csv", folder=folder)


@pytest.mark.parametrize("sql", [*READ, *WRITE, *CHANGE])
def test_the_database_itself_reaches_no_file_and_keeps_its_settings(connection, folder, sql):
    variable = pd.DataFrame({"word": ["of the machine"]})
    with pytest.raises(duckdb.Error, match=r"disabled|locked|does not exist"):
        connection.execute(filled(sql, folder)).fetchall()
    assert len(variable) == 1


def test_the_catalogue_and_mydb_have_the_same_settings(archive_folder):
    expected = {"enable_external_access": False, "python_enable_replacements": False, "lock_configuration": True}
    expected |= {"temp_directory": "", "memory_limit": "1.8 GiB", "threads": 1, "default_collation": "NOCASE"}
    asked = "SELECT " + ", ".join(f"current_setting('{name}')" for name in expected)
    with Server(archive_folder) as server:
        for opened in (server._catalog, server._casjobs.mydb._database.cursor()):
            assert dict(zip(expected, opened.execute(asked).fetchone(), strict=True)) == expected


@pytest.mark.parametrize("sql", THROUGH_TSQL)
def test_a_file_is_no_table_of_a_query(catalog, folder, sql):
    with pytest.raises(UserError) as refusal:
        tsql.run(catalog, filled(sql, folder))
    assert "\n" not in str(refusal.value)
    assert "of the machine" not in str(refusal.value)


def test_a_file_of_any_name_that_a_query_reaches_is_refused_in_a_sentence(catalog, folder, monkeypatch):
    """The second wall, were the first to leave a name through: DuckDB's complaint is a sentence too."""
    monkeypatch.setattr(tsql, "_local_names", lambda table: {table.name.lower()})
    with pytest.raises(UserError, match=r'Cannot access file ".*secret\.csv"'):
        tsql.run(catalog, filled("SELECT * FROM [{file}]", folder))


@pytest.mark.parametrize("sql", THROUGH_TSQL[:4])
def test_services_answer_as_if_a_file_did_not_exist(archive_folder, folder, sql):
    sql = filled(sql, folder)
    with Server(archive_folder) as server:
        client = Client(server)
        page = search(server, sql).text
        quick = client.call("POST", "contexts/DR12/query", sql)
        mydb = client.mydb(sql)
        job = client.wait(client.submit(sql.replace("SELECT *", "SELECT * INTO mydb.taken", 1)))
    sentence = f"Msg 208, Level 16, State 1, Line 1: Invalid object name '{folder / 'secret.csv'}'."
    assert page == f'#Error\nerror_message\n"{sentence}"\n'
    assert [reply.status_code for reply in (quick, mydb)] == [400, 400]
    assert [reply.json()["Error Message"] for reply in (quick, mydb)] == [sentence] * 2
    assert (job["Status"], job["Rows"]) == (4, None)


NAMES = ("e\" AS SELECT 1; COPY (SELECT 1) TO '{folder}/written.csv'; --", 'a "quoted" name', "two words", "x; y")


@pytest.mark.parametrize("name", NAMES)
def test_the_name_after_into_is_a_name_and_nothing_else(archive_folder, folder, name):
    name = filled(name, folder)
    with Server(archive_folder) as server:
        client = Client(server)
        job = client.wait(client.submit(f"SELECT 1 AS a INTO mydb.[{name}]"))
        assert (job["Status"], job["Created_Table"]) == (5, name)
        listed = client.call("GET", "contexts/MyDB/Tables").json()
        assert [(table["Name"], table["Rows"]) for table in listed] == [(name, 1)]
        assert client.mydb(f"SELECT a FROM mydb.[{name}]").text == "a\n1\n"
        assert client.mydb(f"DROP TABLE [{name}]").text == "Rows Affected\n0\n"
        assert client.call("GET", "contexts/MyDB/Tables").json() == []


def test_comments_and_quoted_names_of_a_query_are_not_statements(catalog, folder):
    write = filled(WRITE[0], folder)
    assert tsql.run(catalog, f"SELECT 1 AS a -- */; {write}; /*\n").a[0] == 1
    assert tsql.run(catalog, f'SELECT TOP 1 1 AS a FROM Field [f"; {write}; --]').a[0] == 1
    named = tsql.run(catalog, f'SELECT 1 AS [a"; {write}; --]')
    assert named.columns[0] == f'a"; {write}; --'


def test_a_query_that_needs_more_memory_than_there_is_ends_in_a_sentence(catalog, tmp_path, monkeypatch):
    """And nothing is spilt to the disk, where DuckDB would make a folder beside the catalogue."""
    copy = shutil.copy(catalog, tmp_path)
    monkeypatch.setitem(CONFIG, "memory_limit", "20MB")
    many = "SELECT a.objID AS a, b.objID AS b FROM PhotoObjAll a, PhotoObjAll b ORDER BY a.ra * b.dec"
    with pytest.raises(UserError, match=f"needs more than the {MEMORY} of memory") as refusal:
        tsql.run(copy, many)
    assert message(refusal.value, many).startswith("Msg 701, ")
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.duckdb"]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT run FROM Field", 2),
        ("SELECT TOP 1 run FROM Field", 1),
        ("SELECT TOP 3 run FROM Field", 2),
        ("SELECT run FROM Field ORDER BY field OFFSET 1 ROWS FETCH NEXT 3 ROWS ONLY", 2),
        ("SELECT run, field FROM Field UNION ALL SELECT run, field FROM Frame", 2),
        ("WITH f AS (SELECT run FROM Field) SELECT * FROM f", 2),
    ],
)
def test_the_skyservers_limit_of_rows_is_part_of_the_query(catalog, archive_folder, monkeypatch, query, rows):
    asked, answered = [], tsql._rows
    monkeypatch.setattr(tsql, "_rows", lambda connection, sql: asked.append(sql) or answered(connection, sql))
    with Server(archive_folder, limits=Limits(rows=2)) as server:
        assert len(search(server, query).text.splitlines()) == 2 + rows
    assert "LIMIT" in asked[0]
    assert len(tsql.run(catalog, query)) >= rows


def test_several_may_open_one_catalogue_at_once_in_a_process(archive_folder, catalog):
    with Server(archive_folder) as server, connect(catalog) as first, connect(catalog) as second:
        count = "SELECT COUNT(*) AS n FROM Field"
        answers = [tsql.run(opened, count).n[0] for opened in (first, second, catalog)]
        assert search(server, count).text == f"#Table1\nn\n{answers[0]}\n"
    assert len(set(answers)) == 1
