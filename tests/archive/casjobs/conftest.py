"""An account, small pages and short waits; a CasJobs service with faults."""

import pytest
from tests.fixtures.casjobs_client import PAGE, SECRETS
from tests.services.server import Faults, Server
from tests.services.server import casjobs as service

from sdss_photoz.archive import casjobs, http, mydb
from sdss_photoz.archive.query import build_query, check_result
from sdss_photoz.archive.services import SERVICES
from sdss_photoz.config import Archive


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """An account, small pages, and short waits."""
    monkeypatch.delenv("SCISERVER_TOKEN", raising=False)
    monkeypatch.setenv("SCISERVER_USER", SECRETS[0])
    monkeypatch.setenv("SCISERVER_PASSWORD", SECRETS[1])
    monkeypatch.setattr(service, "ACCOUNT", SECRETS)
    monkeypatch.setattr(mydb, "PAGE_ROWS", PAGE)
    monkeypatch.setattr(casjobs, "SEARCH_ATTEMPTS", 4)
    monkeypatch.setattr(http, "_backoff", lambda state: 0.01)


@pytest.fixture
def serve(catalog):
    """A function that starts a server with faults; it ends with the test."""
    running = []

    def start(*faults, **options):
        server = Server(catalog.parent, faults=Faults.parse(faults, retry_after=0), **options)
        running.append(server.__enter__())
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def direct(catalog):
    """Results of the embedded archive, by the name of the query."""
    archive, answers = Archive(), {}
    for name in ("galaxies", "fields"):
        query = build_query(name)
        answers[name] = check_result(query, SERVICES["embedded"](query, archive, catalog.parent), "embedded")
    return answers
