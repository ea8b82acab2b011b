"""Faults, refusals and error messages of the SkyServer."""

import json
import re

import pandas as pd
import pytest
from tests.fixtures.skyserver_client import HERE, PLENTY, Scripted, asked, whole
from tests.services.server import Faults, Server

from sdss_photoz.archive import http as archive_http
from sdss_photoz.archive import skyserver
from sdss_photoz.archive.query import build_query
from sdss_photoz.errors import UserError


@pytest.mark.parametrize("fault", ["403", "429", "500", "502", "503", "504", "html", "hang", "reset", "truncated"])
def test_a_fault_is_logged_and_retried(fault, catalog, straight, settings, tmp_path, capfd):
    query = build_query("fields", HERE)
    with Server(catalog.parent, limits=PLENTY, faults=Faults.parse([f"{fault}@2"], retry_after=2)) as server:
        found = whole(query, settings(server.url, timeout_seconds=8.0 if fault == "hang" else 60.0), tmp_path)
        pd.testing.assert_frame_equal(found, straight(query))
        requests = asked(server)
        assert [request.fault for request in requests] == ["", fault, ""]
        if fault in ("429", "503"):
            assert requests[2].time - requests[1].time > 2  # as Retry-After asked for
    messages = re.findall(r"query of fields, right ascensions 165 to 180: (.*); asked again in", capfd.readouterr().err)
    page = "a web page (blocked or throttled?) instead of a table: 'Skyserver Error"
    reason = {"html": page, "hang": "no answer in time"}
    broken = "the connection broke in mid-answer"
    assert len(messages) == 1
    assert (reason | {"reset": broken, "truncated": broken}).get(fault, f"HTTP {fault}") in messages[0]


@pytest.mark.parametrize("status", [200, 500])
def test_a_throttled_request_is_retried(status, fields, settings, tmp_path, capfd):
    query, table, body = fields
    throttled = '#Table1\n"ERROR: Maximum 60 queries allowed per minute. Rejected query: SELECT \n a"\n'
    with Scripted((status, throttled), (200, body)) as server:
        pd.testing.assert_frame_equal(whole(query, settings(server.url), tmp_path), table)
        assert len(server.queries) == 2
    assert "Maximum 60 queries allowed per minute; asked again" in capfd.readouterr().err


def test_a_server_that_stays_away_is_one_sentence_and_nothing_half_written(fields, settings, tmp_path):
    with (
        Scripted((503, "<html>down</html>")) as server,
        pytest.raises(UserError, match=r"127\.0\.0\.1:\d+ did not answer in .*HTTP 503 Service Unavailable") as refusal,
    ):
        skyserver.run_query(fields[0], settings(server.url, patience_minutes=0.02), tmp_path)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.glob("queries/*/*"))


@pytest.mark.parametrize(
    ("found", "put", "message", "where"),
    [
        ("po.petroMag_g", "po.petroMag_q", "Invalid column name 'petroMag_q'", "line 6 of the query, 'po.petroMag_u, "),
        ("JOIN Photoz zp", "JOIN Photozz zp", "Invalid object name 'Photozz'", "line 26 of the query, 'JOIN Photozz "),
    ],
)
def test_a_refused_query_shows_the_servers_message_and_the_line(
    found, put, message, where, catalog, settings, tmp_path
):
    query = build_query("galaxies", HERE)
    query = query._replace(sql=query.sql.replace(found, put, 1))
    line = next(number for number, text in enumerate(query.sql.split("\n"), 1) if put in text)
    with Server(catalog.parent, limits=PLENTY) as server:
        with pytest.raises(UserError, match=re.escape(message)) as refusal:
            skyserver.run_query(query, settings(server.url), tmp_path)
        assert len(asked(server)) == 1  # it would be refused again
    assert re.sub("line [0-9]+", f"line {line}", where) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_refusal_on_a_page_is_told_from_a_page_that_passes(fields, settings, tmp_path):
    page = "<html><h2>An error occured</h2><font>Invalid column name 'incl'.<br></font></html>"
    with Scripted((200, page)) as server:
        with pytest.raises(UserError, match=r"An error occured Invalid column name 'incl'\. \(line \d of the query, "):
            skyserver.run_query(fields[0], settings(server.url), tmp_path)
        assert len(server.queries) == 1


WRAPPED = json.dumps({"ErrorCode": 500, "ErrorMessage": "{}", "LogMessageID": "ab-12"})


SENT = (  # the page of searches answers 200 for an error of the service behind it, which itself would answer 500
    (500, WRAPPED),
    (
        200,
        "<html><head>\n<title>Skyserver Error</title>\n</head><body bgcolor=white>\n<h2>An error occured</h2><H3>"
        "<font color=red><br>Query did not return results successfully, check the input and try again."
        f"<br>MORE DETAILED INFO FROM RESPONSE:<br><br>{WRAPPED}</font></H3></BODY></HTML>\n",
    ),
)


@pytest.mark.parametrize(("status", "body"), SENT)
def test_what_the_service_wraps_in_json_is_told_alone(status, body, fields, settings, tmp_path):
    message = r"Invalid column name 'incl'.\r\nInvalid column name 'node'."
    with Scripted((status, body.replace("{}", message))) as server:
        with pytest.raises(UserError) as refusal:
            skyserver.run_query(fields[0], settings(server.url), tmp_path)
        assert len(server.queries) == 1
    assert re.fullmatch(
        r"the SkyServer refuses the query of fields: Invalid column name 'incl'\. Invalid column name 'node'\. "
        r"\(line \d of the query, '.*fr\.incl,'\)",
        str(refusal.value),
    )


@pytest.mark.parametrize(("status", "body"), SENT)
def test_an_error_that_may_pass_is_quoted_when_retries_end(status, body, fields, settings, tmp_path):
    with (
        Scripted((status, body.replace("{}", "A transport-level error has occurred."))) as server,
        pytest.raises(UserError, match=r"did not answer in .*[ ']A transport-level error has occurred\.'?\): see that"),
    ):
        skyserver.run_query(fields[0], settings(server.url, patience_minutes=0.01), tmp_path)


@pytest.mark.parametrize("status", [403, 408, 425, 429, 504])
def test_a_refusal_that_passes_is_retried_and_quoted_when_it_does_not(
    status, fields, settings, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(archive_http, "_backoff", lambda state: 0.01)
    query, table, body = fields
    page = "<html><head><title>Request rejected</title></head><body>Your support ID is 17</body></html>"
    with Scripted((status, page), (200, body)) as server:
        pd.testing.assert_frame_equal(whole(query, settings(server.url), tmp_path / "a"), table)
        assert len(server.queries) == 2
    words = rf"HTTP {status} [\w ]+, a web page \(blocked or throttled\?\): Request rejected Your support ID is 17"
    assert re.search(words + "; asked again in", capfd.readouterr().err)
    with (
        Scripted((status, page)) as server,
        pytest.raises(UserError, match=rf"did not answer in 0\.005 minutes \({words}\): see that"),
    ):
        skyserver.run_query(query, settings(server.url, patience_minutes=0.005), tmp_path / "b")


@pytest.mark.parametrize("status", [404, 400, 401])
def test_another_status_is_one_sentence(status, fields, settings, tmp_path):
    with Scripted((status, "<html>no</html>")) as server:
        with pytest.raises(UserError, match=rf"answered HTTP {status}.*check archive\.skyserver and archive\.release"):
            skyserver.run_query(fields[0], settings(server.url), tmp_path)
        assert len(server.queries) == 1


def test_an_answer_without_a_needed_column_is_one_sentence(fields, settings, tmp_path):
    query, table, _ = fields
    lacking = table.assign(**{skyserver.COUNT_COLUMN: len(table)}).drop(columns="incl").to_csv(index=False)
    with (
        Scripted((200, lacking)) as server,
        pytest.raises(UserError, match=r"query of fields lacks the column incl: it has"),
    ):
        skyserver.run_query(query, settings(server.url), tmp_path)
