"""Killed queries, full disks, and the rate of requests of several processes."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from tests.conftest import skip
from tests.fixtures.skyserver_client import HERE, PLENTY, asked, whole
from tests.services.server import Faults, Server

from sdss_photoz.archive import skyserver
from sdss_photoz.archive.query import build_query
from sdss_photoz.errors import UserError


def another_process(name, address, per_minute, folder):
    """A process that asks for what lies in HERE."""
    script = f"""
from sdss_photoz.archive import skyserver
from sdss_photoz.archive.query import build_query
from sdss_photoz.config import Archive, Region

archive = Archive(service="skyserver", skyserver={address!r}, queries_per_minute={per_minute})
skyserver.run_query(build_query({name!r}, Region(ra={HERE.ra}, dec={HERE.dec})), archive, {str(folder)!r})
"""
    return subprocess.Popen([sys.executable, "-c", script], start_new_session=True)


def test_a_killed_query_asks_no_finished_part_again(catalog, straight, settings, tmp_path):
    query = build_query("galaxies", HERE)
    with Server(catalog.parent, limits=PLENTY, faults=Faults.parse(["hang@3"])) as server:
        child = another_process("galaxies", server.url, 60_000.0, tmp_path)
        try:
            while len(asked(server)) < 3 and child.poll() is None:
                time.sleep(0.02)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        assert len(asked(server)) == 3
        pd.testing.assert_frame_equal(whole(query, settings(server.url), tmp_path), straight(query))
        assert len(asked(server)) == 3 + 2  # four answers are needed, of which two were there
        whole(query, settings(server.url), tmp_path)
        assert len(asked(server)) == 5


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(catalog, straight, settings, tmp_path):
    query = build_query("galaxies", HERE)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        skip("a small file system cannot be mounted here")
    try:
        with Server(catalog.parent, limits=PLENTY) as server:
            with pytest.raises(UserError, match=r"^the disk of .* is full: make room and run again") as refusal:
                skyserver.run_query(query, settings(server.url), tmp_path)
            assert "\n" not in str(refusal.value)
            kept = sorted(path.name for path in tmp_path.glob("queries/galaxies-*/*"))
            assert kept
            assert all(name.endswith(".parquet") for name in kept)
            subprocess.run(["mount", "-o", "remount,size=4m", str(tmp_path)], check=True)
            before = len(asked(server))
            pd.testing.assert_frame_equal(whole(query, settings(server.url), tmp_path), straight(query))
            assert len(asked(server)) == before + 4 - len(kept)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_requests_are_never_sent_faster_than_the_pace(catalog, settings, tmp_path):
    """Also after a fault, and when a second query is asked at the same time by another process."""
    with Server(catalog.parent, limits=PLENTY, faults=Faults.parse(["500@2"])) as server:
        with another_process("fields", server.url, 60.0, tmp_path) as child:
            skyserver.run_query(build_query("galaxies", HERE), settings(server.url, queries_per_minute=60.0), tmp_path)
            assert child.wait() == 0
        times = sorted(request.time for request in asked(server))
    assert len(times) == 4 + 2 + 1
    # on a busy machine some are longer on their way; without a common pace all seven would come within 4 s
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.1
    assert times[-1] - times[0] > len(times) - 2
