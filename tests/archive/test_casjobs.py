"""CasJobs over real HTTP: faults, kills, credentials, and what the server says."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

import pandas as pd
import pyarrow
import pytest
import requests
from aiohttp import web
from tests.conftest import skip

from sdss_photoz import files
from sdss_photoz.archive import casjobs, http, sciserver
from sdss_photoz.archive.query import DOORS, query_galaxies
from sdss_photoz.archive.question import ask_for, check_answer, forget
from sdss_photoz.config import Archive
from sdss_photoz.embedded.server import Faults, Server
from sdss_photoz.embedded.server import casjobs as service
from sdss_photoz.errors import UserError

PAGE = 3  # rows: the four fields of the small sky fill one and a part
SECRETS = ("ada-lovelace", "her pa55word")
GALAXIES, FIELDS = ask_for("galaxies"), ask_for("fields")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """An account, small pages, and an impatient client."""
    monkeypatch.delenv("SCISERVER_TOKEN", raising=False)
    monkeypatch.setenv("SCISERVER_USER", SECRETS[0])
    monkeypatch.setenv("SCISERVER_PASSWORD", SECRETS[1])
    monkeypatch.setattr(service, "ACCOUNT", SECRETS)
    monkeypatch.setattr(casjobs, "PAGE", PAGE)
    monkeypatch.setattr(casjobs, "LOOKS", 4)
    monkeypatch.setattr(http, "_growing", lambda state: 0.01)


@pytest.fixture
def serve(catalog):
    """A function that starts a server with faults; it ends with the test."""
    running = []

    def start(*faults, **options):
        server = Server(catalog.parent, faults=Faults.parse(faults, retry_after=0), **options)
        running.append(server.__enter__())
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def direct(catalog):
    """The answer of the direct door, by the question's name."""
    archive, answers = Archive(), {}
    for name in ("galaxies", "fields"):
        question = ask_for(name)
        answers[name] = check_answer(question, DOORS["embedded"](question, archive, catalog.parent), "embedded")
    return answers


def settings(server, **changes):
    quick = {"poll_seconds": 0.05, "queries_per_minute": 60_000, "timeout_seconds": 20, "patience_minutes": 0.5}
    return Archive(**{"service": "casjobs", **quick, **server.settings(), **changes})


def ask(server, folder, question=FIELDS, **changes):
    return check_answer(question, casjobs.ask(question, settings(server, **changes), folder), "casjobs")


def counts(server):
    return Counter(request.kind for request in server.requests)


def jobs(server):
    """States of the jobs that the server took."""
    return [job.status for job in server._casjobs.jobs.values()]


def kept(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".last-req"))


def refusal(*arguments, **changes):
    """The sentence of the error, after a look that nothing stands behind it that would hold a credential."""
    with pytest.raises(UserError) as caught:
        ask(*arguments, **changes)
    error = caught.value
    while error is not None:
        assert not any(secret in repr((error, vars(error))) for secret in SECRETS)
        assert not hasattr(error, "request")
        error = error.__cause__ or error.__context__
    return str(caught.value)


# what CasJobs says


def test_recorded_states_are_read(shared_data):
    recorded = json.loads((shared_data / "services" / "casjobs-recorded-responses.json").read_text())
    said = {key: json.dumps(reply).encode() for key, reply in recorded.items()}
    ready = sciserver.read_status(said["GET jobs/{id} just submitted (ready)"])
    assert (ready.code, ready.rows, ready.table, casjobs.times(ready)) == (sciserver.READY, None, "", "")
    finished = sciserver.read_status(said["GET jobs/{id} finished (select ... into MyDB.x)"])
    assert (finished.code, finished.rows, finished.table) == (sciserver.FINISHED, 1, "MyNewtable1")
    assert casjobs.times(finished) == ", waited 30.5 s, ran 0.3 s"
    tables = sciserver.read_tables(said["GET contexts/MyDB/Tables"])
    assert tables["mytable"] == 10
    assert len(tables) == 6


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"Status": 17}', b'{"Status": "5"}', b"<html></html>", b"\xff"])
def test_what_is_no_state_is_asked_for_again(body):
    with pytest.raises(ValueError):
        sciserver.read_status(body)


def test_page_that_may_have_lost_its_end_is_asked_for_again():
    cut, announced = b"fieldID,ra\n1,17.25\n2,18.", {"Content-Length": "25"}
    assert sciserver.read_page(http.Answer(200, announced, cut))["ra"].tolist() == [17.25, 18.0]
    assert len(sciserver.read_page(http.Answer(200, {}, cut + b"5\n"))) == 2
    with pytest.raises(ValueError, match="ends in mid-line"):
        sciserver.read_page(http.Answer(200, {}, cut))


# the answer


@pytest.mark.parametrize(("name", "page"), [("galaxies", 300), ("fields", 3), ("fields", 2), ("fields", 50_000)])
def test_casjobs_gives_the_table_of_the_direct_door(serve, direct, tmp_path, capsys, monkeypatch, name, page):
    monkeypatch.setattr(casjobs, "PAGE", page)
    server = serve()
    pd.testing.assert_frame_equal(ask(server, tmp_path, ask_for(name)), direct[name])
    assert server._casjobs.mydb.tables() == []
    told = capsys.readouterr().err
    assert re.search(rf"{name}: submitted to DR12 as job \d+", told)
    assert re.search(rf"{name}: CasJobs job \d+ is finished, waited [\d.]+ s, ran [\d.]+ s", told)
    assert f"{len(direct[name])}/{len(direct[name])}" in told


def test_answer_that_is_there_needs_neither_server_nor_account(serve, direct, tmp_path, monkeypatch):
    server = serve()
    ask(server, tmp_path)
    asked = len(server.requests)
    monkeypatch.delenv("SCISERVER_USER")
    monkeypatch.delenv("SCISERVER_PASSWORD")
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert len(server.requests) == asked
    forget(tmp_path, "fields")
    assert kept(tmp_path) == []


def test_table_of_an_earlier_question_is_dropped_first(serve, direct, tmp_path):
    server = serve()
    ask(server, tmp_path)
    table = json.loads(next(tmp_path.rglob("job.json")).read_text())["table"]
    forget(tmp_path, "fields")
    server._casjobs.mydb.make(table, pyarrow.table({"fieldID": [1]}))
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])


# faults


@pytest.mark.parametrize(
    "fault", ["403", "429", "500", "502", "503", "504", "html", "hang", "reset", "truncated", "expired"]
)
def test_fault_of_any_call_but_the_submission_is_asked_again(serve, direct, tmp_path, capsys, fault):
    kinds = [kind for kind in ("login", "tables", "status", "mydb") if (fault, kind) != ("expired", "login")]
    server = serve(*(f"{kind}:{fault}@1" for kind in kinds))
    answer = ask(server, tmp_path, timeout_seconds=1.0 if fault == "hang" else 20)
    pd.testing.assert_frame_equal(answer, direct["fields"])
    assert sum(request.fault == fault for request in server.requests) == len(kinds)
    assert counts(server)["submit"] == 1
    told = capsys.readouterr().err
    if fault == "expired":
        assert told.count("logged in to SciServer") == 1 + len(kinds)
    else:
        assert all(f"{label}: " in told for label in ("log in to SciServer", "list MyDB"))
        assert told.count("asked again in") >= len(kinds)


@pytest.mark.parametrize("fault", ["403", "429", "503", "expired"])
def test_refused_submission_is_sent_again_at_once(serve, direct, tmp_path, fault, capsys):
    server = serve(f"submit:{fault}@1")
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == 2
    assert len(jobs(server)) == 1
    assert "looked for" not in capsys.readouterr().err


def test_submission_without_a_connection_is_known_not_to_be_taken(serve, tmp_path):
    server = serve()
    archive = settings(server, patience_minutes=0.01, casjobs="http://127.0.0.1:9/CasJobs")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9 did not answer in 0\.01 minutes \(no connection\)"):
        sciserver.CasJobs(archive, http.Pace(tmp_path, 60_000)).submit("SELECT 1", "test")


@pytest.mark.parametrize("fault", ["500", "504", "html", "hang"])
def test_submission_that_may_have_been_lost_is_sent_again_after_a_look(serve, direct, tmp_path, fault, capsys):
    server = serve(f"submit:{fault}@1")
    pd.testing.assert_frame_equal(ask(server, tmp_path, timeout_seconds=2.0), direct["fields"])
    assert counts(server)["submit"] == 2
    assert len(jobs(server)) == 1
    assert "it is not there" in capsys.readouterr().err


def test_server_that_never_takes_the_query_is_quoted(serve, tmp_path, capsys):
    server = serve("submit:500@1,2,3,4,5")
    sentence = refusal(server, tmp_path)
    assert "not appear in MyDB (HTTP 500 Internal Server Error without a job's number: a web page" in sentence
    assert counts(server)["submit"] == casjobs.SUBMISSIONS
    assert jobs(server) == []
    told = capsys.readouterr().err
    assert told.count("No server is available to handle this request.") == casjobs.SUBMISSIONS


@pytest.mark.parametrize("fault", ["reset", "truncated"])
@pytest.mark.parametrize("listed", [True, False])
def test_job_whose_number_was_lost_is_found_and_not_submitted_twice(
    serve, direct, tmp_path, fault, listed, monkeypatch
):
    if not listed:
        monkeypatch.setattr(sciserver.CasJobs, "find", lambda self, task: None)
        monkeypatch.setattr(casjobs, "LOOKS", 100)
    server = serve(f"submit:{fault}@1", job_seconds=0.3)
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == len(jobs(server)) == 1


def test_second_job_that_fails_at_the_first_ones_table_takes_it(serve, direct, tmp_path, monkeypatch):
    monkeypatch.setattr(sciserver.CasJobs, "find", lambda self, task: None)
    monkeypatch.setattr(casjobs, "LOOKS", 2)
    server = serve("submit:reset@1", job_seconds=1.0)
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert sorted(jobs(server)) == [sciserver.FAILED, sciserver.FINISHED]
    assert server._casjobs.mydb.tables() == []


def test_table_that_is_gone_is_made_once_more(serve, direct, tmp_path):
    server = serve("gone@1")
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == 2


def test_table_that_is_gone_twice_is_named(serve, tmp_path):
    server = serve("gone@1,2")
    assert "was dropped before it was read, twice" in refusal(server, tmp_path)
    assert counts(server)["submit"] == 2
    assert kept(tmp_path) == []


def test_table_that_goes_between_pages_is_made_once_more(serve, direct, tmp_path, monkeypatch):
    server, written = serve(), files.write_parquet

    def write(path, table):
        written(path, table)
        if path.name == "page-000.parquet" and counts(server)["submit"] == 1:
            server._casjobs.mydb.drop(next(iter(server._casjobs.mydb.tables()))["Name"])

    monkeypatch.setattr(files, "write_parquet", write)
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == 2


def test_failed_job_shows_the_servers_message_and_the_query_and_is_submitted_anew(serve, direct, tmp_path):
    server = serve("failed@1")
    sentence = refusal(server, tmp_path)
    assert re.match(r"CasJobs job \d+ failed: " + re.escape(service.FAILURE), sentence)
    assert "FROM Frame fr" in sentence
    assert kept(tmp_path) == []
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("po.expAB_r", "po.expBA_r", r"Invalid column name 'expBA_r'"),
        ("FROM SpecObjAll", "FROM SpecObjAlll", r"Invalid object name '(dbo\.)?SpecObjAlll'"),
    ],
)
def test_unknown_column_or_table_is_the_servers_own_message_with_the_line(serve, tmp_path, right, wrong, message):
    server = serve()
    question = GALAXIES._replace(sql=GALAXIES.sql.replace(right, wrong))
    line = next(number for number, text in enumerate(question.sql.split("\n"), 1) if wrong in text)
    sentence = refusal(server, tmp_path, question)
    assert re.search(rf"Line {line}: {message}\. \(line {line} of the query, '.*{re.escape(wrong)}.*'\)", sentence)
    assert wrong in sentence.split("the query was")[1]


def test_job_that_never_starts_is_cancelled_at_the_deadline_and_named(serve, tmp_path):
    server = serve("stuck@1")
    sentence = refusal(server, tmp_path, query_hours=0.5 / 3600)
    assert re.search(r"CasJobs job \d+ was still ready after 0.000138889 hours .* was canceled", sentence)
    assert counts(server)["cancel"] == 1
    assert jobs(server) == [sciserver.CANCELED]
    assert kept(tmp_path) == []


def test_row_count_that_differs_is_one_sentence_and_nothing_is_used(serve, tmp_path, monkeypatch):
    reply = service.Job.reply
    monkeypatch.setattr(service.Job, "reply", lambda job: {**reply(job), "Rows": job.rows and job.rows + 1})
    sentence = refusal(serve(), tmp_path)
    assert re.search(r"CasJobs job \d+ made \d+ rows of fields, but its table \w+ gave \d+: ", sentence)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("column", ["objID", "specObjID"])
def test_answer_without_a_needed_column_is_named(serve, tmp_path, monkeypatch, column):
    monkeypatch.setattr(casjobs, "PAGE", 50_000)
    whole = service.answer.to_csv
    monkeypatch.setattr(service.answer, "to_csv", lambda table: whole(table.drop(columns=column, errors="ignore")))
    with pytest.raises(UserError, match=rf"^the answer of the casjobs archive .* lacks the column {column}: it has "):
        query_galaxies(settings(serve()), tmp_path)


def test_server_that_is_down_is_named_when_patience_ends_and_the_job_is_kept(serve, direct, tmp_path):
    server = serve("tables:503@2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20")
    host = server.url.split("/")[2]
    sentence = refusal(server, tmp_path, patience_minutes=0.001)
    assert f"list MyDB: {host} did not answer in 0.001 minutes (HTTP 503 Service Unavailable, " in sentence
    assert "a web page (blocked or throttled?): " in sentence
    assert "No server is available to handle this request." in sentence
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == 1


def test_table_that_cannot_be_dropped_is_a_warning_and_goes_with_the_next_run(serve, direct, tmp_path, capsys):
    server = serve("tables:503@" + ",".join(map(str, range(3, 30))))
    pd.testing.assert_frame_equal(ask(server, tmp_path, patience_minutes=0.002), direct["fields"])
    assert re.search(r"warning: the table \w+ stays in MyDB", capsys.readouterr().err)
    assert len(server._casjobs.mydb.tables()) == 1
    server.faults._faults.clear()
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert server._casjobs.mydb.tables() == []


# accounts


def test_no_account_names_what_to_set_and_the_door_without_one(serve, tmp_path, monkeypatch):
    monkeypatch.delenv("SCISERVER_USER")
    monkeypatch.delenv("SCISERVER_PASSWORD")
    server = serve()
    sentence = refusal(server, tmp_path)
    assert all(
        word in sentence
        for word in ("SCISERVER_TOKEN", "SCISERVER_USER", "SCISERVER_PASSWORD", "archive.service: skyserver")
    )
    assert server.requests == []
    assert kept(tmp_path) == []


def test_half_an_account_names_the_other_half(serve, tmp_path, monkeypatch):
    monkeypatch.delenv("SCISERVER_PASSWORD")
    assert "SCISERVER_PASSWORD is not" in refusal(serve(), tmp_path)


def test_wrong_password_is_one_sentence_and_is_not_tried_again(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("SCISERVER_PASSWORD", "quasars-not-told")
    server = serve()
    sentence = refusal(server, tmp_path)
    assert "refuses the user and password" in sentence
    assert "quasars" not in sentence
    assert counts(server) == {"login": 1}


def test_token_is_enough(serve, direct, tmp_path, monkeypatch):
    server = serve()
    monkeypatch.delenv("SCISERVER_USER")
    monkeypatch.delenv("SCISERVER_PASSWORD")
    monkeypatch.setenv("SCISERVER_TOKEN", server.give_token())
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["login"] == 0


def test_token_that_expires_in_mid_run_is_one_sentence_and_the_job_goes_on_with_a_new_one(
    serve, direct, tmp_path, monkeypatch
):
    server = serve("status:expired@1")
    monkeypatch.delenv("SCISERVER_USER")
    monkeypatch.delenv("SCISERVER_PASSWORD")
    monkeypatch.setenv("SCISERVER_TOKEN", token := server.give_token())
    sentence = refusal(server, tmp_path)
    assert "the token of SCISERVER_TOKEN, which is wrong or has expired" in sentence
    assert token not in sentence
    monkeypatch.setenv("SCISERVER_TOKEN", server.give_token())
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == 1


def test_wrong_token_with_a_password_is_replaced(serve, direct, tmp_path, monkeypatch):
    monkeypatch.setenv("SCISERVER_TOKEN", "0123456789abcdef")
    pd.testing.assert_frame_equal(ask(serve(), tmp_path), direct["fields"])


def test_tokens_that_are_always_refused_end_the_run(serve, tmp_path):
    server = serve("expired=1")
    assert "refuses the tokens that SciServer has just given" in refusal(server, tmp_path)
    assert counts(server) == {"login": 3, "tables": 3}


@pytest.mark.parametrize("status", [400, 403, 500])
@pytest.mark.parametrize("words", ["The token is not valid or has expired.", "Unauthorized: invalid token"])
def test_token_refused_with_another_status_than_401_is_renewed(serve, direct, tmp_path, monkeypatch, status, words):
    server, refused, valid = serve(), [], service.CasJobs.refusal

    def refuse(self, request):
        if len(refused) < 2:
            refused.append(request)
            return web.json_response({"Error Code": status, "Error Message": words}, status=status)
        return valid(self, request)

    monkeypatch.setattr(service.CasJobs, "refusal", refuse)
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert (counts(server)["login"], counts(server)["submit"], len(refused)) == (3, 1, 2)


def test_403_of_the_log_in_is_a_wrong_password_unless_it_is_a_page(serve, direct, tmp_path, monkeypatch):
    server = serve("login:403@1")
    pd.testing.assert_frame_equal(ask(server, tmp_path / "page"), direct["fields"])
    assert counts(server)["login"] == 2

    async def refuse(self, request, fault):
        return await _refused("no such user", 403)

    monkeypatch.setattr(service.CasJobs, "log_in", refuse)
    server = serve()
    assert "refuses the user and password" in refusal(server, tmp_path / "word")
    assert counts(server) == {"login": 1}


def test_token_that_would_break_the_header_is_not_shown(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("SCISERVER_TOKEN", "half-a-secret\nother-half")
    sentence = refusal(serve(), tmp_path)
    assert sentence.startswith("SCISERVER_TOKEN holds blanks")
    assert "half" not in sentence


def test_credentials_follow_no_redirect(tmp_path):
    heard = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.path)
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    archive = Archive(service="casjobs", login=f"http://127.0.0.1:{server.server_port}/tokens", patience_minutes=0.1)
    with pytest.raises(UserError, match=r"answered a log-in with HTTP 307: check archive\.login\.$"):
        sciserver.Account(archive).token()
    server.shutdown()
    server.server_close()
    assert heard == ["/tokens"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.SSLError, "no secure connection: is its certificate trusted here?"),
        (requests.exceptions.ProxyError, "no connection through the proxy"),
        (requests.ConnectionError, "no connection"),
        (requests.ConnectTimeout, "no answer in time"),
    ],
)
def test_a_connection_that_fails_says_how_and_shows_nothing_of_the_request(error, words):
    assert http.explain(error(f"https://{SECRETS[0]}@somewhere")) == words


def test_server_that_repeats_the_token_is_not_quoted(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(service.CasJobs, "tables", lambda self, request, fault: _refused(f"{token} may not"))
    server = serve()
    monkeypatch.setenv("SCISERVER_TOKEN", token := server.give_token())
    assert "HTTP 400: … may not)" in refusal(server, tmp_path)


async def _refused(text, status=400):
    return web.json_response({"Error Code": status, "Error Message": text}, status=status)


def test_objects_that_hold_credentials_do_not_show_them(serve):
    archive = settings(serve())
    account = sciserver.Account(archive)
    account.renew()
    shown = repr((account, sciserver.CasJobs(archive, None), str(account)))
    assert not any(secret in shown for secret in (*SECRETS, account.token()))


# runs of their own

RUN = """
import os, signal, sys
from sdss_photoz import files
from sdss_photoz.archive import casjobs, http, sciserver
from sdss_photoz.archive.question import ask_for
from sdss_photoz.config import Archive
from sdss_photoz.errors import UserError
casjobs.PAGE, casjobs.LOOKS = {page}, 4
http._growing = lambda state: 0.01
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def then(function, after):
    def both(*arguments, **options):
        result = function(*arguments, **options)
        after(*arguments, **options)
        return result
    return both
{code}
try:
    casjobs.ask(ask_for("fields"), Archive(**{settings!r}), {folder!r})
except UserError as error:
    sys.exit(str(error))
"""


def run(server, folder, code="", wait=True, **changes):
    """The same question in a process of its own, with `code` before it."""
    source = RUN.format(
        page=PAGE, code=code, settings=settings(server, **changes).model_dump(exclude={"region"}), folder=str(folder)
    )
    process = subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return (process, *process.communicate(timeout=60)) if wait else process


KILLS = {
    "before the submission": ("sciserver.CasJobs.submit = kill", 0),
    "after the submission": ("sciserver.CasJobs.submit = then(sciserver.CasJobs.submit, kill)", 1),
    "after the number": (
        "keep = casjobs._Batch._keep\ncasjobs._Batch._keep = then(keep, lambda *_, **new: 'number' in new and kill())",
        1,
    ),
    "between pages": (
        "files.write_parquet = then(files.write_parquet, lambda path, _: path.name == 'page-000.parquet' and kill())",
        1,
    ),
    "in a page": ("import pandas\nwrite = pandas.DataFrame.to_parquet\n"
        "def half(table, path, **options):\n"
        "    write(table, path, **options)\n"
        "    'page-001' in str(path) and (os.truncate(path, 1000), kill())\n"
        "pandas.DataFrame.to_parquet = half", 1),
    "before the last drop": ("casjobs._Batch._drop = kill", 1),
    "after the last drop": ("sciserver.CasJobs.drop = then(sciserver.CasJobs.drop, lambda *_, **last: last and kill())",
        1),
}  # fmt: skip


@pytest.mark.parametrize("moment", KILLS)
def test_run_killed_at_any_moment_submits_no_second_job_and_reads_no_page_again(serve, direct, tmp_path, moment):
    code, submitted = KILLS[moment]
    server = serve()
    process, told, _ = run(server, tmp_path, code)
    assert process.returncode == -signal.SIGKILL, told
    assert counts(server)["submit"] == submitted
    pages = sum(name.startswith("page-") for name in kept(tmp_path))
    before = counts(server)["mydb"]
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == len(jobs(server)) == 1
    needed = -(-len(direct["fields"]) // PAGE)
    dropped = 0 if moment == "after the last drop" else 1
    assert counts(server)["mydb"] - before == needed - pages + dropped
    assert server._casjobs.mydb.tables() == []


def test_run_killed_as_its_job_waits_finds_it_again(serve, direct, tmp_path, monkeypatch):
    go_on, make = threading.Event(), service.CasJobs._make_table
    monkeypatch.setattr(service.CasJobs, "_make_table", lambda self, job: go_on.wait(60) and make(self, job))
    server = serve()
    process = run(server, tmp_path, wait=False)
    while not counts(server)["status"]:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert jobs(server) in ([sciserver.READY], [sciserver.STARTED])
    go_on.set()
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == 1


@pytest.mark.parametrize("faults", [["html@2", "reset@4", "500@6"], ["failed@1"], ["expired=1"]])
def test_credentials_reach_no_log_and_no_file(serve, tmp_path, faults, monkeypatch):
    give, tokens = service.CasJobs.give_token, []
    monkeypatch.setattr(service.CasJobs, "give_token", lambda self: tokens.append(give(self)) or tokens[-1])
    server = serve(*faults)
    process, told, _ = run(server, tmp_path)
    assert process.returncode == (1 if len(faults) == 1 else 0), told
    assert tokens
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] + [told.encode()]
    assert not [secret for secret in (*SECRETS, *tokens) if any(secret.encode() in content for content in written)]


def test_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(serve, direct, tmp_path):
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(tmp_path)], capture_output=True, check=False
        ).returncode
    ):
        skip("a small disk cannot be mounted here")
    try:
        server = serve()
        assert re.search(r"^the disk of .* is full: make room and run again", refusal(server, tmp_path))
        assert not [name for name in kept(tmp_path) if name.endswith(".part")]
        subprocess.run(["mount", "-o", "remount,size=10m", str(tmp_path)], check=True)
        pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
        assert counts(server)["submit"] == 1
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
