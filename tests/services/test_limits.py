"""Limits of the stand-in services, and frames in ranges."""

import socket
import threading
import time

import pytest
import requests
from tests.services.client import ENDLESS, SEARCH, Client, search
from tests.services.server import Limits, Server


def test_skyserver_leaves_rows_out_silently(archive_folder):
    with Server(archive_folder, limits=Limits(rows=10)) as server:
        reply = search(server, "SELECT objID FROM PhotoObjAll")
    assert reply.status_code == 200
    assert len(reply.text.splitlines()) == 12


def test_skyserver_refuses_more_queries_a_minute(archive_folder):
    with Server(archive_folder, limits=Limits(queries_per_minute=3)) as server:
        replies = [search(server, "SELECT 1 AS a").text for _ in range(4)]
        assert replies[:3] == ["#Table1\na\n1\n"] * 3
        assert "ERROR: Maximum 3 queries allowed per minute" in replies[3]
        assert [request.status for request in server.requests] == [200] * 4
    assert Limits() == (500_000, 60, 600)


def test_skyserver_refuses_a_query_string_above_2048_characters(server):
    page, head = server.skyserver + SEARCH, "?format=csv&cmd=SELECT+1+AS+"
    longest = requests.get(page + head + "a" * (2049 - len(head)), timeout=20)
    longer = requests.get(page + head + "a" * (2050 - len(head)), timeout=20)
    assert longest.status_code == 200
    assert longer.status_code == 400
    assert "The length of the query string for this request exceeds the configured maxQueryStringLength" in longer.text


def test_queries_end_after_their_time(archive_folder):
    with Server(archive_folder, limits=Limits(seconds=0.2)) as server:
        client, sql = Client(server), f"SELECT COUNT(*) AS n {ENDLESS}"
        client.wait(client.submit("SELECT ra INTO mydb.places FROM PhotoObjAll"))
        reply = search(server, sql.format("PhotoObjAll"))
        catalogue = client.call("POST", "contexts/DR12/query", sql.format("PhotoObjAll"))
        mydb = client.mydb(sql.format("places"))
    assert reply.text.startswith('#Error\nerror_message\n"Timeout expired')
    for reply in (catalogue, mydb):
        assert reply.status_code == 400
        assert reply.json()["Error Message"].startswith("Timeout expired")


def test_queries_end_when_nobody_waits_for_them(server, frame, body):
    """More of them than the server has threads must neither keep frames from others nor the server from its end."""

    query = {"cmd": f"SELECT COUNT(*) AS n {ENDLESS.format('PhotoObjAll')}", "format": "csv"}

    def ask(timeout=1):
        with pytest.raises(requests.RequestException):
            requests.get(server.skyserver + SEARCH, query, timeout=timeout)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert requests.get(f"{server.sas}/{frame.path()}", timeout=10).content == body
    asked = len(server.requests)
    last = threading.Thread(target=ask, args=(600,))
    last.start()
    while len(server.requests) == asked:
        time.sleep(0.01)
    server.stop()  # long before that
    last.join(60)
    assert not last.is_alive()


def test_skyserver_makes_no_tables_and_shows_pages_to_browsers(server):
    assert "error_message" in search(server, "SELECT 1 AS a INTO mydb.x").text
    page = search(server, "SELECT nope FROM PhotoObjAll", "json")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert "Invalid column name 'nope'" in page.text


def test_frames_come_whole_or_in_ranges(server, frame, body):
    url = f"{server.sas}/{frame.path()}"

    def get(**headers):
        reply = requests.get(url, headers={key.replace("_", "-"): text for key, text in headers.items()}, timeout=20)
        return reply.status_code, reply.headers.get("Content-Range"), reply.content

    whole = requests.get(url, timeout=20)
    tag, modified, size = whole.headers["ETag"], whole.headers["Last-Modified"], len(body)
    assert (whole.content, whole.headers["Content-Length"], whole.headers["Accept-Ranges"]) == (
        body,
        str(size),
        "bytes",
    )
    assert get(Range="bytes=100-199") == (206, f"bytes 100-199/{size}", body[100:200])
    assert get(Range="bytes=1000-") == (206, f"bytes 1000-{size - 1}/{size}", body[1000:])
    assert get(Range="bytes=-50") == (206, f"bytes {size - 50}-{size - 1}/{size}", body[-50:])
    assert get(Range="bytes=10-", If_Range=tag)[0] == get(Range="bytes=10-", If_Range=modified)[0] == 206
    assert get(Range="bytes=10-", If_Range='"another"') == (200, None, body)
    assert get(Range=f"bytes={size}-") == (416, f"bytes */{size}", b"")
    assert get(If_None_Match=tag)[0] == 304
    assert requests.head(url, timeout=20).headers["Content-Length"] == str(size)


@pytest.mark.parametrize("path", ["dr12/nothing", "..%2fcatalog.duckdb", "%2e%2e/catalog.duckdb", "dr12"])
def test_what_is_no_frame_is_not_there(server, path):
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as raw:
        raw.sendall(f"GET /sas/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 404")
