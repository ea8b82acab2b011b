"""Frames that are missing, wrong, damaged or hostile."""

import bz2
import os
import subprocess
import sys

import pytest
from tests.fixtures.frame_client import RETRIES, fetch, leftovers
from tests.fixtures.frame_server import FRAME, LATER, content, header

from sdss_photoz.frames import flaws
from sdss_photoz.frames.flaws import flaw, is_complete
from sdss_photoz.frames.mirror import MAX_FRAME_BYTES, FrameMissing, copies
from sdss_photoz.surveys.sdss import Frame


@pytest.mark.parametrize(("status", "times"), [(404, 3), (410, 1)])
def test_frame_is_missing_when_the_archive_has_said_so_again(tmp_path, archive, status, times):
    archive.add(FRAME, faults=[status] * 9)
    with pytest.raises(FrameMissing) as error:
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
    with pytest.raises(FrameMissing) as error:
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
    with pytest.raises(FrameMissing, match="another frame"):
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
        assert is_complete(path)
        assert flaw(path, Frame.from_path(path)) is None


@pytest.mark.parametrize("fault", ["huge", "absurd", "endless"])
def test_file_larger_than_any_frame_is_refused_by_name_and_leaves_nothing(tmp_path, archive, fault):
    archive.add(FRAME, faults=[fault] * 3)
    with pytest.raises(FrameMissing, match=r"frame-r-000094-1-0011.fits.bz2 is missing: larger than 32 MB"):
        fetch(tmp_path, archive)
    assert leftovers(tmp_path) == []
    if fault != "endless":
        assert sum(request.sent for request in archive.requests) < 3 * MAX_FRAME_BYTES


def test_length_that_is_no_number_is_none(tmp_path, archive):
    archive.add(FRAME, faults=["no number"])
    assert fetch(tmp_path, archive).read_bytes() == archive.body(FRAME)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "identity, gzip"])
def test_bomb_in_the_transport_is_refused(tmp_path, archive, encoding):
    archive.add(FRAME, faults=[f"encoding {encoding}"] * 3)
    with pytest.raises(FrameMissing, match=f"sent in the encoding {encoding.lower()}"):
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
        "import resource, sys; from sdss_photoz.frames.flaws import flaw; from sdss_photoz.cubes.frame import *\n"
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


def test_truncated_frame_in_the_mirror_is_fetched_again(tmp_path, archive):
    archive.add(FRAME)
    path = fetch(tmp_path, archive)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    assert fetch(tmp_path, archive).read_bytes() == whole
    assert len(archive.asked) == 2


def test_frame_found_damaged_has_one_more_copy_from_a_server_and_none_from_a_folder(tmp_path, archive, capsys):
    archive.add(FRAME)
    found = copies(FRAME, tmp_path, archive.url, archive=RETRIES)
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
