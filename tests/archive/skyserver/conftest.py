"""Configuration of a SkyServer on this machine, and results to compare with."""

import io

import pytest

from sdss_photoz.archive import services, skyserver
from sdss_photoz.archive.query import build_query, check_result
from sdss_photoz.config import Archive, Region


@pytest.fixture
def settings():
    """The archive block for a server that is near and quick."""

    def settings(address, **keys):
        how = {"queries_per_minute": 60_000.0, "timeout_seconds": 20.0, "patience_minutes": 1.0} | keys
        return Archive(service="skyserver", skyserver=address, **how)

    return settings


@pytest.fixture(scope="module")
def straight(catalog):
    """Results of the embedded archive."""

    def straight(query):
        return check_result(query, services.SERVICES["embedded"](query, Archive(), catalog.parent), "embedded")

    return straight


@pytest.fixture
def fields(straight):
    """The query for the fields of one part, and how the service answers it."""
    query = build_query("fields", Region(ra=(151.0, 164.6), dec=(30.0, 50.0)))
    table = straight(query)
    body = io.StringIO()
    table.assign(**{skyserver.COUNT_COLUMN: len(table)}).to_csv(body, index=False)
    return query, table, f"#Table1\n{body.getvalue()}"
