"""The whole chain over HTTP, through each door, with every fault of the services, gives what the direct run gives."""

import os
import signal
import subprocess
import time
from collections import Counter

import pandas as pd
import pytest
import yaml
from tests.fixtures.workflow import Workflow
from tests.services.server import ACCOUNT, Faults, Limits, Server

ANY = ["403", "429", "500", "502", "503", "html", "hang", "reset", "truncated"]  # of a call of any kind
FRAMES = ["frame:flipped", "frame:404"]
JOBS = {"casjobs": ["expired=0.05", "failed@1", "stuck@3", "gone@4"], "skyserver": []}  # a run has few jobs
LIMITS = Limits(rows=150, queries_per_minute=600, seconds=60)
CONNECTIONS = 4
SAME = [  # of a run: what must not depend on how the archive was reached
    "archive/galaxies.parquet",
    "archive/fields.parquet",
    "sample/galaxies.parquet",
    *(f"cubes.zarr/flux/c/{chunk}/0/0/0" for chunk in range(2)),
    *(f"cubes.zarr/depth/c/{chunk}/0" for chunk in range(2)),
]


def remote(tiny, tmp_path, server, door, **settings) -> Workflow:
    """The tiny run through a server, in an empty directory."""
    config = yaml.safe_load(tiny.configfile.read_text())
    config["archive"] = {
        "service": door,
        **server.settings(),
        "connections": 2,
        "queries_per_minute": LIMITS.queries_per_minute,
        "poll_seconds": 0.1,
        "query_hours": 5 / 3600,
        "timeout_seconds": 1.0,
        "patience_minutes": 2.0,
        **settings,
    }
    path = tmp_path / "remote.yaml"
    path.write_text(yaml.safe_dump(config))
    return Workflow(tmp_path / "work", path)


@pytest.fixture
def account(monkeypatch):
    """The account of the server, where a user has his own."""
    monkeypatch.setenv("SCISERVER_USER", ACCOUNT[0])
    monkeypatch.setenv("SCISERVER_PASSWORD", ACCOUNT[1])
    monkeypatch.delenv("SCISERVER_TOKEN", raising=False)


def assert_same_results(found: Workflow, expected: Workflow):
    for name in SAME:
        assert (found.results / name).read_bytes() == (expected.results / name).read_bytes(), name


def manifest(workflow, chunk):
    """Frames of a chunk; without their digests, for that of a frame that came with flipped bytes is of those."""
    return pd.read_parquet(workflow.results / "archive" / "frames" / f"chunk-{chunk}.parquet").drop(columns="sha256")


def busiest_minute(requests, kinds):
    """The largest number of requests of some kinds within any sixty seconds."""
    times = sorted(request.time for request in requests if request.kind in kinds)
    return max(sum(start <= other < start + 60 for other in times) for start in times)


@pytest.mark.slow
@pytest.mark.parametrize("door", ["casjobs", "skyserver"])
def test_a_run_through_every_fault_ends_with_the_galaxies_and_cubes_of_the_direct_run(tiny, tmp_path, account, door):
    faults = Faults.parse([*(f"{name}=0.05" for name in (*ANY, *FRAMES)), *JOBS[door]])
    with Server(tiny.results / "archive", limits=LIMITS, faults=faults) as server:
        workflow = remote(tiny, tmp_path, server, door)
        resources = ("--resources", f"archive_connections={CONNECTIONS}")
        done = workflow.run("--cores", "2", "--until", "make_cubes", "--retries", "4", *resources)
        assert done.returncode == 0, done.stdout + done.stderr
        assert_same_results(workflow, tiny)
        for chunk in range(2):
            pd.testing.assert_frame_equal(manifest(workflow, chunk), manifest(tiny, chunk))
        happened = {name for request in server.requests for name in request.fault.split()}
        expected = {name.split(":")[-1].split("=")[0].split("@")[0] for name in (*ANY, *FRAMES, *JOBS[door])}
        assert happened == expected
        assert ACCOUNT[1] not in done.stdout + done.stderr
        assert "asked again in" in done.stdout + done.stderr
        assert max(request.connections for request in server.requests if request.kind == "frame") <= CONNECTIONS
        assert busiest_minute(server.requests, {"sql"} if door == "skyserver" else {"mydb"}) <= 600


def killed(workflow, when):
    """Start a run, kill all of its processes with -9 as soon as `when()` holds, and unlock the directory."""
    words = workflow.command("--cores", "2", "--until", "make_cubes")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    while not when() and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, process.stdout.read().decode()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    workflow.run("--unlock", check=True)


def test_a_run_killed_in_mid_query_and_in_mid_download_asks_for_nothing_twice(tiny, tmp_path, account):
    hanging = Faults.parse(["frame:hang@7,8,9,10"])
    with Server(tiny.results / "archive", limits=LIMITS, faults=hanging, job_seconds=3) as server:
        workflow = remote(tiny, tmp_path, server, "casjobs", query_hours=0.1, timeout_seconds=10.0)

        def count(kind):
            return sum(request.kind == kind and request.status in (200, 206) for request in server.requests)

        killed(workflow, lambda: count("submit") == 2)
        killed(workflow, lambda: count("frame") >= 6)
        whole = {path.name for path in (workflow.results / "archive" / "sas").rglob("frame-*.bz2")}
        assert whole
        before = len(server.requests)
        workflow.run("--cores", "2", "--until", "make_cubes", check=True)
        assert count("submit") == 2
        again = {request.path.rsplit("/", 1)[-1] for request in server.requests[before:] if request.kind == "frame"}
        assert not whole & again
        assert_same_results(workflow, tiny)
        times = Counter(request.path for request in server.requests if request.kind == "frame" and request.status)
        assert max(times.values()) <= 2  # those that were on their way at the second kill


def test_while_frames_are_kept_no_rule_but_query_and_download_touches_the_network(tiny, tmp_path, account):
    with Server(tiny.results / "archive", limits=LIMITS) as server:
        workflow = remote(tiny, tmp_path, server, "skyserver")
        workflow.run("--cores", "2", "--until", "download_frames", check=True)
        asked = len(server.requests)
        workflow.run("--cores", "2", "--until", "make_cubes", check=True)  # the server still counts
        assert len(server.requests) == asked > 0
    assert_same_results(workflow, tiny)


def test_frames_that_are_not_kept_give_the_same_cubes(tiny, tmp_path, account):
    with Server(tiny.results / "archive", limits=LIMITS) as server:
        workflow = remote(tiny, tmp_path, server, "skyserver")
        config = yaml.safe_load(workflow.configfile.read_text()) | {"frames": {"keep": False, "scratch_gb": 0.2}}
        workflow.configfile.write_text(yaml.safe_dump(config))
        workflow.run("--cores", "2", "--until", "make_cubes", check=True)
    for name in SAME:
        if "frames" not in name:
            assert (workflow.results / name).read_bytes() == (tiny.results / name).read_bytes(), name
    assert not list(workflow.results.rglob("frame-*.bz2"))


def test_a_missing_account_is_one_sentence_before_anything_is_asked(tiny, tmp_path, monkeypatch):
    for name in ("SCISERVER_USER", "SCISERVER_PASSWORD", "SCISERVER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with Server(tiny.results / "archive", limits=LIMITS) as server:
        done = remote(tiny, tmp_path, server, "casjobs").run("--cores", "1", "--until", "query_galaxies")
        assert server.requests == []
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("query_galaxies: ")]
    assert done.returncode != 0
    assert "SCISERVER_USER" in said[0]
    assert "Traceback" not in done.stdout + done.stderr.split("Error in rule")[0]


def test_columns_of_the_galaxies_have_one_type_through_any_door(tiny):
    galaxies = pd.read_parquet(tiny.results / "archive" / "galaxies.parquet")
    assert set(galaxies.dtypes.astype(str)) == {"int64", "float64", "str"}
