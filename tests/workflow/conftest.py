"""The tiny run, made once for all tests of the workflow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]


class Workflow:
    """Snakemake as a user types it, in a working directory of its own."""

    def __init__(self, directory: Path, configfile: Path = ROOT / "tests" / "tiny.yaml"):
        self.directory, self.configfile = directory, configfile
        self.results = directory / "results" / "tiny"

    def command(self, *arguments, config=()):
        words = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", self.directory]
        words += ["--configfile", self.configfile, *arguments]
        return [str(word) for word in (*words, *(["--config", *config] if config else []))]

    def run(self, *arguments, config=(), timeout=3600, check=False):
        done = subprocess.run(
            ["timeout", "-s", "INT", str(timeout), *self.command(*arguments, config=config)],
            capture_output=True,
            text=True,
            env={**os.environ, "NO_COLOR": "1"},
        )
        if check and done.returncode:
            pytest.fail(f"snakemake {' '.join(map(str, arguments))} failed:\n{done.stdout}\n{done.stderr}")
        return done

    def copy(self, directory: Path) -> "Workflow":
        """The same run in another place, with what Snakemake knows of it."""
        shutil.copytree(self.directory, directory)
        return Workflow(directory, self.configfile)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, worker_id, pytestconfig) -> Workflow:
    """The finished tiny run, made once for all workers; tests that run it again or change files take a copy."""
    if made := pytestconfig.getoption("--tiny-run"):
        return Workflow(made)
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent
    with FileLock(folder / "tiny.lock"):
        workflow = Workflow(folder / "tiny")
        if not (folder / "tiny.made").exists():
            workflow.run("--cores", "2", check=True)
            (folder / "tiny.made").touch()
    return workflow


@pytest.fixture
def another(tmp_path) -> Workflow:
    """A workflow in an empty directory."""
    return Workflow(tmp_path / "work")
