"""Each fault does on the wire what its name says, as often as it was asked for."""

import bz2
import socket
import threading

import numpy as np
import pytest
import requests
from tests.services.client import SEARCH, Client, log_in
from tests.services.server import ACCOUNT, Faults, Server
from tests.services.server.log import KINDS

from sdss_photoz.errors import UserError


@pytest.fixture
def serve(archive_folder):
    """A function that serves with the faults that it is given."""
    running = []

    def start(*faults, retry_after=1.0, **options):
        server = Server(archive_folder, faults=Faults.parse(faults, retry_after), **options)
        running.append(server)
        return server.start()

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def whole(archive_folder, frame):
    return (archive_folder / "sas" / frame.path()).read_bytes()


def fetch(server, frame):
    """Status line, headers and body of a frame as they come from the socket, and the error that ended them."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(f"GET /sas/{frame.path()} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        data, error = b"", None
        try:
            while piece := raw.recv(1 << 16):
                data += piece
        except OSError as broken:
            error = type(broken)
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body, error


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 504])
def test_a_refusal_has_its_status_and_asks_to_wait(serve, frame, whole, status):
    server = serve(f"{status}@1", retry_after=2)
    line, headers, body, _ = fetch(server, frame)
    assert line.startswith(f"HTTP/1.1 {status} ")
    assert headers.get("Retry-After") == ("2" if status in (429, 503) else None)
    assert body.startswith(b"<html>")
    assert fetch(server, frame)[2] == whole


def test_an_error_page_has_status_200(serve):
    server = serve("html@1")
    reply = requests.get(server.skyserver + SEARCH, {"cmd": "SELECT 1 AS a", "format": "csv"}, timeout=5)
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "<title>Skyserver Error</title>" in reply.text


def test_a_hung_connection_stays_silent_and_the_server_still_stops(serve, frame):
    server = serve("hang@1")
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=0.5) as raw:
        raw.sendall(f"GET /sas/{frame.path()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            raw.recv(1)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(60)
        assert not stopping.is_alive()


def test_a_reset_breaks_the_connection_in_mid_body(serve, frame, whole):
    line, headers, body, error = fetch(serve("reset@1"), frame)
    assert line == "HTTP/1.1 200 OK"
    assert headers["Content-Length"] == str(len(whole))
    assert error is ConnectionResetError
    assert whole[: len(whole) // 2].startswith(body)


def test_a_truncated_body_promises_its_full_length(serve, frame, whole):
    line, headers, body, error = fetch(serve("truncated@1"), frame)
    assert line == "HTTP/1.1 200 OK"
    assert headers["Content-Length"] == str(len(whole))
    assert error is None
    assert body == whole[: len(whole) // 2]


def test_flipped_bytes_have_the_length_of_the_frame_and_break_its_blocks(serve, frame, whole):
    _, headers, body, error = fetch(serve("flipped@1"), frame)
    assert error is None
    assert len(body) == len(whole) == int(headers["Content-Length"])
    differ = np.flatnonzero(np.frombuffer(body, np.uint8) != np.frombuffer(whole, np.uint8))
    assert len(differ) == 16
    assert abs(differ.mean() - len(whole) / 2) < 16
    with pytest.raises(OSError, match="Invalid data"):
        bz2.decompress(body)


def test_a_connection_serves_on_after_flipped_bytes(serve, frame, whole):
    server = serve("flipped@1")
    with requests.Session() as session:
        bodies = [session.get(f"{server.sas}/{frame.path()}", timeout=5).content for _ in range(2)]
    assert bodies[0] != bodies[1] == whole


def test_an_answer_without_a_body_gets_none_from_a_fault(serve, frame, whole):
    server = serve("flipped@1")
    with requests.Session() as session:
        url = f"{server.sas}/{frame.path()}"
        assert session.head(url, timeout=5).headers["Content-Length"] == str(len(whole))
        assert session.get(url, timeout=5).content == whole


def test_a_range_is_spoiled_within_itself(serve, frame, whole):
    server = serve("truncated@1")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(f"{server.sas}/{frame.path()}", headers={"Range": "bytes=1000-"}, timeout=5)
    assert server.requests[0].status == 206
    assert server.requests[0].bytes == (len(whole) - 1000) // 2


def test_a_frame_is_missing_once(serve, frame):
    server = serve("frame:404@2")
    assert [fetch(server, frame)[0][9:12] for _ in range(3)] == ["200", "404", "200"]


def test_a_refused_submission_leaves_the_fault_of_its_job_to_the_next(serve):
    client = Client(serve("submit:503@1", "failed@1"))
    assert client.call("PUT", "contexts/DR12/jobs", "SELECT 1 AS a INTO mydb.a").status_code == 503
    assert client.wait(client.submit("SELECT 1 AS a INTO mydb.a"))["Status"] == 4


def test_an_expired_token_is_refused_until_the_next_login(serve):
    server = serve("expired@2")
    client = Client(server)
    assert [client.call("GET", "jobs").status_code for _ in range(3)] == [200, 401, 401]
    client.headers["X-Auth-Token"] = log_in(server, *ACCOUNT).headers["X-Subject-Token"]
    assert client.call("GET", "jobs").status_code == 200


def test_a_job_fails_with_a_message(serve):
    client = Client(serve("failed@1"))
    job = client.wait(client.submit("SELECT 1 AS a INTO mydb.a"))
    assert job["Status"] == 4
    assert "severe error" in job["Message"]
    assert client.call("GET", "contexts/MyDB/Tables").json() == []


def test_a_job_never_starts_until_it_is_cancelled(serve):
    client = Client(serve("stuck@1"))
    stuck, next_one = client.submit("SELECT 1 AS a INTO mydb.a"), client.submit("SELECT 1 AS a INTO mydb.b")
    assert client.wait(next_one)["Status"] == 5
    assert client.job(stuck)["Status"] == 0
    client.call("DELETE", f"jobs/{stuck}")
    assert client.job(stuck)["Status"] == 3


def test_the_table_of_a_finished_job_is_gone(serve):
    client = Client(serve("gone@1"))
    job = client.wait(client.submit("SELECT 1 AS a INTO mydb.a"))
    assert (job["Status"], job["Rows"], job["Created_Table"]) == (5, 1, "a")
    reply = client.mydb("SELECT a FROM mydb.a")
    assert reply.status_code == 400
    assert "Invalid object name 'a'" in reply.json()["Error Message"]


@pytest.mark.parametrize("fault", ["reset", "truncated"])
def test_a_job_is_taken_though_the_connection_breaks_in_the_answer(serve, fault):
    client = Client(serve(f"submit:{fault}@1"))
    with pytest.raises(requests.RequestException):
        client.submit("SELECT 1 AS a INTO mydb.a", task="lost")
    assert [job["TaskName"] for job in client.call("GET", "jobs").json()] == ["lost"]


@pytest.mark.parametrize("fault", ["503", "html", "expired"])
def test_a_job_that_is_refused_is_not_taken(serve, fault):
    server = serve(f"submit:{fault}@1")
    Client(server).call("PUT", "contexts/DR12/jobs", "SELECT 1 AS a INTO mydb.a")
    assert Client(server).call("GET", "jobs").json() == []


def test_a_rate_is_dealt_once_in_every_block():
    faults = Faults.parse(["503=0.05", "frame:truncated=0.1"])
    assigned = [faults.assign("frame").wire for _ in range(400)]
    for fault, block in {"503": 20, "truncated": 10}.items():
        assert fault in assigned[: block + 2]
        assert abs(assigned.count(fault) - 400 // block) <= 1
    gaps = np.diff([i for i, fault in enumerate(assigned) if fault == "503"])
    assert gaps.max() < 42
    assert len(set(gaps)) > 3  # no rhythm
    again = Faults.parse(["503=0.05", "frame:truncated=0.1"])
    assert assigned == [again.assign("frame").wire for _ in range(400)]
    other = Faults.parse(["503=0.05", "frame:truncated=0.1"], seed=1)
    assert assigned != [other.assign("frame").wire for _ in range(400)]


def test_every_fault_at_one_rate_occurs_in_the_first_blocks():
    names = ["429", "500", "502", "503", "html", "hang", "reset", "truncated", "flipped", "404"]
    faults = Faults.parse([f"{name}=0.05" for name in names])
    assigned = [faults.assign("frame").wire for _ in range(200)]
    assert set(names) <= set(assigned[:30])
    assert [assigned.count(name) for name in names] == pytest.approx([10] * len(names), abs=1)


def test_faults_meet_only_the_kinds_that_they_apply_to():
    met = {
        name: {kind for kind in KINDS if any(Faults.parse([f"{name}@1"]).assign(kind))}
        for name in ("flipped", "404", "expired", "stuck", "reset")
    }
    assert met["flipped"] == met["404"] == {"frame"}
    assert met["expired"] == {"submit", "status", "cancel", "mydb", "tables"}
    assert met["stuck"] == {"submit"}
    assert met["reset"] == set(KINDS)
    assert Faults.parse(["login:503@1"]).assign("frame").wire is None


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("509=0.1", "429"),
        ("503", "503=0.05"),
        ("503=2.5", "between 0 and 1"),
        ("503=0", "between 0 and 1"),
        ("sql:flipped=0.1", "frame"),
        ("nothing:503=0.1", "'nothing'"),
        ("503@one", "503=0.05"),
    ],
)
def test_a_fault_that_is_not_understood_is_named(fault, named):
    with pytest.raises(UserError) as refusal:
        Faults.parse([fault])
    assert fault in str(refusal.value)
    assert named in str(refusal.value)
