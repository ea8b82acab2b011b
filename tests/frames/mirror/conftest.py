"""A frame server, and short waits between retries."""

import pytest
import tenacity
from tests.fixtures.frame_server import frame_server

from sdss_photoz.archive import http


@pytest.fixture
def archive(monkeypatch):
    monkeypatch.setattr(http, "_backoff", tenacity.wait_fixed(0.01))
    with frame_server() as server:
        yield server
