"""Runs of their own process: killed at any moment, on a full disk, and without a credential in any file."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
from tests.conftest import skip
from tests.fixtures.casjobs_client import PAGE, SECRETS, ask, counts, jobs, kept, refusal, settings
from tests.services.server import casjobs as service

from sdss_photoz.archive import sciserver

RUN = """
import os, signal, sys
from sdss_photoz import files
from sdss_photoz.archive import casjobs, http, mydb, sciserver
from sdss_photoz.archive.account import Account
from sdss_photoz.archive.query import build_query
from sdss_photoz.config import Archive
from sdss_photoz.errors import UserError
from sdss_photoz.progress import messages_on_stderr
mydb.PAGE_ROWS, casjobs.SEARCH_ATTEMPTS = {page}, 4
http._backoff = lambda state: 0.01
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
  with messages_on_stderr():
    casjobs.run_query(build_query("fields"), Archive(**{settings!r}), {folder!r})
except UserError as error:
    sys.exit(str(error))
"""


def run(server, folder, code="", wait=True, **changes):
    """The same query in a process of its own, with `code` before it."""
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
        "keep = casjobs._Batch._save\ncasjobs._Batch._save = then(keep, lambda *_, **new: 'number' in new and kill())",
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
    process, output, _ = run(server, tmp_path, code)
    assert process.returncode == -signal.SIGKILL, output
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
    process, output, _ = run(server, tmp_path)
    assert process.returncode == (1 if len(faults) == 1 else 0), output
    assert tokens
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] + [output.encode()]
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
