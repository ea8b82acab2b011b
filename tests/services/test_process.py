"""The stand-in as a process: addresses, records, the command line."""

import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pandas as pd
import pytest
import requests
import yaml
from tests.services.__main__ import parse
from tests.services.client import SEARCH, search
from tests.services.server import Faults, Server

from sdss_photoz.config import check
from sdss_photoz.errors import UserError


def test_only_this_machine_can_reach_the_server(server):
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_requests_are_on_record_with_connections_at_once(archive_folder, frame, body, tmp_path):
    with Server(archive_folder, faults=Faults.parse(["frame:hang@1,2"]), log=tmp_path / "log.csv") as server:
        url = f"{server.sas}/{frame.path()}"
        with ExitStack() as hung:
            for _ in range(2):
                raw = hung.enter_context(socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))))
                raw.sendall(f"GET /sas/{frame.path()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while len(server.requests) < 2:
                time.sleep(0.01)
            requests.get(url, timeout=20)
        while server._log._under_way["frame"]:  # until it sees that they are gone
            time.sleep(0.01)
        requests.get(url, timeout=20)
        assert [(r.kind, r.status, r.connections, r.fault) for r in server.requests] == [
            ("frame", 0, 1, "hang"),
            ("frame", 0, 2, "hang"),
            ("frame", 200, 3, ""),
            ("frame", 200, 1, ""),
        ]
        assert server.requests[2].bytes == len(body)
        assert server.requests[2].path == "/sas/" + frame.path()
    table = pd.read_csv(tmp_path / "log.csv")
    assert list(table.columns) == ["time", "kind", "method", "path", "status", "bytes", "connections", "fault"]
    assert sorted(table.connections) == [1, 1, 2, 3]


def test_the_command_serves_until_it_is_stopped(archive_folder, frame, tmp_path, root):
    words = [sys.executable, "-m", "tests.services", archive_folder, "--log", tmp_path / "log.csv"]
    words = [*map(str, words), "--fault", "404@2", "--rows", "2"]
    process = subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        printed = yaml.safe_load("".join(process.stdout.readline() for _ in range(9)))
        assert printed["run"] == "served"  # another folder of results than the one that is served
        settings = check(printed).archive
        assert settings.service == "casjobs"
        assert requests.get(f"{settings.sas}/{frame.path()}", timeout=20).status_code == 200
        assert requests.get(f"{settings.sas}/{frame.path()}", timeout=20).status_code == 404
        cut = requests.get(settings.skyserver + SEARCH, {"cmd": "SELECT run FROM Field", "format": "csv"}, timeout=20)
        assert len(cut.text.splitlines()) == 4
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert list(pd.read_csv(tmp_path / "log.csv", dtype=str).fault.fillna("")) == ["", "404", ""]


def test_a_folder_without_a_catalogue_a_log_and_a_port_that_cannot_be_had_are_named(server, archive_folder, tmp_path):
    with pytest.raises(UserError, match=r"catalog\.duckdb"):
        Server(tmp_path)
    (tmp_path / "catalog.duckdb").write_text("not a database")
    with pytest.raises(UserError, match=r"catalog\.duckdb cannot be opened"):
        Server(tmp_path)
    with pytest.raises(UserError, match=r"log\.csv cannot be written"):
        Server(archive_folder, log=tmp_path / "missing" / "log.csv")
    port = int(server.url.rsplit(":", 1)[1])
    for taken_or_none in (port, 70000):
        with pytest.raises(UserError, match=f"{taken_or_none}: .*[a-z0-9][.]$"):
            Server(archive_folder, port=taken_or_none).start()


def test_the_address_of_a_host_with_colons_can_be_used(archive_folder):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with Server(archive_folder, host="::1") as server:
        assert search(server, "SELECT 1 AS a").text == "#Table1\na\n1\n"


@pytest.mark.parametrize("words", [["--rows", "-1"], ["--queries-per-minute", "0"], ["--seconds", "nan"]])
def test_limits_that_cannot_be_are_refused(words, archive_folder, capsys):
    with pytest.raises(SystemExit):
        parse([str(archive_folder), *words])
    assert f"{words[1]} is below" in capsys.readouterr().err
