"""A frame is opened from a folder or fetched once, also after kills, on full disks and without permission."""

import os
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import skip
from tests.fixtures.frame_client import FEW_RETRIES, fetch, half_way, in_another_process, leftovers
from tests.fixtures.frame_server import FRAME, content

from sdss_photoz.errors import UserError
from sdss_photoz.frames.mirror import FrameMissing, ensure


def test_archive_that_is_a_folder_is_read_in_place(tmp_path):
    path = tmp_path / "my sas" / FRAME.path()
    path.parent.mkdir(parents=True)
    path.write_bytes(content())
    assert ensure(FRAME, tmp_path / "mirror", (tmp_path / "my sas").as_uri()) == path
    assert not (tmp_path / "mirror").exists()
    with pytest.raises(FrameMissing, match=r"frame-g-000094-1-0011.fits.bz2 is missing: not in the archive"):
        ensure(FRAME._replace(band="g"), tmp_path, (tmp_path / "my sas").as_uri())
    path.write_bytes(content()[:-4])
    with pytest.raises(FrameMissing, match="truncated"):
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
        fetch(tmp_path, archive, FRAME._replace(band="i"), FEW_RETRIES)


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
            assert not isinstance(error.value, FrameMissing)
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
        message = process.communicate(timeout=60)[0]
        mirror.chmod(0o755)
    assert process.returncode == 0
    assert message.count("\n") == 1
    assert str(mirror) in message
    assert "cannot be read or written (Permission denied): give yourself permission" in message
    assert archive.asked == []
