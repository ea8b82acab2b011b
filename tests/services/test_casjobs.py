"""Jobs, tables, tokens and pages of the stand-in of CasJobs."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from tests.services.client import ENDLESS, EVERY_TYPE, Client, log_in, search
from tests.services.server import ACCOUNT, Server
from tests.services.server import casjobs as casjobs_service

from sdss_photoz.embedded import answer, tsql


def test_digits_are_the_same_through_every_service(server, casjobs, catalog):
    direct = answer.to_csv(tsql.run(catalog, EVERY_TYPE.format("")))
    assert "null" in direct
    assert search(server, EVERY_TYPE.format("")).text == "#Table1\n" + direct
    job = casjobs.wait(casjobs.submit(EVERY_TYPE.format("").replace("FROM", "INTO mydb.every_type FROM", 1)))
    assert job["Rows"] == direct.count("\n") - 1
    order = "ORDER BY objID, z, neighborObjID"
    columns = direct.split("\n")[0]
    paged = casjobs.mydb(f"SELECT {columns} FROM mydb.every_type {order}").text
    assert sorted(paged.splitlines()) == sorted(direct.splitlines())
    (result,) = casjobs.mydb(f"SELECT {columns} FROM every_type {order}", "application/json+array").json()["Result"]
    assert result["Columns"] == columns.split(",")
    texts = ["null" if value is None else f"{value}" for value in np.array(result["Data"], dtype=object)[:, 0]]
    assert texts == [line.split(",")[0] for line in paged.splitlines()[1:]]
    assert [row[6] for row in result["Data"]] == [float(line.split(",")[6]) for line in paged.splitlines()[1:]]


def test_a_job_waits_runs_and_ends(archive_folder):
    for seconds in (0.4, 4, 40):  # longer where the machine is too busy to look in each half of it
        with Server(archive_folder, job_seconds=seconds) as server:
            client = Client(server)
            number = client.submit("SELECT objID INTO mydb.ids FROM PhotoObjAll")
            seen = [client.job(number)["Status"]]
            while seen[-1] < 3:
                seen.append(client.job(number)["Status"])
        assert seen == sorted(seen)
        if set(seen) == {0, 1, 5}:
            return
    pytest.fail(f"of a job that waits, runs and ends only {seen} was seen")


def test_pages_of_a_table_of_mydb(casjobs):
    casjobs.wait(casjobs.submit("SELECT objID, ra INTO mydb.ids FROM PhotoObjAll"))
    whole = casjobs.mydb("SELECT objID FROM mydb.ids ORDER BY objID").text.split()[1:]
    first = casjobs.mydb("SELECT TOP 7 objID FROM mydb.ids ORDER BY objID").text.split()[1:]
    after = casjobs.mydb(f"SELECT TOP 7 objID FROM MyDB.dbo.ids WHERE objID > {first[-1]} ORDER BY objID").text.split()
    fetched = casjobs.mydb("SELECT objID FROM ids ORDER BY objID OFFSET 14 ROWS FETCH NEXT 7 ROWS ONLY").text.split()
    assert [*first, *after[1:], *fetched[1:]] == whole[:21]
    assert casjobs.mydb("SELECT COUNT(*) FROM mydb.ids").text.split() == ["Column1", str(len(whole))]


def test_a_table_that_exists_is_not_made_again(casjobs):
    sql = "SELECT 1 AS a INTO mydb.once"
    assert casjobs.wait(casjobs.submit(sql))["Status"] == 5
    again = casjobs.wait(casjobs.submit(sql))
    assert again["Status"] == 4
    assert again["Message"] == "There is already an object named 'once' in the database."


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT objID,\n  petroMag_x\nINTO mydb.a FROM PhotoObjAll", "Line 2: Invalid column name 'petroMag_x'."),
        ("SELECT p.objID\nINTO mydb.a\nFROM PhotoObjAll p WHERE p.nope = 1", "Line 3: Invalid column name 'nope'."),
        ("SELECT objID -- Galaxie\nINTO mydb.a\nFROM Galaxie", "Line 3: Invalid object name 'Galaxie'."),
        ("SELECT q.objID INTO mydb.a FROM PhotoObjAll p", 'Line 1: The multi-part identifier "q" could not be bound.'),
        ("SELECT objID INTO mydb.a\nFRM PhotoObjAll", "Line 2: Incorrect syntax near 'FRM'."),
        ("SELECT 1 / (objID - objID) AS a INTO mydb.a FROM PhotoObjAll", "Line 1: Divide by zero error encountered."),
    ],
)
def test_a_job_that_cannot_be_understood_fails_with_the_servers_message(casjobs, sql, message):
    job = casjobs.wait(casjobs.submit(sql))
    assert job["Status"] == 4
    assert job["Message"].endswith(message)
    assert job["Rows"] is None
    assert casjobs.call("GET", "contexts/MyDB/Tables").json() == []


@pytest.mark.parametrize(("context", "wait_for"), [("DR12", 0), ("DR12", 1), ("MyDB", 1)])
def test_a_job_is_cancelled_in_the_queue_and_in_mid_run(archive_folder, context, wait_for):
    with Server(archive_folder, job_seconds=0 if wait_for else 60) as server:
        client, table = Client(server), "PhotoObjAll"
        if context == "MyDB":
            client.wait(client.submit("SELECT ra INTO mydb.places FROM PhotoObjAll"))
            client.context, table = context, "places"
        number = client.submit(f"SELECT COUNT(*) AS n INTO mydb.a {ENDLESS.format(table)}")
        while client.job(number)["Status"] != wait_for:
            time.sleep(0.01)
        assert client.call("DELETE", f"jobs/{number}").json()["Status"] in (2, 3)
        assert client.wait(number)["Status"] == 3


def test_jobs_are_listed_the_latest_first(casjobs):
    numbers = [casjobs.submit(f"SELECT 1 AS a INTO mydb.t{i}", task=f"task {i}") for i in range(3)]
    listed = casjobs.call("GET", "jobs").json()
    assert [job["JobID"] for job in listed] == numbers[::-1]
    assert [job["TaskName"] for job in listed] == ["task 2", "task 1", "task 0"]
    assert [casjobs.call("GET", f"jobs/{number}").status_code for number in ("17", "²", "x")] == [404, 404, 404]


def test_queries_without_into_make_tables_with_the_names_of_the_service(casjobs, recorded):
    jobs = [casjobs.submit("SELECT 4 AS Column1") for _ in range(3)]
    names = {casjobs.wait(number)["Created_Table"] for number in jobs}
    theirs = [table["Name"] for table in recorded["GET contexts/MyDB/Tables"][:2]]
    assert names == {*theirs, "MyTable_1"}


def test_calls_need_a_token_and_tokens_need_the_account(archive_folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(casjobs_service, "time", SimpleNamespace(time=time.time, monotonic=lambda: now[0]))
    with Server(archive_folder, token_seconds=300) as server:
        assert log_in(server, ACCOUNT[0], "wrong").status_code == 401
        given = log_in(server, *ACCOUNT)
        assert given.status_code == 200
        tables = server.casjobs + "/contexts/MyDB/Tables"
        headers = {"X-Auth-Token": given.headers["X-Subject-Token"]}
        assert requests.get(tables, timeout=20).status_code == 401
        now[0] = 299
        assert requests.get(tables, headers=headers, timeout=20).status_code == 200
        now[0] = 301
        assert requests.get(tables, headers=headers, timeout=20).status_code == 401
