"""The stand-in services over an embedded archive, and what was recorded of the real ones."""

import json

import pytest
from tests.services.client import Client
from tests.services.server import Server


@pytest.fixture
def server(archive_folder):
    with Server(archive_folder) as server:
        yield server


@pytest.fixture
def casjobs(server):
    return Client(server)


@pytest.fixture(scope="module")
def recorded(shared_data):
    return json.loads((shared_data / "services" / "casjobs-recorded-responses.json").read_text())


@pytest.fixture
def body(archive_folder, frame):
    return (archive_folder / "sas" / frame.path()).read_bytes()
