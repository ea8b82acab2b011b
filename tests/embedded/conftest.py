"""A catalogue of a small synthetic sky, written once."""

import pytest
from tests.embedded import synthetic_sky

from sdss_photoz.embedded.database import write_catalog


@pytest.fixture(scope="session")
def sky():
    """Fields and objects."""
    fields = synthetic_sky.make_fields(4)
    return fields, synthetic_sky.make_objects(fields, 200)


@pytest.fixture(scope="session")
def catalog(sky, tmp_path_factory):
    """The written catalogue."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.duckdb"
    write_catalog(path, *sky, seed=1)
    return path
