"""The chain from the archive to the report, as Snakemake runs it."""

import time

import duckdb
import pandas as pd
import pytest


def tracked(workflow):
    """Every output that Snakemake tracks, by path below the run's folder."""
    listing = workflow.run(
        "--list-changes", "code", "--cores", "1"
    )  # reads all metadata; fails where a file is missing
    assert listing.returncode == 0, listing.stderr
    skipped = ("logs", "benchmarks", "sas")
    return sorted(
        path.relative_to(workflow.results)
        for path in workflow.results.rglob("*")
        if path.is_file()
        and not any(part in skipped or part.startswith(".") for part in path.relative_to(workflow.results).parts)
    )


def assert_same_tables(one, two):
    """Two DuckDB files hold the same rows in the same order."""
    with duckdb.connect(str(one), read_only=True) as first, duckdb.connect(str(two), read_only=True) as second:
        names = first.sql("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall()
        assert names == second.sql("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall()
        for (name,) in names:
            pd.testing.assert_frame_equal(first.table(name).df(), second.table(name).df())


def assert_same_results(one, two):
    """Two runs hold the same bytes in every tracked output."""
    names = tracked(one)
    assert names == tracked(two)
    assert len(names) > 20
    for name in names:
        if name.suffix == ".duckdb":
            assert_same_tables(one.results / name, two.results / name)
        else:
            assert (one.results / name).read_bytes() == (two.results / name).read_bytes(), name


def test_the_tiny_run_ends_in_a_report(tiny):
    assert (tiny.results / "report" / "index.html").stat().st_size > 100_000


def test_a_rerun_finds_nothing_to_do(tiny, tmp_path):
    workflow, start = tiny.copy(tmp_path / "work"), time.monotonic()
    done = workflow.run("--cores", "2", check=True)
    assert "Nothing to be done" in done.stdout + done.stderr
    print(f"a rerun with nothing to do took {time.monotonic() - start:.1f} s")


def test_snakemake_lints_without_complaint(tiny):
    done = tiny.run("--lint")
    assert done.returncode == 0, done.stderr


def test_snakemakes_own_report_is_written(tiny, tmp_path):
    tiny.run("--report", str(tmp_path / "report.html"), check=True)
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_one_core_and_two_give_the_same_bytes_in_every_tracked_output(tiny, another):
    another.run("--cores", "1", check=True)
    assert_same_results(tiny, another)


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_same_bytes(tiny, another):
    import os
    import signal
    import subprocess

    for log in ("logs/make_cubes/chunk-0.log", "logs/train_member/images-0-0.log"):
        process = subprocess.Popen(
            another.command("--cores", "2"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not (another.results / log).exists() or not (another.results / log).read_text():  # it has begun
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        another.run("--unlock", check=True)
    another.run("--cores", "2", check=True)
    assert_same_results(tiny, another)
