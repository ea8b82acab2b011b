"""What a script says reaches the log and the terminal; a user's error is one sentence, a bug keeps its traceback."""

import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdss_photoz import files
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.stage import stage


@pytest.fixture
def job(tmp_path):
    return SimpleNamespace(rule="make_cubes", log=[str(tmp_path / "logs" / "job.log")])


def log_text(job, capsys):
    log = Path(job.log[0]).read_text(encoding="utf-8")
    assert capsys.readouterr().err == log
    return log


def test_messages_and_progress_are_lines_in_log_and_terminal(job, capsys):
    with stage(job):
        print("five galaxies", file=sys.stderr)
        for _ in progress(range(5), label="cubes", unit="galaxy"):
            pass
    log = log_text(job, capsys)
    assert log.startswith("five galaxies\ncubes:   0%")
    assert "5/5" in log
    assert "\r" not in log
    assert "\n\n" not in log


def test_lines_of_threads_stay_whole(job, capsys):
    """As those of fetches that are asked for again, several at a time."""
    with stage(job), ThreadPoolExecutor(8) as executor:
        for thread in range(8):
            executor.submit(lambda thread=thread: [print(f"{thread} {k}", file=sys.stderr) for k in range(300)])
    assert sorted(log_text(job, capsys).splitlines()) == sorted(
        f"{thread} {k}" for thread in range(8) for k in range(300)
    )


def test_a_user_error_is_one_sentence_and_status_1(job, capsys):
    with pytest.raises(SystemExit) as stopped, stage(job):
        raise UserError("frame r-1 is missing: fetch it.")
    assert stopped.value.code == 1
    assert log_text(job, capsys) == "make_cubes: frame r-1 is missing: fetch it.\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_full_or_closed_disk_is_one_sentence_that_names_the_file(job, capsys, tmp_path, number):
    with pytest.raises(SystemExit) as stopped, stage(job), files.whole(tmp_path / "table.parquet"):
        raise OSError(number, os.strerror(number))
    assert stopped.value.code == 1
    log = log_text(job, capsys)
    place = tmp_path / "table.parquet"
    assert log.startswith(f"make_cubes: {place} cannot be read or written ({os.strerror(number)}): free some space")
    assert log.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_bug_keeps_its_traceback(job, capsys):
    with pytest.raises(SystemExit), stage(job):
        raise ZeroDivisionError("a bug")
    assert "Traceback" in log_text(job, capsys)
