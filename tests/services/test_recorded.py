"""The stand-in replies as the real services did when they were recorded."""

import json
import re

import pandas as pd
import pytest
from tests.services.client import Client, search
from tests.services.server import Server


def without_occasion(job):
    """A job without what differs between two submissions of it: times and number."""
    return {key: value for key, value in job.items() if key != "JobID" and not key.startswith("Time")}


def test_a_finished_job_is_described_as_the_service_did(server, recorded):
    theirs = recorded["GET jobs/{id} finished (select ... into MyDB.x)"]
    client = Client(server, context="MyDB")
    ours = client.wait(client.submit(theirs["Query"], task=theirs["TaskName"]))
    assert without_occasion(ours) == without_occasion(theirs)
    assert list(ours) == list(theirs)
    for key in ("TimeSubmit", "TimeStart", "TimeEnd"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,2}[1-9])?", ours[key]), ours[key]
    assert type(ours["JobID"]) is int


def test_a_job_in_the_queue_is_described_as_the_service_did(archive_folder, recorded):
    theirs = recorded["GET jobs/{id} just submitted (ready)"]
    with Server(archive_folder, job_seconds=60) as server:
        client = Client(server, context="MyDB")
        ours = client.job(client.submit(theirs["Query"], task=theirs["TaskName"]))
    assert without_occasion(ours) == without_occasion(theirs)
    assert ours["TimeStart"] is ours["TimeEnd"] is None


def test_tables_of_mydb_are_listed_as_the_service_did(casjobs, recorded):
    casjobs.wait(casjobs.submit("SELECT TOP 10 objID INTO mydb.MyTable FROM PhotoObjAll"))
    (ours,), theirs = casjobs.call("GET", "contexts/MyDB/Tables").json(), recorded["GET contexts/MyDB/Tables"][0]
    assert {key: type(value) for key, value in ours.items()} == {key: type(value) for key, value in theirs.items()}
    assert (ours["Name"], ours["Rows"], ours["Size"]) == (theirs["Name"], theirs["Rows"], theirs["Size"])
    assert theirs["Date"] < ours["Date"] < theirs["Date"] * 1.01  # ticks of 100 ns


def test_a_dropped_table_is_answered_as_the_service_did(casjobs, recorded):
    casjobs.wait(casjobs.submit("SELECT 1 AS a INTO mydb.once"))
    (result,) = casjobs.mydb("DROP TABLE once", "application/json+array").json()["Result"]
    assert str(pd.DataFrame(result["Data"], columns=result["Columns"])).strip() == recorded["DROP TABLE as dataframe"]
    casjobs.wait(casjobs.submit("SELECT 1 AS a INTO mydb.once"))
    assert casjobs.mydb("DROP TABLE once").text == "Rows Affected\n0\n"
    assert "Cannot drop the table 'once'" in casjobs.mydb("DROP TABLE once").json()["Error Message"]


@pytest.mark.parametrize("table", ["PhotoObjAll", "SpecObjAll"])
def test_columns_are_described_as_the_service_did(server, shared_data, table):
    (theirs,) = json.loads((shared_data / "services" / f"{table}_dr12.json").read_text())
    (ours,) = search(server, f"select * from dbo.fDocColumns('{table}')", "json").json()
    assert ours.keys() == theirs.keys()
    assert ours["TableName"] == theirs["TableName"]
    described = {row["name"]: row for row in theirs["Rows"]}
    assert len(ours["Rows"]) > 20
    for row in ours["Rows"]:
        assert list(row) == list(described[row["name"]])
        assert row["type"] == described[row["name"]]["type"]
        assert row["type"] == "varchar" or row["length"] == described[row["name"]]["length"]


def test_skyserver_prints_a_table_as_the_service_did(server, shared_data):
    theirs = (shared_data / "services" / "xid_im.txt").read_text().splitlines()
    columns = theirs[1].split(",")
    ours = search(server, f"SELECT {', '.join(columns)} FROM PhotoObjAll").text.splitlines()
    assert ours[:2] == theirs[:2]
    assert len(ours) > 100
    assert all(re.fullmatch(r"\d+\.\d+,-?\d+\.\d+,\d{19},\d+,301,\d,\d+", line) for line in [*theirs[2:], *ours[2:]])
