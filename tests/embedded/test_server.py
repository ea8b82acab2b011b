"""The embedded archive behind HTTP gives the replies that the services gave, to clients that nobody here wrote."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import requests
import yaml
from astropy.io import fits

from sdss_photoz import cli
from sdss_photoz.config import check
from sdss_photoz.embedded import answer, tsql
from sdss_photoz.embedded.server import ACCOUNT, Faults, Limits, Server
from sdss_photoz.embedded.server import casjobs as casjobs_service
from sdss_photoz.errors import UserError
from sdss_photoz.survey import FRAME_FOLDERS

SEARCH = "/dr12/en/tools/search/x_results.aspx"
EVERY_TYPE = (
    "SELECT p.objID, p.camcol, p.run, p.ra, p.petroMag_r, s.class, s.z, n.neighborObjID FROM PhotoObjAll p "
    "JOIN SpecObjAll s ON s.bestObjID = p.objID LEFT JOIN Neighbors n ON n.objID = p.objID {} "
    "ORDER BY p.objID, s.specObjID, n.neighborObjID"
)
ENDLESS = "FROM {0} a, {0} b, {0} c, {0} d WHERE a.ra < b.ra + c.ra * d.ra"


@pytest.fixture
def server(archive_folder):
    with Server(archive_folder) as server:
        yield server


@pytest.fixture
def casjobs(server):
    return Client(server)


class Client:
    """A bare client of CasJobs."""

    def __init__(self, server, context="DR12"):
        self.url, self.context = server.casjobs, context
        self.headers = {"X-Auth-Token": server.give_token()}

    def call(self, method, path, sql=None, accept="text/plain", task="test"):
        body = None if sql is None else {"Query": sql, "TaskName": task}
        headers = self.headers | {"Accept": accept}
        return requests.request(method, f"{self.url}/{path}", json=body, headers=headers, timeout=20)

    def submit(self, sql, **options):
        return int(self.call("PUT", f"contexts/{self.context}/jobs", sql, **options).text)

    def job(self, number):
        return self.call("GET", f"jobs/{number}").json()

    def wait(self, number):
        while (job := self.job(number))["Status"] < 3:
            time.sleep(0.02)
        return job

    def mydb(self, sql, accept="text/plain"):
        return self.call("POST", "contexts/MyDB/query", sql, accept)


@pytest.fixture(scope="module")
def recorded(shared_data):
    return json.loads((shared_data / "services" / "casjobs-recorded-responses.json").read_text())


def search(server, sql, kind="csv"):
    return requests.get(server.skyserver + SEARCH, params={"cmd": sql, "format": kind}, timeout=20)


# What was recorded of the services


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


# Clients that nobody here wrote


@pytest.fixture
def sdss(server, tmp_path):
    from astroquery.sdss import SDSS, conf

    with (
        conf.set_temp("skyserver_baseurl", server.skyserver),
        conf.set_temp("sas_baseurl", server.sas),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(SDSS, "cache_location", tmp_path)  # it caches the tables' columns in any case
        yield SDSS


def test_astroquery_asks_sql(sdss, catalog):
    table = sdss.query_sql(
        "SELECT TOP 5 objid, ra -- places\nFROM PhotoObjAll ORDER BY objid", data_release=12, cache=False
    )
    expected = tsql.run(catalog, "SELECT TOP 5 objid, ra FROM PhotoObjAll ORDER BY objid")
    assert table.colnames == ["objid", "ra"]
    assert list(table["objid"]) == list(expected.objid)
    assert np.allclose(table["ra"], expected.ra, rtol=1e-14)


def test_astroquery_is_told_of_an_unknown_column(sdss):
    from astroquery.exceptions import RemoteServiceError

    with pytest.raises(RemoteServiceError, match="Invalid column name 'petroMag_x'"):
        sdss.query_sql("SELECT petroMag_x FROM PhotoObjAll", data_release=12, cache=False)


def test_astroquery_finds_the_objects_of_a_field(sdss, frame, catalog):
    place = frame._asdict()
    del place["band"]
    table = sdss.query_photoobj(**place, data_release=12, cache=False)
    count = "SELECT COUNT(*) AS n FROM PhotoObjAll WHERE run = {run} AND camcol = {camcol} AND field = {field}"
    assert len(table) == tsql.run(catalog, count.format(**place)).n[0] > 100
    assert table.colnames == ["ra", "dec", "objid", "run", "rerun", "camcol", "field"]
    chosen = sdss.query_photoobj(**place, fields=["petroMag_r", "type"], data_release=12, cache=False)
    assert chosen.colnames == ["petroMag_r", "type"]


def test_astroquery_fetches_the_image_of_a_field(sdss, frame, archive_folder):
    place = frame._asdict()
    images = sdss.get_images(**place, data_release=12, cache=False, show_progress=False)
    assert len(images) == 1
    assert (images[0][0].data == fits.getdata(archive_folder / "sas" / frame.path())).all()


def test_astroquery_finds_objects_by_their_place(sdss, catalog):
    from astropy import units
    from astropy.coordinates import SkyCoord

    two = tsql.run(catalog, "SELECT TOP 2 objID, ra, dec, field FROM PhotoObjAll ORDER BY objID")
    places = SkyCoord(two.ra, two.dec, unit="deg")
    options = {"fields": ["objID", "run", "field"], "data_release": 12, "cache": False}
    assert list(sdss.query_crossid(places, **options)["objID"]) == list(two.objID)
    near = sdss.query_region(places, radius=30 * units.arcsec, **options)
    around = "SELECT COUNT(*) AS n FROM Neighbors n WHERE n.objID IN ({}, {}) AND n.distance <= 0.5"
    assert len(near) == 2 + tsql.run(catalog, around.format(*two.objID)).n[0]
    box = sdss.query_region(places[:1], width=1 * units.arcmin, **options)
    assert two.objID[0] in box["objID"]


@pytest.mark.parametrize(
    "form",
    [
        {"upload": "", "radius": "1"},
        {"upload": "ra dec\n1 2"},
        {"upload": "ra dec\n1 2", "radius": "wide"},
        {"upload": "ra dec\n1 nan", "radius": "1"},
        {"upload": "ra\n1", "radius": "1"},
        {"radius": "1"},
    ],
)
def test_a_list_of_places_that_cannot_be_read_is_refused(server, form):
    form = {"uquery": "SELECT up_ra FROM #upload", "format": "csv", **form}
    reply = requests.post(server.skyserver + SEARCH, form, timeout=20)
    assert reply.status_code == 200
    assert "error_message" in reply.text


@pytest.mark.parametrize("release", sorted(set(FRAME_FOLDERS) & set(range(12, 19))))
def test_frames_lie_where_astroquery_looks_for_them_in_every_release(release, frame):
    from astroquery.sdss import SDSS

    instrument = {12: "boss", 18: "prior-surveys/sdss4-dr17-eboss"}.get(release, "eboss")
    url = SDSS.IMAGING_URL_SUFFIX.format(base="", dr=release, instrument=instrument, rerun=301, **frame._asdict())
    assert url == "/" + frame.path(release)


# CasJobs


def test_digits_are_the_same_through_every_door(server, casjobs, catalog):
    direct = answer.to_csv(tsql.run(catalog, EVERY_TYPE.format("")))
    assert "null" in direct
    assert search(server, EVERY_TYPE.format("")).text == "#Table1\n" + direct
    job = casjobs.wait(casjobs.submit(EVERY_TYPE.format("").replace("FROM", "INTO mydb.every_type FROM", 1)))
    assert job["Rows"] == direct.count("\n") - 1
    order = "ORDER BY objID, z, neighborObjID"
    columns = direct.split("\n")[0]
    paged = casjobs.mydb(f"SELECT {columns} FROM mydb.every_type {order}").text
    assert sorted(paged.splitlines()) == sorted(direct.splitlines())
    (result,) = casjobs.mydb(f"SELECT {columns} FROM every_type {order}", "application/json+array").json()["Result"]
    assert result["Columns"] == columns.split(",")
    texts = ["null" if value is None else f"{value}" for value in np.array(result["Data"], dtype=object)[:, 0]]
    assert texts == [line.split(",")[0] for line in paged.splitlines()[1:]]
    assert [row[6] for row in result["Data"]] == [float(line.split(",")[6]) for line in paged.splitlines()[1:]]


def test_a_job_waits_runs_and_ends(archive_folder):
    for seconds in (0.4, 4, 40):  # longer where the machine is too busy to look in each half of it
        with Server(archive_folder, job_seconds=seconds) as server:
            client = Client(server)
            number = client.submit("SELECT objID INTO mydb.ids FROM PhotoObjAll")
            seen = [client.job(number)["Status"]]
            while seen[-1] < 3:
                seen.append(client.job(number)["Status"])
        assert seen == sorted(seen)
        if set(seen) == {0, 1, 5}:
            return
    pytest.fail(f"of a job that waits, runs and ends only {seen} was seen")


def test_pages_of_a_table_of_mydb(casjobs):
    casjobs.wait(casjobs.submit("SELECT objID, ra INTO mydb.ids FROM PhotoObjAll"))
    whole = casjobs.mydb("SELECT objID FROM mydb.ids ORDER BY objID").text.split()[1:]
    first = casjobs.mydb("SELECT TOP 7 objID FROM mydb.ids ORDER BY objID").text.split()[1:]
    after = casjobs.mydb(f"SELECT TOP 7 objID FROM MyDB.dbo.ids WHERE objID > {first[-1]} ORDER BY objID").text.split()
    fetched = casjobs.mydb("SELECT objID FROM ids ORDER BY objID OFFSET 14 ROWS FETCH NEXT 7 ROWS ONLY").text.split()
    assert [*first, *after[1:], *fetched[1:]] == whole[:21]
    assert casjobs.mydb("SELECT COUNT(*) FROM mydb.ids").text.split() == ["Column1", str(len(whole))]


def test_a_table_that_exists_is_not_made_again(casjobs):
    sql = "SELECT 1 AS a INTO mydb.once"
    assert casjobs.wait(casjobs.submit(sql))["Status"] == 5
    again = casjobs.wait(casjobs.submit(sql))
    assert again["Status"] == 4
    assert again["Message"] == "There is already an object named 'once' in the database."


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT objID,\n  petroMag_x\nINTO mydb.a FROM PhotoObjAll", "Line 2: Invalid column name 'petroMag_x'."),
        ("SELECT p.objID\nINTO mydb.a\nFROM PhotoObjAll p WHERE p.nope = 1", "Line 3: Invalid column name 'nope'."),
        ("SELECT objID -- Galaxie\nINTO mydb.a\nFROM Galaxie", "Line 3: Invalid object name 'Galaxie'."),
        ("SELECT q.objID INTO mydb.a FROM PhotoObjAll p", 'Line 1: The multi-part identifier "q" could not be bound.'),
        ("SELECT objID INTO mydb.a\nFRM PhotoObjAll", "Line 2: Incorrect syntax near 'FRM'."),
        ("SELECT 1 / (objID - objID) AS a INTO mydb.a FROM PhotoObjAll", "Line 1: Divide by zero error encountered."),
    ],
)
def test_a_job_that_cannot_be_understood_fails_with_the_servers_message(casjobs, sql, message):
    job = casjobs.wait(casjobs.submit(sql))
    assert job["Status"] == 4
    assert job["Message"].endswith(message)
    assert job["Rows"] is None
    assert casjobs.call("GET", "contexts/MyDB/Tables").json() == []


@pytest.mark.parametrize(("context", "wait_for"), [("DR12", 0), ("DR12", 1), ("MyDB", 1)])
def test_a_job_is_cancelled_in_the_queue_and_in_mid_run(archive_folder, context, wait_for):
    with Server(archive_folder, job_seconds=0 if wait_for else 60) as server:
        client, table = Client(server), "PhotoObjAll"
        if context == "MyDB":
            client.wait(client.submit("SELECT ra INTO mydb.places FROM PhotoObjAll"))
            client.context, table = context, "places"
        number = client.submit(f"SELECT COUNT(*) AS n INTO mydb.a {ENDLESS.format(table)}")
        while client.job(number)["Status"] != wait_for:
            time.sleep(0.01)
        assert client.call("DELETE", f"jobs/{number}").json()["Status"] in (2, 3)
        assert client.wait(number)["Status"] == 3


def test_jobs_are_listed_the_latest_first(casjobs):
    numbers = [casjobs.submit(f"SELECT 1 AS a INTO mydb.t{i}", task=f"task {i}") for i in range(3)]
    listed = casjobs.call("GET", "jobs").json()
    assert [job["JobID"] for job in listed] == numbers[::-1]
    assert [job["TaskName"] for job in listed] == ["task 2", "task 1", "task 0"]
    assert [casjobs.call("GET", f"jobs/{number}").status_code for number in ("17", "²", "x")] == [404, 404, 404]


def test_queries_without_into_make_tables_with_the_names_of_the_service(casjobs, recorded):
    jobs = [casjobs.submit("SELECT 4 AS Column1") for _ in range(3)]
    names = {casjobs.wait(number)["Created_Table"] for number in jobs}
    theirs = [table["Name"] for table in recorded["GET contexts/MyDB/Tables"][:2]]
    assert names == {*theirs, "MyTable_1"}


def log_in(server, name, password):
    user = {"auth": {"identity": {"password": {"user": {"name": name, "password": password}}}}}
    return requests.post(server.login, json=user, timeout=20)


def test_calls_need_a_token_and_tokens_need_the_account(archive_folder, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(casjobs_service, "time", SimpleNamespace(time=time.time, monotonic=lambda: now[0]))
    with Server(archive_folder, token_seconds=300) as server:
        assert log_in(server, ACCOUNT[0], "wrong").status_code == 401
        given = log_in(server, *ACCOUNT)
        assert given.status_code == 200
        tables = server.casjobs + "/contexts/MyDB/Tables"
        headers = {"X-Auth-Token": given.headers["X-Subject-Token"]}
        assert requests.get(tables, timeout=20).status_code == 401
        now[0] = 299
        assert requests.get(tables, headers=headers, timeout=20).status_code == 200
        now[0] = 301
        assert requests.get(tables, headers=headers, timeout=20).status_code == 401


# Limits


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


# Frames


@pytest.fixture
def body(archive_folder, frame):
    return (archive_folder / "sas" / frame.path()).read_bytes()


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


# The server itself


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


def test_the_command_serves_until_it_is_stopped(archive_folder, frame, tmp_path):
    command = [
        sys.executable,
        "-m",
        "sdss_photoz.cli",
        "serve",
        str(archive_folder),
        "--log",
        str(tmp_path / "log.csv"),
    ]
    process = subprocess.Popen([*command, "--fault", "404@2", "--rows", "2"], stdout=subprocess.PIPE, text=True)
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
        cli.main(["serve", str(archive_folder), *words])
    assert f"{words[1]} is below" in capsys.readouterr().err
