"""What runs a finished job again: its settings, its inputs and its VERSION; not the time or the text of a script."""

import os
import shutil
import subprocess
import sys

import pytest
from tests.conftest import ROOT

PARTS = ("Snakefile", "config.yaml", "workflow", "src", "profiles", "slurm", "envs", "config", "tests/tiny.yaml")


def copy_project(folder):
    """The project's files, all of them as new as a clone's."""
    for name in PARTS:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, target, copy_function=shutil.copy, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


def snakemake(folder, *words):
    """Snakemake as a user types it in a checkout."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "tests/tiny.yaml", *words]
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(folder / "src")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def checkout(tiny, tmp_path_factory):
    """A checkout in which the tiny run is finished."""
    folder = tmp_path_factory.mktemp("checkout") / "here"
    copy_project(folder)
    for name in ("results", ".snakemake"):
        shutil.copytree(tiny.directory / name, folder / name)
    done = snakemake(folder, "--touch", "--forceall")  # records what the run reads by its place in the checkout
    assert done.returncode == 0, done.stderr
    return folder


def test_a_comment_a_new_clone_and_a_moved_folder_rerun_nothing(checkout, tmp_path):
    moved = tmp_path / "there"
    checkout.rename(moved)
    try:
        copy_project(moved)
        for path in sorted((moved / "workflow").rglob("*.*")):
            path.write_text(path.read_text() + "\n# a comment\n")
        done = snakemake(moved, "-n")
    finally:
        moved.rename(checkout)
        copy_project(checkout)
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout


def test_results_copied_without_snakemakes_records_are_refused_with_the_way_on(checkout, tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".snakemake"))
    refused = [snakemake(folder, "-n"), snakemake(folder, "-n", "results/tiny/training/images/fold-0/pdfs.parquet")]
    for done in refused:
        assert done.returncode == 1
        (sentence,) = [line for line in done.stderr.splitlines() if "no record" in line]
        assert "results/tiny/archive/catalog.duckdb" in sentence
        assert "--touch --forceall" in sentence
        assert "Traceback" not in done.stderr
    accepted = snakemake(folder, "--touch", "--forceall")
    assert accepted.returncode == 0, accepted.stderr
    assert "Nothing to be done" in snakemake(folder, "-n").stdout


def test_one_file_that_was_put_there_by_hand_is_refused_by_name(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "work")
    model = "results/tiny/training/images/fold-0/member-0.safetensors"
    workflow.run("--cleanup-metadata", model, check=True)
    done = workflow.run("-n")
    assert done.returncode == 1
    assert f"of how 1 of 40 files of results/tiny were made, for example {model}, so" in done.stderr
