"""Transient errors of the archive are retried, transfers resumed."""

import email.utils
import time

import pytest
from tests.fixtures.frame_client import FEW_RETRIES, fetch, leftovers
from tests.fixtures.frame_server import FRAME

from sdss_photoz.archive import http
from sdss_photoz.errors import UserError
from sdss_photoz.frames.mirror import FrameMissing, ensure


@pytest.mark.parametrize(
    "fault",
    [403, 408, 425, 429, 500, 502, 503, 504, "html", "short", "short without length", "reset", "flipped", 404],
)
def test_archive_that_fails_for_a_while_is_retried(tmp_path, archive, fault, capsys):
    archive.add(FRAME, faults=[fault, fault])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    assert len(archive.asked) == 3
    assert leftovers(tmp_path) == []
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{FRAME.name}: ")]
    assert len(messages) == 2
    assert all("asked again in" in line for line in messages)


def test_silent_connection_is_given_up_and_the_rest_asked_for(tmp_path, archive):
    archive.add(FRAME, faults=["hang"])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    sent = {request.range is None: request.sent for request in archive.requests}
    assert sent[False] < len(archive.body(FRAME))


@pytest.mark.parametrize("fault", ["short", "reset"])
def test_broken_answer_is_resumed_where_it_broke(tmp_path, archive, fault):
    archive.add(FRAME, faults=[fault])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    whole, rest = archive.requests
    assert whole.range is None
    first = int(rest.range.removeprefix("bytes=").removesuffix("-"))
    assert 0 < first < len(archive.body(FRAME))
    assert rest.sent == len(archive.body(FRAME)) - first


@pytest.mark.parametrize("fault", ["no ranges", "changed", 416])
def test_frame_that_cannot_be_resumed_is_fetched_from_its_beginning(tmp_path, archive, fault):
    archive.add(FRAME, faults=["short", fault])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("status", [403, 429, 503])
def test_retry_after_is_obeyed(tmp_path, archive, status):
    archive.add(FRAME, faults=[status])
    archive.retry_after[status] = "1"
    start = time.monotonic()
    fetch(tmp_path, archive)
    assert time.monotonic() - start > 1
    assert len(archive.asked) == 2


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("7", 7, 7), ("9" * 999, 300, 300), ("-7", 0, 0), ("soon", 0, 0), ("\u00b2", 0, 0), ("", 0, 0)],
)
def test_retry_after_is_seconds_and_never_longer_than_the_longest_pause(text, low, high):
    assert low <= http.retry_after({"Retry-After": text}) <= high


def test_retry_after_may_be_a_date():
    for ahead, low, high in [(60, 55, 60), (-60, 0, 0), (10**6, 300, 300)]:
        date = email.utils.formatdate(time.time() + ahead, usegmt=True)
        assert low <= http.retry_after({"Retry-After": date}) <= high


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (503, "HTTP 503"),
        (403, "HTTP 403"),
        ("html", "the answer is a web page (blocked or throttled?)"),
        ("short without length", "is missing"),
    ],
)
def test_archive_that_keeps_failing_stops_the_run_and_leaves_no_frame(tmp_path, archive, fault, sentence):
    archive.add(FRAME, faults=[fault] * 999)
    with pytest.raises(UserError, match=r"frame-r-000094-1-0011.fits.bz2 could not be fetched within 0.005 m") as error:
        fetch(tmp_path, archive, settings=FEW_RETRIES)
    assert sentence in str(error.value)
    assert not isinstance(error.value, FrameMissing)  # it may be there tomorrow
    assert len(archive.asked) > 3
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("status", [400, 401, 405, 451])
def test_answer_that_does_not_pass_is_one_sentence_at_once(tmp_path, archive, status):
    archive.add(FRAME, faults=[status] * 999)
    with pytest.raises(UserError, match=rf"is answered with HTTP {status} .*: check archive\.sas and") as error:
        fetch(tmp_path, archive)
    assert not isinstance(error.value, FrameMissing)
    assert len(archive.asked) == 1
    assert leftovers(tmp_path) == []


def test_every_service_retries_the_same_statuses():
    passing = [status for status in range(300, 600) if http.is_transient(status)]
    assert passing == [403, 408, 425, 429, *range(500, 600)]


def test_archive_that_cannot_be_reached_is_named(tmp_path, archive):
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/sas/.* could not be fetched .*\(no connection\)"):
        ensure(FRAME, tmp_path, "http://127.0.0.1:9/sas", archive=FEW_RETRIES)
    with pytest.raises(UserError, match="must be a file:/// or http"):
        ensure(FRAME, tmp_path, "ftp://somewhere")
