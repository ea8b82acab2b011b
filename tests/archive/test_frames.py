"""Every frame is opened by one function: whole, the right one, fetched once, or missing for a reason."""

import bz2
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from sdss_photoz.archive import frames
from sdss_photoz.archive.frames import Missing, ends_whole, ensure, manifest
from sdss_photoz.errors import UserError
from sdss_photoz.survey import Frame

FRAME = Frame(94, 1, 11, "r")


LATER = {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}  # frames by which the sky reaches a filter after the first one


def content(frame=FRAME, number=None) -> bytes:
    """A file that begins as the frame does."""
    number = frame.field + LATER[frame.band] if number is None else number
    cards = ["SIMPLE  =                    T", f"RUN     = {frame.run:20d} / Run number"]
    cards += [f"FRAME   = {number:20d}", f"FILTER  = '{frame.band}       '"]
    cards += [f"CAMCOL  = {frame.camcol:20d}", "END"]
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    return bz2.compress(header + os.urandom(300_000))


class Archive(ThreadingHTTPServer):
    """An archive on the loopback that fails as it is told."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.faults, self.asked = {}, {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/sas"

    def add(self, frame, body=None, faults=()):
        self.files[f"/sas/{frame.path()}"] = body or content(frame)
        self.faults[f"/sas/{frame.path()}"] = list(faults)


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        faults = self.server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else None
        if body is None:
            self.send_error(404)
        elif isinstance(fault, int):
            self.send_error(fault)
        else:
            if fault == "html":
                body = b"<html><body>The archive is under maintenance</body></html>"
            self.send_response(200)
            if fault != "short without length":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault in ("short", "short without length"):
                body = body[: len(body) // 2]
            if fault == "slow":
                for start in range(0, len(body), 4096):
                    self.wfile.write(body[start : start + 4096])
                    self.wfile.flush()
                    time.sleep(0.05)
                return
            self.wfile.write(body)


@pytest.fixture
def archive(monkeypatch):
    monkeypatch.setattr(frames, "FIRST_PAUSE", 0.01)
    server = Archive()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def leftovers(folder):
    return [path.name for path in folder.rglob("*") if path.is_file() and path.suffix not in (".bz2", ".lock")]


def test_archive_that_is_a_folder_is_read_in_place(tmp_path):
    path = tmp_path / "my sas" / FRAME.path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content())
    assert ensure(FRAME, tmp_path / "mirror", (tmp_path / "my sas").as_uri()) == path
    assert not (tmp_path / "mirror").exists()
    with pytest.raises(Missing, match=r"frame-g-000094-1-0011.fits.bz2 is missing: not in the archive"):
        ensure(FRAME._replace(band="g"), tmp_path, (tmp_path / "my sas").as_uri())
    path.write_bytes(content()[:-4])
    with pytest.raises(Missing, match="truncated in the archive"):
        ensure(FRAME, tmp_path, (tmp_path / "my sas").as_uri())


def test_release_names_the_folder(tmp_path):
    path = tmp_path / f"dr17/eboss/photoObj/frames/301/94/1/{FRAME.name}"
    path.parent.mkdir(parents=True)
    path.write_bytes(content())
    assert ensure(FRAME, tmp_path, tmp_path.as_uri(), release=17) == path


def test_frame_is_fetched_once_and_kept(tmp_path, archive):
    archive.add(FRAME)
    for _ in range(3):
        path = ensure(FRAME, tmp_path, archive.url + "/")
        assert path == tmp_path / FRAME.path()
        assert path.read_bytes() == archive.files[f"/sas/{FRAME.path()}"]
    assert len(archive.asked) == 1
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("fault", [500, 503, 429, "html", "short", "short without length"])
def test_archive_that_falters_is_asked_again(tmp_path, archive, fault):
    archive.add(FRAME, faults=[fault, fault])
    path = ensure(FRAME, tmp_path, archive.url)
    assert path.read_bytes() == archive.files[f"/sas/{FRAME.path()}"]
    assert len(archive.asked) == 3
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (503, "HTTP 503"),
        ("html", "not a bzip2 file"),
        ("short", "bytes"),
        ("short without length", "its end is missing"),
    ],
)
def test_archive_that_keeps_failing_stops_the_run_and_leaves_no_frame(tmp_path, archive, fault, sentence):
    archive.add(FRAME, faults=[fault] * 99)
    with pytest.raises(UserError, match=r"frame-r-000094-1-0011.fits.bz2 could not be fetched in 4 attempts") as error:
        ensure(FRAME, tmp_path, archive.url)
    assert sentence in str(error.value)
    assert not isinstance(error.value, Missing)  # it may be there tomorrow
    assert len(archive.asked) == frames.ATTEMPTS
    assert not (tmp_path / FRAME.path()).exists()
    assert leftovers(tmp_path) == []


def test_archive_that_cannot_be_reached_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "FIRST_PAUSE", 0.01)
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/sas/.* could not be fetched"):
        ensure(FRAME, tmp_path, "http://127.0.0.1:9/sas")
    with pytest.raises(UserError, match="must be a file:/// or http"):
        ensure(FRAME, tmp_path, "ftp://somewhere")


def test_frame_that_the_archive_lacks_is_missing_at_once(tmp_path, archive):
    with pytest.raises(Missing) as error:
        ensure(FRAME, tmp_path, archive.url)
    assert error.value.reason == "not in the archive"
    assert len(archive.asked) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (content(Frame(94, 1, 12, "r")), "another frame: its header says run 94, camcol 1, frame 12, filter r"),
        (content(Frame(94, 2, 11, "r")), "another frame: its header says run 94, camcol 2, frame 11, filter r"),
        (content(Frame(95, 1, 11, "r")), "another frame: its header says run 95, camcol 1, frame 11, filter r"),
        (content(Frame(94, 1, 11, "g")), "another frame: its header says run 94, camcol 1, frame 19, filter g"),
        (bz2.compress(b"<html></html>" * 999), "not a FITS file"),
    ],
)
def test_wrong_file_under_a_frames_name_is_missing(tmp_path, archive, body, reason):
    archive.add(FRAME, body)
    with pytest.raises(Missing) as error:
        ensure(FRAME, tmp_path, archive.url)
    assert error.value.reason == reason
    assert not (tmp_path / FRAME.path()).exists()


@pytest.mark.parametrize("band", "ugriz")
def test_header_counts_frames_of_the_camera_not_of_the_sky(tmp_path, archive, band):
    frame = FRAME._replace(band=band)
    archive.add(frame, content(frame, number=11 + LATER[band]))
    assert ensure(frame, tmp_path, archive.url).is_file()
    neighbour = frame._replace(field=12)
    archive.add(neighbour, content(frame, number=11 + LATER[band]))
    with pytest.raises(Missing, match="another frame"):
        ensure(neighbour, tmp_path, archive.url)


def test_truncated_frame_in_the_mirror_is_fetched_again(tmp_path, archive):
    archive.add(FRAME)
    path = ensure(FRAME, tmp_path, archive.url)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    assert ensure(FRAME, tmp_path, archive.url).read_bytes() == whole
    assert len(archive.asked) == 2


def test_end_of_a_bzip2_file_is_found_at_every_bit():
    ends = set()
    for length in range(1, 60):
        squeezed = bz2.compress(os.urandom(length))
        tail = int.from_bytes(squeezed[-11:], "big")
        ends.add(next(k for k in range(8) if (tail >> (32 + k)) & (2**48 - 1) == frames.BZIP2_END))
    assert len(ends) > 4


def test_real_frames_end_whole(shared_data):
    paths = sorted((shared_data / "sas").rglob("*.bz2"))
    assert len(paths) == 19
    for path in paths:
        assert ends_whole(path)
        assert frames.flaw(path, Frame.from_path(path)) is None


def test_many_jobs_that_want_one_frame_fetch_it_once(tmp_path, archive):
    archive.add(FRAME)
    with ThreadPoolExecutor(8) as executor:
        paths = list(executor.map(lambda _: ensure(FRAME, tmp_path, archive.url), range(16)))
    assert set(paths) == {tmp_path / FRAME.path()}
    assert len(archive.asked) == 1


def test_fetch_killed_half_way_leaves_no_frame_and_the_next_one_is_whole(tmp_path, archive):
    archive.add(FRAME, faults=["slow"])
    code = (
        "import sys; from sdss_photoz.archive.frames import ensure; from sdss_photoz.survey import Frame; "
        "ensure(Frame(94, 1, 11, 'r'), sys.argv[1], sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), archive.url])
    path = tmp_path / FRAME.path()
    give_up = time.monotonic() + 60
    while not leftovers(tmp_path) and time.monotonic() < give_up:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(leftovers(tmp_path)) == 1
    assert not path.exists()
    assert ensure(FRAME, tmp_path, archive.url).read_bytes() == archive.files[f"/sas/{FRAME.path()}"]
    assert leftovers(tmp_path) == []


def table(*wanted):
    return pd.DataFrame([frame._asdict() for frame in wanted])


def test_manifest_lists_each_frame_once_with_what_identifies_it(tmp_path, archive):
    wanted = [Frame(95, 1, 11, "u"), FRAME, FRAME._replace(band="g"), FRAME]
    for frame in wanted:
        archive.add(frame)
    listed = manifest(table(*wanted), sas=archive.url, mirror=tmp_path)
    assert listed.columns.tolist() == ["run", "camcol", "field", "band", "path", "bytes", "sha256", "state"]
    assert listed["path"].tolist() == [frame.path() for frame in (FRAME._replace(band="g"), FRAME, wanted[0])]
    for row in listed.itertuples():
        body = archive.files[f"/sas/{row.path}"]
        assert (row.bytes, row.sha256, row.state) == (len(body), hashlib.sha256(body).hexdigest(), "ok")


def test_manifest_is_the_same_from_a_folder_and_over_http(tmp_path, archive):
    wanted = [FRAME, FRAME._replace(band="g"), FRAME._replace(band="i")]
    for frame in wanted[:2]:
        archive.add(frame)
        path = tmp_path / "sas" / frame.path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.files[f"/sas/{frame.path()}"])
    http = manifest(table(*wanted), sas=archive.url, mirror=tmp_path / "mirror", missing_fraction=0.4)
    folder = manifest(table(*wanted), sas=(tmp_path / "sas").as_uri(), mirror=tmp_path / "none", missing_fraction=0.4)
    pd.testing.assert_frame_equal(http, folder)
    assert http.set_index("band")["state"].to_dict() == {"g": "ok", "r": "ok", "i": "not in the archive"}


def test_more_missing_frames_than_allowed_stop_the_run_with_their_names(tmp_path, archive):
    archive.add(FRAME)
    wanted = [FRAME._replace(field=field) for field in range(11, 16)]
    with pytest.raises(
        UserError, match=r"4 of 5 frames are missing from http.*: frame-r-000094-1-0012.fits.bz2 \(not in "
    ) as e:
        manifest(table(*wanted), sas=archive.url, mirror=tmp_path, missing_fraction=0.5)
    assert "archive.missing_fraction to at least 0.8" in str(e.value)
    assert len(manifest(table(*wanted), sas=archive.url, mirror=tmp_path, missing_fraction=0.8)) == 5


def test_killed_download_resumes_without_fetching_again(tmp_path, archive):
    wanted = [FRAME._replace(field=field) for field in range(11, 17)]
    for frame in wanted:
        archive.add(frame)
    archive.add(wanted[3], faults=[503] * 4)
    with pytest.raises(UserError, match="could not be fetched"):
        manifest(table(*wanted), sas=archive.url, mirror=tmp_path, workers=1)
    manifest(table(*wanted), sas=archive.url, mirror=tmp_path, workers=1)
    times = {frame.field: archive.asked.count(f"/sas/{frame.path()}") for frame in wanted}
    assert times == {11: 1, 12: 1, 13: 1, 14: 5, 15: 1, 16: 1}


def test_no_frames_at_all_is_an_empty_manifest(tmp_path, archive):
    listed = manifest(table(FRAME).head(0), sas=archive.url, mirror=tmp_path)
    assert len(listed) == 0
    assert "state" in listed
