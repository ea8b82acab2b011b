"""astroquery, written for the real services, works with the stand-in."""

import numpy as np
import pytest
import requests
from astropy.io import fits
from tests.services.client import SEARCH

from sdss_photoz.embedded import tsql
from sdss_photoz.surveys.sdss import FRAME_FOLDERS


@pytest.fixture
def sdss(server, tmp_path):
    from astroquery.sdss import SDSS, conf

    with (
        conf.set_temp("skyserver_baseurl", server.skyserver),
        conf.set_temp("sas_baseurl", server.sas),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(SDSS, "cache_location", tmp_path)  # it caches the tables' columns in any case
        yield SDSS


def test_astroquery_asks_sql(sdss, catalog):
    table = sdss.query_sql(
        "SELECT TOP 5 objid, ra -- places\nFROM PhotoObjAll ORDER BY objid", data_release=12, cache=False
    )
    expected = tsql.run(catalog, "SELECT TOP 5 objid, ra FROM PhotoObjAll ORDER BY objid")
    assert table.colnames == ["objid", "ra"]
    assert list(table["objid"]) == list(expected.objid)
    assert np.allclose(table["ra"], expected.ra, rtol=1e-14)


def test_astroquery_is_told_of_an_unknown_column(sdss):
    from astroquery.exceptions import RemoteServiceError

    with pytest.raises(RemoteServiceError, match="Invalid column name 'petroMag_x'"):
        sdss.query_sql("SELECT petroMag_x FROM PhotoObjAll", data_release=12, cache=False)


def test_astroquery_finds_the_objects_of_a_field(sdss, frame, catalog):
    place = frame._asdict()
    del place["band"]
    table = sdss.query_photoobj(**place, data_release=12, cache=False)
    count = "SELECT COUNT(*) AS n FROM PhotoObjAll WHERE run = {run} AND camcol = {camcol} AND field = {field}"
    assert len(table) == tsql.run(catalog, count.format(**place)).n[0] > 100
    assert table.colnames == ["ra", "dec", "objid", "run", "rerun", "camcol", "field"]
    chosen = sdss.query_photoobj(**place, fields=["petroMag_r", "type"], data_release=12, cache=False)
    assert chosen.colnames == ["petroMag_r", "type"]


def test_astroquery_fetches_the_image_of_a_field(sdss, frame, archive_folder):
    place = frame._asdict()
    images = sdss.get_images(**place, data_release=12, cache=False, show_progress=False)
    assert len(images) == 1
    assert (images[0][0].data == fits.getdata(archive_folder / "sas" / frame.path())).all()


def test_astroquery_finds_objects_by_their_place(sdss, catalog):
    from astropy import units
    from astropy.coordinates import SkyCoord

    two = tsql.run(catalog, "SELECT TOP 2 objID, ra, dec, field FROM PhotoObjAll ORDER BY objID")
    places = SkyCoord(two.ra, two.dec, unit="deg")
    options = {"fields": ["objID", "run", "field"], "data_release": 12, "cache": False}
    assert list(sdss.query_crossid(places, **options)["objID"]) == list(two.objID)
    near = sdss.query_region(places, radius=30 * units.arcsec, **options)
    around = "SELECT COUNT(*) AS n FROM Neighbors n WHERE n.objID IN ({}, {}) AND n.distance <= 0.5"
    assert len(near) == 2 + tsql.run(catalog, around.format(*two.objID)).n[0]
    box = sdss.query_region(places[:1], width=1 * units.arcmin, **options)
    assert two.objID[0] in box["objID"]


@pytest.mark.parametrize(
    "form",
    [
        {"upload": "", "radius": "1"},
        {"upload": "ra dec\n1 2"},
        {"upload": "ra dec\n1 2", "radius": "wide"},
        {"upload": "ra dec\n1 nan", "radius": "1"},
        {"upload": "ra\n1", "radius": "1"},
        {"radius": "1"},
    ],
)
def test_a_list_of_places_that_cannot_be_read_is_refused(server, form):
    form = {"uquery": "SELECT up_ra FROM #upload", "format": "csv", **form}
    reply = requests.post(server.skyserver + SEARCH, form, timeout=20)
    assert reply.status_code == 200
    assert "error_message" in reply.text


@pytest.mark.parametrize("release", sorted(set(FRAME_FOLDERS) & set(range(12, 19))))
def test_frames_lie_where_astroquery_looks_for_them_in_every_release(release, frame):
    from astroquery.sdss import SDSS

    instrument = {12: "boss", 18: "prior-surveys/sdss4-dr17-eboss"}.get(release, "eboss")
    url = SDSS.IMAGING_URL_SUFFIX.format(base="", dr=release, instrument=instrument, rerun=301, **frame._asdict())
    assert url == "/" + frame.path(release)
