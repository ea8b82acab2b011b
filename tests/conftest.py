"""What the tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
