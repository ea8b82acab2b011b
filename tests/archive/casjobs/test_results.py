"""Responses of CasJobs are parsed, and its tables are those of the embedded archive."""

import json
import re

import pandas as pd
import pyarrow
import pytest
from tests.fixtures.casjobs_client import ask, kept

from sdss_photoz.archive import casjobs, http, mydb, sciserver
from sdss_photoz.archive.query import build_query, remove_state


def test_recorded_states_are_read(shared_data):
    recorded = json.loads((shared_data / "services" / "casjobs-recorded-responses.json").read_text())
    responses = {key: json.dumps(reply).encode() for key, reply in recorded.items()}
    ready = sciserver.read_status(responses["GET jobs/{id} just submitted (ready)"])
    assert (ready.code, ready.rows, ready.table, casjobs.times(ready)) == (sciserver.READY, None, "", "")
    finished = sciserver.read_status(responses["GET jobs/{id} finished (select ... into MyDB.x)"])
    assert (finished.code, finished.rows, finished.table) == (sciserver.FINISHED, 1, "MyNewtable1")
    assert casjobs.times(finished) == ", waited 30.5 s, ran 0.3 s"
    tables = sciserver.read_tables(responses["GET contexts/MyDB/Tables"])
    assert tables["mytable"] == 10
    assert len(tables) == 6


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"Status": 17}', b'{"Status": "5"}', b"<html></html>", b"\xff"])
def test_what_is_no_state_is_asked_for_again(body):
    with pytest.raises(ValueError):
        sciserver.read_status(body)


def test_page_that_may_have_lost_its_end_is_asked_for_again():
    cut, announced = b"fieldID,ra\n1,17.25\n2,18.", {"Content-Length": "25"}
    assert sciserver.read_page(http.Response(200, announced, cut))["ra"].tolist() == [17.25, 18.0]
    assert len(sciserver.read_page(http.Response(200, {}, cut + b"5\n"))) == 2
    with pytest.raises(ValueError, match="ends in mid-line"):
        sciserver.read_page(http.Response(200, {}, cut))


@pytest.mark.parametrize(("name", "page"), [("galaxies", 300), ("fields", 3), ("fields", 2), ("fields", 50_000)])
def test_casjobs_gives_the_table_of_the_embedded_archive(serve, direct, tmp_path, capsys, monkeypatch, name, page):
    monkeypatch.setattr(mydb, "PAGE_ROWS", page)
    server = serve()
    pd.testing.assert_frame_equal(ask(server, tmp_path, build_query(name)), direct[name])
    assert server._casjobs.mydb.tables() == []
    messages = capsys.readouterr().err
    assert re.search(rf"{name}: submitted to DR12 as job \d+", messages)
    assert re.search(rf"{name}: CasJobs job \d+ is finished, waited [\d.]+ s, ran [\d.]+ s", messages)
    assert f"{len(direct[name])}/{len(direct[name])}" in messages


def test_answer_that_is_there_needs_neither_server_nor_account(serve, direct, tmp_path, monkeypatch):
    server = serve()
    ask(server, tmp_path)
    asked = len(server.requests)
    monkeypatch.delenv("SCISERVER_USER")
    monkeypatch.delenv("SCISERVER_PASSWORD")
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert len(server.requests) == asked
    remove_state(tmp_path, "fields")
    assert kept(tmp_path) == []


def test_table_of_an_earlier_query_is_dropped_first(serve, direct, tmp_path):
    server = serve()
    ask(server, tmp_path)
    table = json.loads(next(tmp_path.rglob("job.json")).read_text())["table"]
    remove_state(tmp_path, "fields")
    server._casjobs.mydb.make(table, pyarrow.table({"fieldID": [1]}))
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
