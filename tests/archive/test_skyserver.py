"""The SkyServer door: exactly the rows of the one query, whatever the service cuts off, refuses or spoils."""

import http.server
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pandas as pd
import pytest
from tests.conftest import skip

from sdss_photoz.archive import http as archive_http
from sdss_photoz.archive import query, skyserver
from sdss_photoz.archive.question import ask_for, check_answer
from sdss_photoz.config import Archive, Region
from sdss_photoz.embedded.server import Faults, Limits, Server
from sdss_photoz.errors import UserError

HERE = Region(ra=(164.9, 165.2), dec=(38.0, 40.0))  # two parts meet at 165 degrees
PLENTY = Limits(queries_per_minute=100_000)


@pytest.fixture
def settings():
    """The archive block for a server that is near and quick."""

    def settings(address, **keys):
        how = {"queries_per_minute": 60_000.0, "timeout_seconds": 20.0, "patience_minutes": 1.0} | keys
        return Archive(service="skyserver", skyserver=address, **how)

    return settings


@pytest.fixture(scope="module")
def straight(catalog):
    """The answer of the direct door."""

    def straight(question):
        return check_answer(question, query.DOORS["embedded"](question, Archive(), catalog.parent), "embedded")

    return straight


def whole(question, archive, folder):
    return check_answer(question, skyserver.ask(question, archive, folder), "skyserver")


def asked(server):
    return [request for request in server.requests if request.kind == "sql"]


def another_process(name, address, per_minute, folder):
    """A process that asks for what lies in HERE."""
    script = f"""
from sdss_photoz.archive import skyserver
from sdss_photoz.archive.question import ask_for
from sdss_photoz.config import Archive, Region

archive = Archive(service="skyserver", skyserver={address!r}, queries_per_minute={per_minute})
skyserver.ask(ask_for({name!r}, Region(ra={HERE.ra}, dec={HERE.dec})), archive, {str(folder)!r})
"""
    return subprocess.Popen([sys.executable, "-c", script], start_new_session=True)


class Scripted:
    """A server on loopback that gives replies in order, the last one for ever, and keeps the queries.

    A reply is (status, body), or a function of the query that gives it.
    """

    def __init__(self, *replies):
        self.queries = queries = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                queries.append(parse_qs(urlsplit(self.path).query)["cmd"][0])
                reply = replies[min(len(queries), len(replies)) - 1]
                status, body = reply(queries[-1]) if callable(reply) else reply
                self.send_response(status)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def fields(straight):
    """The question for the fields of one part, and how the service answers it."""
    question = ask_for("fields", Region(ra=(151.0, 164.6), dec=(30.0, 50.0)))
    table = straight(question)
    body = io.StringIO()
    table.assign(**{skyserver.COUNT: len(table)}).to_csv(body, index=False)
    return question, table, f"#Table1\n{body.getvalue()}"


@pytest.mark.parametrize("name", ["galaxies", "fields"])
def test_rows_are_those_of_the_one_query_though_the_server_cuts_answers_off(
    name, catalog, straight, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(skyserver, "PART", 90.0)
    question = ask_for(name)
    table = straight(question)
    limit = {"galaxies": 300, "fields": 3}[name]
    assert len(table) > limit
    with Server(catalog.parent, limits=PLENTY._replace(rows=limit)) as server:
        pd.testing.assert_frame_equal(whole(question, settings(server.url), tmp_path), table)
        assert len(asked(server)) > 5


@pytest.mark.parametrize("release", [12, 18])
def test_a_release_has_its_own_page(release, catalog, straight, settings, tmp_path):
    question = ask_for("fields", HERE)
    with Server(catalog.parent, release=release, limits=PLENTY) as server:
        pd.testing.assert_frame_equal(
            whole(question, settings(server.url, release=release), tmp_path), straight(question)
        )
        assert {request.path for request in asked(server)} == {f"/dr{release}/en/tools/search/x_results.aspx"}


def test_a_question_of_a_region_asks_nothing_of_the_rest_of_the_sky(catalog, straight, settings, tmp_path):
    question = ask_for("galaxies", HERE)
    with Server(catalog.parent, limits=PLENTY) as server:
        found = whole(question, settings(server.url), tmp_path)
        assert len(asked(server)) == 4  # two parts, two groups of columns
    pd.testing.assert_frame_equal(found, straight(question))
    assert found.ra.min() < 165 < found.ra.max()


def test_parts_tile_the_circle_and_those_of_a_region_hold_it():
    whole_circle = skyserver.parts()
    assert whole_circle[0][0] == 0
    assert whole_circle[-1][1] == 360
    assert all(first[1] == second[0] for first, second in itertools.pairwise(whole_circle))
    assert skyserver.parts((350.0, 365.0)) == [(0.0, 15.0), (345.0, 360.0)]
    assert skyserver.parts((16.0, 29.0)) == [(15.0, 30.0)]
    assert skyserver.parts((14.9999999, 15.0)) == [(0.0, 15.0), (15.0, 30.0)]


def test_no_query_string_is_longer_than_the_server_takes(catalog, settings, tmp_path):
    """The whole text is: its columns are asked for in groups, each with the key.

    The page hands the query on to the service behind it, with three characters for a blank.
    """
    question = ask_for("galaxies", HERE)
    server = skyserver._SkyServer(question, settings("http://127.0.0.1:1"), tmp_path)
    assert len(server.groups) == 2
    assert [name for group in server.groups for name in group if name != question.key] == [
        name for name in question.columns if name != question.key
    ]
    assert all(group[question.key] == "za.specObjID" for group in server.groups)
    for group in server.groups:
        sent = {"cmd": server._text((165.0, 180.0), group), "format": "csv", "searchtool": "SQL"}
        assert len(urlencode(sent, quote_via=quote)) <= 2048
    with pytest.raises(UserError, match=r"longer than the 2048 characters.*casjobs"):
        skyserver.ask(
            question._replace(sql=question.sql + "AND po.ra > 0 " * 150), settings("http://127.0.0.1:1"), tmp_path
        )


def test_comments_and_blanks_go_but_what_is_quoted_stays():
    sql = "-- why\nSELECT  a /* b\n */,\n  'it''s -- no  comment' AS c -- d\nFROM  t"
    assert skyserver.squeeze(sql) == "SELECT a , 'it''s -- no  comment' AS c FROM t"


@pytest.mark.parametrize("fault", ["403", "429", "500", "502", "503", "504", "html", "hang", "reset", "truncated"])
def test_a_fault_is_told_and_asked_again(fault, catalog, straight, settings, tmp_path, capfd):
    question = ask_for("fields", HERE)
    with Server(catalog.parent, limits=PLENTY, faults=Faults.parse([f"{fault}@2"], retry_after=2)) as server:
        found = whole(question, settings(server.url, timeout_seconds=3.0), tmp_path)
        pd.testing.assert_frame_equal(found, straight(question))
        requests = asked(server)
        assert [request.fault for request in requests] == ["", fault, ""]
        if fault in ("429", "503"):
            assert requests[2].time - requests[1].time > 2  # as Retry-After asked for
    told = re.findall(r"query of fields, right ascensions 165 to 180: (.*); asked again in", capfd.readouterr().err)
    page = "a web page (blocked or throttled?) instead of a table: 'Skyserver Error"
    reason = {"html": page, "hang": "no answer in time"}
    broken = "the connection broke in mid-answer"
    assert len(told) == 1
    assert (reason | {"reset": broken, "truncated": broken}).get(fault, f"HTTP {fault}") in told[0]


@pytest.mark.parametrize("status", [200, 500])
def test_a_throttled_request_is_asked_again(status, fields, settings, tmp_path, capfd):
    question, table, body = fields
    throttled = '#Table1\n"ERROR: Maximum 60 queries allowed per minute. Rejected query: SELECT \n a"\n'
    with Scripted((status, throttled), (200, body)) as server:
        pd.testing.assert_frame_equal(whole(question, settings(server.url), tmp_path), table)
        assert len(server.queries) == 2
    assert "Maximum 60 queries allowed per minute; asked again" in capfd.readouterr().err


def test_a_server_that_stays_away_is_one_sentence_and_nothing_half_written(fields, settings, tmp_path):
    with (
        Scripted((503, "<html>down</html>")) as server,
        pytest.raises(UserError, match=r"127\.0\.0\.1:\d+ did not answer in .*HTTP 503 Service Unavailable") as refusal,
    ):
        skyserver.ask(fields[0], settings(server.url, patience_minutes=0.02), tmp_path)
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
    question = ask_for("galaxies", HERE)
    question = question._replace(sql=question.sql.replace(found, put, 1))
    line = next(number for number, text in enumerate(question.sql.split("\n"), 1) if put in text)
    with Server(catalog.parent, limits=PLENTY) as server:
        with pytest.raises(UserError, match=re.escape(message)) as refusal:
            skyserver.ask(question, settings(server.url), tmp_path)
        assert len(asked(server)) == 1  # it would be refused again
    assert re.sub("line [0-9]+", f"line {line}", where) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_refusal_on_a_page_is_told_from_a_page_that_passes(fields, settings, tmp_path):
    page = "<html><h2>An error occured</h2><font>Invalid column name 'incl'.<br></font></html>"
    with Scripted((200, page)) as server:
        with pytest.raises(UserError, match=r"An error occured Invalid column name 'incl'\. \(line \d of the query, "):
            skyserver.ask(fields[0], settings(server.url), tmp_path)
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
            skyserver.ask(fields[0], settings(server.url), tmp_path)
        assert len(server.queries) == 1
    assert re.fullmatch(
        r"the SkyServer refuses the query of fields: Invalid column name 'incl'\. Invalid column name 'node'\. "
        r"\(line \d of the query, '.*fr\.incl,'\)",
        str(refusal.value),
    )


@pytest.mark.parametrize(("status", "body"), SENT)
def test_an_error_that_may_pass_is_quoted_when_patience_ends(status, body, fields, settings, tmp_path):
    with (
        Scripted((status, body.replace("{}", "A transport-level error has occurred."))) as server,
        pytest.raises(UserError, match=r"did not answer in .*[ ']A transport-level error has occurred\.'?\): see that"),
    ):
        skyserver.ask(fields[0], settings(server.url, patience_minutes=0.01), tmp_path)


@pytest.mark.parametrize("status", [403, 408, 425, 429, 504])
def test_a_refusal_that_passes_is_asked_again_and_quoted_when_it_does_not(
    status, fields, settings, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(archive_http, "_growing", lambda state: 0.01)
    question, table, body = fields
    page = "<html><head><title>Request rejected</title></head><body>Your support ID is 17</body></html>"
    with Scripted((status, page), (200, body)) as server:
        pd.testing.assert_frame_equal(whole(question, settings(server.url), tmp_path / "a"), table)
        assert len(server.queries) == 2
    words = rf"HTTP {status} [\w ]+, a web page \(blocked or throttled\?\): Request rejected Your support ID is 17"
    assert re.search(words + "; asked again in", capfd.readouterr().err)
    with (
        Scripted((status, page)) as server,
        pytest.raises(UserError, match=rf"did not answer in 0\.005 minutes \({words}\): see that"),
    ):
        skyserver.ask(question, settings(server.url, patience_minutes=0.005), tmp_path / "b")


@pytest.mark.parametrize("status", [404, 400, 401])
def test_another_status_is_one_sentence(status, fields, settings, tmp_path):
    with Scripted((status, "<html>no</html>")) as server:
        with pytest.raises(UserError, match=rf"answered HTTP {status}.*check archive\.skyserver and archive\.release"):
            skyserver.ask(fields[0], settings(server.url), tmp_path)
        assert len(server.queries) == 1


def test_an_answer_without_a_needed_column_is_one_sentence(fields, settings, tmp_path):
    question, table, _ = fields
    lacking = table.assign(**{skyserver.COUNT: len(table)}).drop(columns="incl").to_csv(index=False)
    with (
        Scripted((200, lacking)) as server,
        pytest.raises(UserError, match=r"query of fields lacks the column incl: it has"),
    ):
        skyserver.ask(question, settings(server.url), tmp_path)


@pytest.mark.parametrize(
    "refused",
    [
        (200, '#Error\nerror_message\n"Timeout expired. The timeout period elapsed prior to completion."\n'),
        (500, "<html><head><title>A task was canceled.</title></head><body>Server Error in '/dr12'.</body></html>"),
    ],
)
def test_a_query_that_takes_too_long_is_cut_in_two(refused, fields, settings, tmp_path):
    question, table, _ = fields

    def answer(sql):
        low, high = (float(re.search(rf"fr\.ra{sign}([\d.]+)", sql)[1]) for sign in (">=", "<"))
        if high - low > 4:
            return refused
        rows = table[(table.ra >= low) & (table.ra < high)]
        return 200, "#Table1\n" + rows.assign(**{skyserver.COUNT: len(rows)}).to_csv(index=False)

    with Scripted(answer) as server:
        pd.testing.assert_frame_equal(whole(question, settings(server.url), tmp_path), table)
        assert len(server.queries) == 7  # 15, twice 7.5 and four times 3.75 degrees
        whole(question, settings(server.url), tmp_path)
        assert len(server.queries) == 7  # what was too long is not tried again either


def test_a_query_that_always_takes_too_long_ends_with_one_sentence(fields, settings, tmp_path):
    refused = '#Error\nerror_message\n"Timeout expired."\n'
    with Scripted((200, refused)) as server:
        with pytest.raises(
            UserError, match=r"even for right ascensions from 150 to 150\.007.*: Timeout expired.*casjobs"
        ):
            skyserver.ask(fields[0], settings(server.url), tmp_path)
        assert len(server.queries) == 12


def test_a_range_without_rows_is_no_error(fields, settings, tmp_path):
    question, table, body = fields
    names = ",".join([*question.columns, skyserver.COUNT])
    for empty in (f"#Table1\n{names}\n", "No objects have been found\n"):
        both = question._replace(span=(151.0, 166.0))
        with Scripted((200, body), (200, empty)) as server:
            pd.testing.assert_frame_equal(whole(both, settings(server.url), tmp_path / empty[:3]), table)
        with Scripted((200, empty)) as server, pytest.raises(UserError, match=r"skyserver archive answered .* no rows"):
            whole(both, settings(server.url), tmp_path / f"{empty[:3]} twice")


def test_groups_of_columns_with_other_rows_are_never_joined(catalog, settings, tmp_path):
    question = ask_for("galaxies", HERE)
    groups = skyserver._SkyServer(question, settings("http://127.0.0.1:1"), tmp_path).groups

    def answer(ids):
        def reply(sql):
            group = next(group for group in groups if ",".join(group.values()) in sql)
            table = pd.DataFrame({name: [0] * len(ids) for name in group}).assign(specObjID=ids)
            return 200, table.assign(**{skyserver.COUNT: len(ids)}).to_csv(index=False)

        return reply

    with Scripted(answer([1, 2]), answer([1, 3])) as server, pytest.raises(UserError, match="gave other rows"):
        skyserver.ask(question, settings(server.url), tmp_path)
    with Scripted(answer([1, 2]), answer([1, 2]), answer([3]), answer([3])) as server:  # a later start asks anew
        assert sorted(skyserver.ask(question, settings(server.url), tmp_path).specObjID) == [1, 2, 3]


def test_a_killed_question_asks_no_finished_part_again(catalog, straight, settings, tmp_path):
    question = ask_for("galaxies", HERE)
    with Server(catalog.parent, limits=PLENTY, faults=Faults.parse(["hang@3"])) as server:
        child = another_process("galaxies", server.url, 60_000.0, tmp_path)
        try:
            while len(asked(server)) < 3 and child.poll() is None:
                time.sleep(0.02)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        assert len(asked(server)) == 3
        pd.testing.assert_frame_equal(whole(question, settings(server.url), tmp_path), straight(question))
        assert len(asked(server)) == 3 + 2  # four answers are needed, of which two were there
        whole(question, settings(server.url), tmp_path)
        assert len(asked(server)) == 5


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(catalog, straight, settings, tmp_path):
    question = ask_for("galaxies", HERE)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        skip("a small file system cannot be mounted here")
    try:
        with Server(catalog.parent, limits=PLENTY) as server:
            with pytest.raises(UserError, match=r"^the disk of .* is full: make room and run again") as refusal:
                skyserver.ask(question, settings(server.url), tmp_path)
            assert "\n" not in str(refusal.value)
            kept = sorted(path.name for path in tmp_path.glob("queries/galaxies-*/*"))
            assert kept
            assert all(name.endswith(".parquet") for name in kept)
            subprocess.run(["mount", "-o", "remount,size=4m", str(tmp_path)], check=True)
            before = len(asked(server))
            pd.testing.assert_frame_equal(whole(question, settings(server.url), tmp_path), straight(question))
            assert len(asked(server)) == before + 4 - len(kept)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_requests_are_never_sent_faster_than_the_pace(catalog, settings, tmp_path):
    """Also after a fault, and when a second question is asked at the same time by another process."""
    with Server(catalog.parent, limits=PLENTY, faults=Faults.parse(["500@2"])) as server:
        with another_process("fields", server.url, 60.0, tmp_path) as child:
            skyserver.ask(ask_for("galaxies", HERE), settings(server.url, queries_per_minute=60.0), tmp_path)
            assert child.wait() == 0
        times = sorted(request.time for request in asked(server))
    assert len(times) == 4 + 2 + 1
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.5  # some are longer on their way
    assert times[-1] - times[0] > 0.95 * (len(times) - 1)
