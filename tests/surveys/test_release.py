"""Every data release has its own paths: those that astroquery, a client that nobody here wrote, asks for."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from astropy.table import Table
from astroquery.sdss import SDSS, conf

from sdss_photoz.archive import sciserver, skyserver
from sdss_photoz.archive.http import RateLimiter
from sdss_photoz.archive.query import build_query
from sdss_photoz.config import SAS, Archive, check
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import sdss
from sdss_photoz.surveys.sdss import Frame

RELEASES = range(12, 19)
FRAMES = [Frame(3900, 6, 269, "r"), Frame(94, 1, 1010, "u")]


@pytest.fixture
def asked():
    """A server that has nothing: the base address, and the list of what it was asked for."""
    paths = []

    class Nothing(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            paths.append(f"{self.command} {self.path.partition('?')[0]}")
            self.send_error(404)

        do_GET = do_PUT = do_POST = answer

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Nothing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
def test_frames_lie_where_astroquery_looks_for_them(frame, release):
    matches = Table({"run": [frame.run], "rerun": [301], "camcol": [frame.camcol], "field": [frame.field]})
    (image,) = SDSS.get_images_async(matches=matches, band=frame.band, data_release=release)
    assert f"{SAS}/{frame.path(release)}" == image._target


def test_the_default_addresses_are_astroquerys():
    assert conf.sas_baseurl == SAS
    assert conf.skyserver_baseurl == Archive().skyserver


@pytest.mark.parametrize("release", RELEASES)
def test_the_skyserver_is_asked_at_the_releases_own_page(release, asked, tmp_path):
    address, paths = asked
    archive = Archive(service="skyserver", skyserver=address, release=release, queries_per_minute=6000.0)
    with pytest.raises(UserError, match=r"HTTP 404.*archive\.release"):
        skyserver.run_query(build_query("fields"), archive, tmp_path)
    assert paths == [f"GET /dr{release}/en/tools/search/x_results.aspx"]


@pytest.mark.parametrize("release", RELEASES)
def test_batch_jobs_run_in_the_releases_own_context(release, asked, tmp_path, monkeypatch):
    address, paths = asked
    monkeypatch.setenv("SCISERVER_TOKEN", "token")
    archive = Archive(service="casjobs", casjobs=address, release=release)
    with pytest.raises((UserError, sciserver.RequestRefused)):
        sciserver.CasJobs(archive, RateLimiter(tmp_path, 6000)).submit("SELECT 1", "task")
    assert paths == [f"PUT /contexts/DR{release}/jobs"]


def test_the_configuration_takes_the_releases_that_have_a_folder_of_frames():
    assert set(RELEASES) <= set(sdss.FRAME_FOLDERS)
    for release in (11, 19):
        with pytest.raises(UserError, match=r"archive\.release"):
            check({"archive": {"release": release}})
