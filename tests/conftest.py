"""Fixtures, options and hooks that all tests share."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from sdss_photoz.progress import messages_on_stderr

ROOT = Path(__file__).resolve().parents[1]
pytest_plugins = [f"tests.fixtures.{name}" for name in ("frames", "catalog", "small_run", "workflow")]


@pytest.fixture(autouse=True)
def log_messages():
    """The package's log messages on stderr, as in scripts and commands."""
    with messages_on_stderr():
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real survey data, beside the checkout or where SDSS_PHOTOZ_DATA says."""
    folder = Path(os.environ.get("SDSS_PHOTOZ_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        skip(f"real survey data not found in {folder}: set SDSS_PHOTOZ_DATA to its folder")
    return folder


def skip(reason: str):
    """Skip a test for want of an outside program or data, unless skips are forbidden (SDSS_PHOTOZ_NO_SKIPS=1)."""
    if os.environ.get("SDSS_PHOTOZ_NO_SKIPS") == "1":
        pytest.fail(f"skips are forbidden here: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def need_program():
    """A function that skips the test where one of the named outside programs is missing."""
    import shutil

    def need(*names: str) -> None:
        for name in names:
            if shutil.which(name) is None:
                skip(f"{name} is not installed")

    return need


@pytest.fixture(scope="session")
def root() -> Path:
    """Root of the project."""
    return ROOT


def pytest_addoption(parser):
    parser.addoption("--write-golden", action="store_true", help="write tests/workflow/golden.json anew")
    parser.addoption("--tiny-run", type=Path, help="working directory of a finished tiny run, in place of making one")
    parser.addoption("--swarp-positions", type=int, default=8, help="positions on each frame that SWarp cuts out too")


# What was not run, and how it can be


class Oracle(NamedTuple):
    """Something outside the project that tests are skipped without."""

    reason: str  # pattern of the reasons that the tests give
    what: str
    how: str


ORACLES = (
    Oracle("SWarp is not", "SWarp, whose images the cubes are compared with", "apt install swarp"),
    Oracle(
        "(slurmctld|slurmd|sbatch|squeue|munged) is not|Slurm",
        "a Slurm cluster on this machine",
        "apt install slurm-wlm slurm-client slurm-wlm-basic-plugins munge; run as root, with no other Slurm running",
    ),
    Oracle(
        "real survey data",
        "real frames, catalogues and recorded replies of the survey's services",
        "set SDSS_PHOTOZ_DATA to a folder with README.md, sas/ (frames as on data.sdss.org), catalog/, services/ "
        "and oracles/",
    ),
    Oracle("root|mounted", "small disks and other users", "run as root, where file systems may be mounted"),
    Oracle("IPv6", "an address with colons", "a machine with IPv6"),
)


def missing_oracles(reasons: Iterable[str]) -> list[str]:
    """A line for each oracle that skipped tests want, and for each reason that is no oracle's, with its tests."""
    counts = Counter()
    for reason in reasons:
        found = next((oracle for oracle in ORACLES if re.search(oracle.reason, reason)), None)
        counts[(found.what, found.how) if found else (reason, "")] += 1
    return [
        f"{count} test{'s' * (count > 1)} skipped: {what}{': ' * bool(how)}{how}"
        for (what, how), count in counts.most_common()
    ]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter, config):
    """After all else, name what tests were not run and what they need."""
    yield
    reports = terminalreporter.stats.get("skipped", [])
    lines = missing_oracles(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    if config.args_source is config.ArgsSource.TESTPATHS:  # all tests were asked for
        if "not slow" in config.option.markexpr:
            lines.append('tests that take minutes, those on a Slurm cluster too, not selected: make test MARKERS=""')
        lines.append(
            "no test needs a GPU, a stand-in takes its place; on a GPU run python benchmarks/training.py --quick too"
        )
    if lines:
        terminalreporter.section("not run here", sep="=")
        terminalreporter.write("".join(f"{line}\n" for line in lines))
