"""The manifest of a chunk's frames."""

import hashlib
import re

import pandas as pd
import pytest
from tests.fixtures.frame_client import FEW_RETRIES
from tests.fixtures.frame_server import FRAME, content

from sdss_photoz.errors import UserError
from sdss_photoz.frames.mirror import check_missing_fraction, manifest
from sdss_photoz.surveys.sdss import Frame


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
        check_missing_fraction(lacking, frames, "somewhere", 0.0)
    named = float(re.search(r"at least ([\d.]+)\.$", str(error.value))[1])
    check_missing_fraction(lacking, frames, "somewhere", named)


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
        manifest(table(*wanted), **given, archive=FEW_RETRIES)
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
