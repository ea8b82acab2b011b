"""Every frame is opened by one function: whole, the right one, fetched once, or missing for a reason."""

import bz2
import email.utils
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import tenacity
from tests.archive.frame_server import FRAME, LATER, content, frame_server, header
from tests.conftest import skip

from sdss_photoz.archive import flaws, http
from sdss_photoz.archive.flaws import ends_whole, flaw
from sdss_photoz.archive.frames import LARGEST, Missing, copies, ensure, manifest, refuse_missing
from sdss_photoz.config import Archive
from sdss_photoz.errors import UserError
from sdss_photoz.survey import Frame

PATIENT = Archive(timeout_seconds=1.0, patience_minutes=0.2)
IMPATIENT = Archive(timeout_seconds=1.0, patience_minutes=0.005)


@pytest.fixture
def archive(monkeypatch):
    monkeypatch.setattr(http, "_growing", tenacity.wait_fixed(0.01))
    with frame_server() as server:
        yield server


def fetch(folder, archive, frame=FRAME, settings=PATIENT):
    return ensure(frame, folder, archive.url, archive=settings)


def in_another_process(code, *words, **options):
    code = (
        "import sys; from sdss_photoz.archive.frames import ensure; from sdss_photoz.config import Archive; "
        "from sdss_photoz.survey import Frame; from sdss_photoz.errors import UserError; "
        "frame = Frame(94, 1, 11, 'r'); archive = Archive(timeout_seconds=5.0, patience_minutes=0.0)\n"
    ) + code
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], text=True, **options)


def half_way(folder, archive):
    """Start a fetch of minutes in another process: the process, and its part of the file at 200,000 bytes."""
    archive.add(FRAME, content(size=1_500_000), faults=["drops"])
    process = in_another_process("ensure(frame, *sys.argv[1:], archive=archive)", folder, archive.url)
    while process.poll() is None:
        for part in Path(folder).rglob(f".{FRAME.name}.*.part"):
            if part.stat().st_size > 200_000:
                return process, part
        time.sleep(0.01)
    pytest.fail("the fetch did not come half way")


def leftovers(folder):
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file() and path.name.startswith("."))


# The archive as a folder, and as a server that works.


def test_archive_that_is_a_folder_is_read_in_place(tmp_path):
    path = tmp_path / "my sas" / FRAME.path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content())
    assert ensure(FRAME, tmp_path / "mirror", (tmp_path / "my sas").as_uri()) == path
    assert not (tmp_path / "mirror").exists()
    with pytest.raises(Missing, match=r"frame-g-000094-1-0011.fits.bz2 is missing: not in the archive"):
        ensure(FRAME._replace(band="g"), tmp_path, (tmp_path / "my sas").as_uri())
    path.write_bytes(content()[:-4])
    with pytest.raises(Missing, match="truncated"):
        ensure(FRAME, tmp_path, (tmp_path / "my sas").as_uri())


def test_release_names_the_folder(tmp_path):
    path = tmp_path / f"dr17/eboss/photoObj/frames/301/94/1/{FRAME.name}"
    path.parent.mkdir(parents=True)
    path.write_bytes(content())
    assert ensure(FRAME, tmp_path, tmp_path.as_uri(), release=17) == path


def test_frame_is_fetched_once_and_nothing_else_stays(tmp_path, archive):
    archive.add(FRAME)
    for _ in range(3):
        path = ensure(FRAME, tmp_path, archive.url + "/")
        assert path == tmp_path / FRAME.path()
        assert path.read_bytes() == archive.body(FRAME)
    assert len(archive.asked) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [FRAME.name]


def test_many_jobs_that_want_one_frame_fetch_it_once_and_leave_no_lock(tmp_path, archive):
    archive.add(FRAME)
    with ThreadPoolExecutor(8) as executor:
        paths = list(executor.map(lambda _: fetch(tmp_path, archive), range(16)))
    assert set(paths) == {tmp_path / FRAME.path()}
    assert len(archive.asked) == 1
    assert leftovers(tmp_path) == []


def test_frame_is_found_where_the_archive_redirects_to(tmp_path, archive):
    archive.add(FRAME, faults=[f"to {archive.url}/{FRAME.path()}"])
    assert fetch(tmp_path, archive).is_file()
    archive.add(FRAME._replace(band="g"), faults=["to file:///etc/passwd"] * 9)
    with pytest.raises(UserError, match=r"could not be fetched .*file:///etc/passwd"):
        fetch(tmp_path, archive, FRAME._replace(band="g"))
    archive.add(FRAME._replace(band="i"), faults=[f"to {archive.url}/{FRAME._replace(band='i').path()}"] * 99)
    with pytest.raises(UserError, match="redirects"):
        fetch(tmp_path, archive, FRAME._replace(band="i"), IMPATIENT)


# An archive that falters.


@pytest.mark.parametrize(
    "fault",
    [403, 408, 425, 429, 500, 502, 503, 504, "html", "short", "short without length", "reset", "flipped", 404],
)
def test_archive_that_falters_is_asked_again(tmp_path, archive, fault, capsys):
    archive.add(FRAME, faults=[fault, fault])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    assert len(archive.asked) == 3
    assert leftovers(tmp_path) == []
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{FRAME.name}: ")]
    assert len(told) == 2
    assert all("asked again in" in line for line in told)


def test_silent_connection_is_given_up_and_the_rest_asked_for(tmp_path, archive):
    archive.add(FRAME, faults=["hang"])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    sent = {request.range is None: request.sent for request in archive.requests}
    assert sent[False] < len(archive.body(FRAME))


@pytest.mark.parametrize("fault", ["short", "reset"])
def test_broken_answer_is_resumed_where_it_broke(tmp_path, archive, fault):
    archive.add(FRAME, faults=[fault])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    whole, rest = archive.requests
    assert whole.range is None
    first = int(rest.range.removeprefix("bytes=").removesuffix("-"))
    assert 0 < first < len(archive.body(FRAME))
    assert rest.sent == len(archive.body(FRAME)) - first


@pytest.mark.parametrize("fault", ["no ranges", "changed", 416])
def test_frame_that_cannot_be_resumed_is_fetched_from_its_beginning(tmp_path, archive, fault):
    archive.add(FRAME, faults=["short", fault])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("status", [403, 429, 503])
def test_retry_after_is_obeyed(tmp_path, archive, status):
    archive.add(FRAME, faults=[status])
    archive.retry_after[status] = "1"
    start = time.monotonic()
    fetch(tmp_path, archive)
    assert time.monotonic() - start > 1
    assert len(archive.asked) == 2


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("7", 7, 7), ("9" * 999, 300, 300), ("-7", 0, 0), ("soon", 0, 0), ("\u00b2", 0, 0), ("", 0, 0)],
)
def test_retry_after_is_seconds_and_never_longer_than_the_longest_pause(text, low, high):
    assert low <= http.retry_after({"Retry-After": text}) <= high


def test_retry_after_may_be_a_date():
    for ahead, low, high in [(60, 55, 60), (-60, 0, 0), (10**6, 300, 300)]:
        date = email.utils.formatdate(time.time() + ahead, usegmt=True)
        assert low <= http.retry_after({"Retry-After": date}) <= high


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (503, "HTTP 503"),
        (403, "HTTP 403"),
        ("html", "the answer is a web page (blocked or throttled?)"),
        ("short without length", "is missing"),
    ],
)
def test_archive_that_keeps_failing_stops_the_run_and_leaves_no_frame(tmp_path, archive, fault, sentence):
    archive.add(FRAME, faults=[fault] * 999)
    with pytest.raises(UserError, match=r"frame-r-000094-1-0011.fits.bz2 could not be fetched within 0.005 m") as error:
        fetch(tmp_path, archive, settings=IMPATIENT)
    assert sentence in str(error.value)
    assert not isinstance(error.value, Missing)  # it may be there tomorrow
    assert len(archive.asked) > 3
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("status", [400, 401, 405, 451])
def test_answer_that_does_not_pass_is_one_sentence_at_once(tmp_path, archive, status):
    archive.add(FRAME, faults=[status] * 999)
    with pytest.raises(UserError, match=rf"is answered with HTTP {status} .*: check archive\.sas and") as error:
        fetch(tmp_path, archive)
    assert not isinstance(error.value, Missing)
    assert len(archive.asked) == 1
    assert leftovers(tmp_path) == []


def test_every_door_calls_the_same_failures_passing():
    passing = [status for status in range(300, 600) if http.passes(status)]
    assert passing == [403, 408, 425, 429, *range(500, 600)]


def test_archive_that_cannot_be_reached_is_named(tmp_path, archive):
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/sas/.* could not be fetched .*\(no connection\)"):
        ensure(FRAME, tmp_path, "http://127.0.0.1:9/sas", archive=IMPATIENT)
    with pytest.raises(UserError, match="must be a file:/// or http"):
        ensure(FRAME, tmp_path, "ftp://somewhere")


# What the archive does not have, or has wrong.


@pytest.mark.parametrize(("status", "times"), [(404, 3), (410, 1)])
def test_frame_is_missing_when_the_archive_has_said_so_again(tmp_path, archive, status, times):
    archive.add(FRAME, faults=[status] * 9)
    with pytest.raises(Missing) as error:
        fetch(tmp_path, archive)
    assert error.value.reason == "not in the archive"
    assert len(archive.asked) == times
    assert leftovers(tmp_path) == []


WRONG = {
    "field": (content(Frame(94, 1, 12, "r")), "another frame: its header says run 94, camcol 1, frame 12, filter r"),
    "camcol": (content(Frame(94, 2, 11, "r")), "another frame: its header says run 94, camcol 2, frame 11, filter r"),
    "run": (content(Frame(95, 1, 11, "r")), "another frame: its header says run 95, camcol 1, frame 11, filter r"),
    "band": (content(Frame(94, 1, 11, "g")), "another frame: its header says run 94, camcol 1, frame 19, filter g"),
    "terminal": (
        content(Frame(94, 1, 11, "\x1b[2J"), number=11),
        r"another frame: its header says run 94, camcol 1, frame 11, filter '\x1b[2J'",
    ),
    "page": (bz2.compress(b"<html></html>" * 999), "not a FITS file"),
    "axes": (
        content(axes=(999_999_999, 999_999_999), bitpix=64),
        "another image: its header says 999999999 x 999999999 pixels and BITPIX 64, but a corrected frame has "
        "1489 x 2048 and -32",
    ),
    "cube": (content(axes=(2048, 1489, 10**12)), "another image: its header says 1000000000000 x 1489 x 2048 pixels"),
    "cut": (content()[:-9], "truncated: the end of its bzip2 stream is missing"),
}


@pytest.mark.parametrize(("body", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_file_under_a_frames_name_is_missing_when_it_came_three_times(tmp_path, archive, body, reason):
    archive.add(FRAME, body)
    with pytest.raises(Missing) as error:
        fetch(tmp_path, archive)
    assert error.value.reason.startswith(reason)
    assert len(archive.asked) == 3
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("band", "ugriz")
def test_header_counts_frames_of_the_camera_not_of_the_sky(tmp_path, archive, band):
    frame = FRAME._replace(band=band)
    archive.add(frame, content(frame, number=11 + LATER[band]))
    assert fetch(tmp_path, archive, frame).is_file()
    neighbour = frame._replace(field=12)
    archive.add(neighbour, content(frame, number=11 + LATER[band]))
    with pytest.raises(Missing, match="another frame"):
        fetch(tmp_path, archive, neighbour)


def test_end_of_a_bzip2_file_is_found_at_every_bit():
    ends = set()
    for length in range(1, 60):
        squeezed = bz2.compress(os.urandom(length))
        tail = int.from_bytes(squeezed[-11:], "big")
        ends.add(next(k for k in range(8) if (tail >> (32 + k)) & (2**48 - 1) == flaws.BZIP2_END))
    assert len(ends) > 4


def test_real_frames_end_whole(shared_data):
    paths = sorted((shared_data / "sas").rglob("*.bz2"))
    assert len(paths) == 19
    for path in paths:
        assert ends_whole(path)
        assert flaw(path, Frame.from_path(path)) is None


# Hostile content.


@pytest.mark.parametrize("fault", ["huge", "absurd", "endless"])
def test_file_larger_than_any_frame_is_refused_by_name_and_leaves_nothing(tmp_path, archive, fault):
    archive.add(FRAME, faults=[fault] * 3)
    with pytest.raises(Missing, match=r"frame-r-000094-1-0011.fits.bz2 is missing: larger than 32 MB"):
        fetch(tmp_path, archive)
    assert leftovers(tmp_path) == []
    if fault != "endless":
        assert sum(request.sent for request in archive.requests) < 3 * LARGEST


def test_length_that_is_no_number_is_none(tmp_path, archive):
    archive.add(FRAME, faults=["no number"])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "identity, gzip"])
def test_bomb_in_the_transport_is_refused(tmp_path, archive, encoding):
    archive.add(FRAME, faults=[f"encoding {encoding}"] * 3)
    with pytest.raises(Missing, match=f"sent in the encoding {encoding.lower()}"):
        fetch(tmp_path, archive)
    assert leftovers(tmp_path) == []


def bomb(start: bytes) -> bytes:
    """Five gigabytes in a few kilobytes."""
    return bz2.compress(start + bytes(45_000_000)) + bz2.compress(bytes(45_000_000)) * 110


@pytest.mark.parametrize("start", [b"", header()], ids=["of zeros", "behind a right header"])
def test_bzip2_bomb_takes_little_memory(tmp_path, start):
    """A limit on the address space 1 GB above what the imports take ends the process where the bomb goes off."""
    path = tmp_path / FRAME.name
    path.write_bytes(bomb(start))
    assert path.stat().st_size < 20_000
    code = (
        "import resource, sys; from sdss_photoz.archive.flaws import flaw; from sdss_photoz.cubes.frame import *\n"
        "with open('/proc/self/statm') as file: now = int(file.read().split()[0]) * resource.getpagesize()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + 2**30,) * 2)\n"
        "path, frame = sys.argv[1], Frame(94, 1, 11, 'r')\n"
        "print(flaw(path, frame))\n"
        "try:\n"
        "    with OpenFrame(path, 1, frame) as opened: print(opened.read().shape, opened.read(0).shape)\n"
        "except UserError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    wrong, seen, kilobytes = done.stdout.splitlines()
    assert wrong == ("not a FITS file" if not start else "None")
    assert ("is not a FITS file" in seen) if not start else (seen == "(1489, 2048) (1, 2048)")
    assert int(kilobytes) < 150_000


# Kills, full disks, permissions.


def test_fetch_killed_half_way_is_continued_with_the_rest_alone(tmp_path, archive):
    process, part = half_way(tmp_path, archive)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / FRAME.path()).exists()
    came = part.stat().st_size
    assert 200_000 < came < len(archive.body(FRAME))
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    (rest,) = [request for request in archive.requests if request.range]
    assert rest.range == f"bytes={came}-"
    assert rest.sent == len(archive.body(FRAME)) - came
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [FRAME.name]


def test_job_that_waits_for_a_frame_goes_on_when_the_one_that_fetched_it_is_killed(tmp_path, archive):
    fetching, _ = half_way(tmp_path, archive)
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(fetch, tmp_path, archive)
        time.sleep(0.3)
        assert len(archive.asked) == 1  # not while the other one does
        fetching.send_signal(signal.SIGKILL)
        fetching.wait()
        assert waiting.result(timeout=30).read_bytes() == archive.body(FRAME)
    assert archive.requests[-1].range is not None
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [FRAME.name]


def test_fetch_killed_after_its_last_byte_asks_for_no_byte_again(tmp_path, archive):
    archive.add(FRAME)
    path = fetch(tmp_path, archive)
    path.rename(path.with_name(f".{FRAME.name}.0.part"))
    path.with_name(f".{FRAME.name}.etag").write_text(f'"{hash(archive.body(FRAME)):x}"\n.{FRAME.name}.0.part')
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)
    assert [request.sent for request in archive.requests] == [len(archive.body(FRAME)), 0]
    assert leftovers(tmp_path) == []


def test_full_disk_in_mid_download_is_one_sentence_and_leaves_nothing(archive):
    if os.geteuid() != 0:
        skip("a disk of one megabyte needs root to mount it")
    archive.add(FRAME, content(size=2_000_000))
    with tempfile.TemporaryDirectory() as folder:
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
        if mount.returncode:
            skip(f"a tmpfs cannot be mounted: {mount.stderr.decode().strip()}")
        try:
            with pytest.raises(
                UserError, match=r"the disk of .*/301/94/1 is full \(No space left on device\)"
            ) as error:
                fetch(folder, archive)
            assert not isinstance(error.value, Missing)
            assert [path.name for path in Path(folder).rglob("*") if path.is_file()] == []
            assert len(archive.asked) == 1
        finally:
            subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("mode", [0o000, 0o555], ids=["not readable", "not writable"])
def test_mirror_without_permission_is_one_sentence(archive, mode):
    archive.add(FRAME)
    with tempfile.TemporaryDirectory() as place:  # where nobody may go, which pytest's folders are not
        Path(place).chmod(0o755)
        mirror = Path(place) / "mirror"
        mirror.mkdir()
        if os.geteuid() == 0:
            os.chown(mirror, 65534, 65534)
        mirror.chmod(mode)
        code = (
            "import os\n"
            "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"  # root's are no permissions
            "try: ensure(frame, *sys.argv[1:], archive=archive)\n"
            "except UserError as error: print(error)\n"
        )
        process = in_another_process(code, mirror, archive.url, stdout=subprocess.PIPE)
        said = process.communicate(timeout=60)[0]
        mirror.chmod(0o755)
    assert process.returncode == 0
    assert said.count("\n") == 1
    assert str(mirror) in said
    assert "cannot be read or written (Permission denied): give yourself permission" in said
    assert archive.asked == []


# Damage that shows later.


def test_truncated_frame_in_the_mirror_is_fetched_again(tmp_path, archive):
    archive.add(FRAME)
    path = fetch(tmp_path, archive)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    assert fetch(tmp_path, archive).read_bytes() == whole
    assert len(archive.asked) == 2


def test_frame_found_damaged_has_one_more_copy_from_a_server_and_none_from_a_folder(tmp_path, archive, capsys):
    archive.add(FRAME)
    found = copies(FRAME, tmp_path, archive.url, archive=PATIENT)
    path = next(found)
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + b"spoiled" + whole[5007:])
    assert next(found).read_bytes() == whole
    assert f"{FRAME.name} is damaged: it is fetched once more" in capsys.readouterr().err
    assert next(found, None) is None
    assert len(archive.asked) == 2
    assert leftovers(tmp_path) == []
    assert list(copies(FRAME, "", tmp_path.as_uri())) == [path]
    assert path.is_file()


# The list of a chunk's frames.


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
        path.write_bytes(archive.body(frame))
    served = manifest(table(*wanted), sas=archive.url, mirror=tmp_path / "mirror", missing_fraction=0.4)
    folder = manifest(table(*wanted), sas=(tmp_path / "sas").as_uri(), mirror=tmp_path / "none", missing_fraction=0.4)
    pd.testing.assert_frame_equal(served, folder)
    assert served.set_index("band")["state"].to_dict() == {"g": "ok", "r": "ok", "i": "not in the archive"}


def test_more_missing_frames_than_allowed_stop_the_run_with_their_names(tmp_path, archive):
    archive.add(FRAME)
    wanted = [FRAME._replace(field=field) for field in range(11, 16)]
    with pytest.raises(
        UserError, match=r"4 of 5 frames are missing from http.*: frame-r-000094-1-0012.fits.bz2 \(not in "
    ) as e:
        manifest(table(*wanted), sas=archive.url, mirror=tmp_path, missing_fraction=0.5)
    assert "archive.missing_fraction to at least 0.8" in str(e.value)
    assert len(manifest(table(*wanted), sas=archive.url, mirror=tmp_path, missing_fraction=0.8)) == 5


@pytest.mark.parametrize(("missing", "frames"), [(4, 3000), (1, 7), (2, 3), (1, 8), (5, 5)])
def test_the_named_fraction_of_missing_frames_is_enough(missing, frames):
    lacking = {FRAME._replace(field=field): "not in the archive" for field in range(missing)}
    with pytest.raises(UserError) as error:
        refuse_missing(lacking, frames, "somewhere", 0.0)
    named = float(re.search(r"at least ([\d.]+)\.$", str(error.value))[1])
    refuse_missing(lacking, frames, "somewhere", named)


def test_archive_that_has_none_of_the_first_frames_is_not_asked_for_thousands(tmp_path, archive):
    wanted = table(*(FRAME._replace(field=field, band=band) for field in range(11, 411) for band in "gr"))
    with pytest.raises(UserError, match=r"none of the first 100 frames is in http.*: check archive.sas and archive"):
        manifest(wanted, sas=archive.url, mirror=tmp_path, missing_fraction=0.1)
    assert len(set(archive.asked)) == 100
    lacking = manifest(wanted.head(200), sas=archive.url, mirror=tmp_path, missing_fraction=1.0)
    assert set(lacking["state"]) == {"not in the archive"}


def test_wrong_frame_in_the_mirror_is_fetched_again_before_it_is_listed(tmp_path, archive):
    archive.add(FRAME)
    path = tmp_path / FRAME.path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content(Frame(94, 1, 12, "r")))
    assert manifest(table(FRAME), sas=archive.url, mirror=tmp_path)["state"].tolist() == ["ok"]
    assert path.read_bytes() == archive.body(FRAME)


def test_stopped_download_resumes_without_fetching_again(tmp_path, archive):
    wanted = [FRAME._replace(field=field) for field in range(11, 17)]
    for frame in wanted:
        archive.add(frame)
    archive.add(wanted[3], faults=[403] * 999)
    given = {"sas": archive.url, "mirror": tmp_path, "workers": 1}
    with pytest.raises(UserError, match="could not be fetched"):
        manifest(table(*wanted), **given, archive=IMPATIENT)
    archive.add(wanted[3])
    refused = archive.asked.count(f"/sas/{wanted[3].path()}")
    manifest(table(*wanted), **given)
    times = {frame.field: archive.asked.count(f"/sas/{frame.path()}") for frame in wanted}
    assert times == {11: 1, 12: 1, 13: 1, 14: refused + 1, 15: 1, 16: 1}


def test_connections_at_once_stay_below_the_limit_and_are_used(tmp_path, archive, capsys):
    wanted = [FRAME._replace(field=field) for field in range(11, 21)]
    for frame in wanted:
        archive.add(frame, content(frame, size=100_000), faults=["slow"])
    manifest(table(*wanted), sas=archive.url, mirror=tmp_path, workers=3)
    assert archive.most_at_once == 3
    progress = capsys.readouterr().err.split("\r")[-1]
    assert "10/10" in progress
    assert "1 MB, " in progress
    assert float(re.search(r"([\d.]+) MB/s fetched", progress)[1]) > 0.1
    manifest(table(*wanted), sas=archive.url, mirror=tmp_path, workers=3)
    assert "1 MB, 0.0 MB/s fetched" in capsys.readouterr().err.split("\r")[-1]


def test_no_frames_at_all_is_an_empty_manifest(tmp_path, archive):
    listed = manifest(table(FRAME).head(0), sas=archive.url, mirror=tmp_path)
    assert len(listed) == 0
    assert "state" in listed
