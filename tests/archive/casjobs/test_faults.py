"""Faults of CasJobs: retries, lost responses, tables that vanish, jobs that fail."""

import re

import pandas as pd
import pytest
from tests.fixtures.casjobs_client import GALAXIES, ask, counts, jobs, kept, refusal, settings
from tests.services.server import casjobs as service

from sdss_photoz import files
from sdss_photoz.archive import casjobs, http, mydb, sciserver
from sdss_photoz.archive.services import query_galaxies
from sdss_photoz.errors import UserError


@pytest.mark.parametrize(
    "fault", ["403", "429", "500", "502", "503", "504", "html", "hang", "reset", "truncated", "expired"]
)
def test_fault_of_any_call_but_the_submission_is_retried(serve, direct, tmp_path, capsys, fault):
    kinds = [kind for kind in ("login", "tables", "status", "mydb") if (fault, kind) != ("expired", "login")]
    server = serve(*(f"{kind}:{fault}@1" for kind in kinds))
    answer = ask(server, tmp_path, timeout_seconds=1.0 if fault == "hang" else 20)
    pd.testing.assert_frame_equal(answer, direct["fields"])
    assert sum(request.fault == fault for request in server.requests) == len(kinds)
    assert counts(server)["submit"] == 1
    messages = capsys.readouterr().err
    if fault == "expired":
        assert messages.count("logged in to SciServer") == 1 + len(kinds)
    else:
        assert all(f"{label}: " in messages for label in ("log in to SciServer", "list MyDB"))
        assert messages.count("asked again in") >= len(kinds)


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
        sciserver.CasJobs(archive, http.RateLimiter(tmp_path, 60_000)).submit("SELECT 1", "test")


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
    assert counts(server)["submit"] == casjobs.MAX_SUBMISSIONS
    assert jobs(server) == []
    messages = capsys.readouterr().err
    assert messages.count("No server is available to handle this request.") == casjobs.MAX_SUBMISSIONS


@pytest.mark.parametrize("fault", ["reset", "truncated"])
@pytest.mark.parametrize("listed", [True, False])
def test_job_whose_number_was_lost_is_found_and_not_submitted_twice(
    serve, direct, tmp_path, fault, listed, monkeypatch
):
    if not listed:
        monkeypatch.setattr(sciserver.CasJobs, "find", lambda self, task: None)
        monkeypatch.setattr(casjobs, "SEARCH_ATTEMPTS", 100)
    server = serve(f"submit:{fault}@1", job_seconds=0.3)
    pd.testing.assert_frame_equal(ask(server, tmp_path), direct["fields"])
    assert counts(server)["submit"] == len(jobs(server)) == 1


def test_second_job_that_fails_at_the_first_ones_table_takes_it(serve, direct, tmp_path, monkeypatch):
    monkeypatch.setattr(sciserver.CasJobs, "find", lambda self, task: None)
    monkeypatch.setattr(casjobs, "SEARCH_ATTEMPTS", 2)
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
    query = GALAXIES._replace(sql=GALAXIES.sql.replace(right, wrong))
    line = next(number for number, text in enumerate(query.sql.split("\n"), 1) if wrong in text)
    sentence = refusal(server, tmp_path, query)
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
    monkeypatch.setattr(mydb, "PAGE_ROWS", 50_000)
    whole = service.answer.to_csv
    monkeypatch.setattr(service.answer, "to_csv", lambda table: whole(table.drop(columns=column, errors="ignore")))
    with pytest.raises(UserError, match=rf"^the answer of the casjobs archive .* lacks the column {column}: it has "):
        query_galaxies(settings(serve()), tmp_path)


def test_server_that_is_down_is_named_when_retries_end_and_the_job_is_kept(serve, direct, tmp_path):
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
