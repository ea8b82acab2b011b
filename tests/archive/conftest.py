"""A catalogue of a small synthetic sky."""

import importlib.util
from pathlib import Path

import pytest

from sdss_photoz.embedded.database import write_catalog


@pytest.fixture(scope="session")
def catalog(tmp_path_factory):
    """The written catalogue."""
    path = Path(__file__).parents[1] / "embedded" / "synthetic_sky.py"
    spec = importlib.util.spec_from_file_location("synthetic_sky", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fields = module.make_fields(4)
    path = tmp_path_factory.mktemp("catalog") / "catalog.duckdb"
    write_catalog(path, fields, module.make_objects(fields, 200), seed=1)
    return path
