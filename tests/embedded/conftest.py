"""A catalogue of a small synthetic sky, written once."""

import importlib.util
from pathlib import Path

import pytest

from sdss_photoz.embedded.database import write_catalog


@pytest.fixture(scope="session")
def synthetic_sky():
    """The module of that name: makes tables of fields and objects."""
    path = Path(__file__).with_name("synthetic_sky.py")
    spec = importlib.util.spec_from_file_location("synthetic_sky", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sky(synthetic_sky):
    """Fields and objects."""
    fields = synthetic_sky.make_fields(4)
    return fields, synthetic_sky.make_objects(fields, 200)


@pytest.fixture(scope="session")
def catalog(sky, tmp_path_factory):
    """The written catalogue."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.duckdb"
    write_catalog(path, *sky, seed=1)
    return path
