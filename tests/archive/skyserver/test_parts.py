"""A query in parts gives exactly the rows of the one query."""

import itertools
import re
from urllib.parse import quote, urlencode

import pandas as pd
import pytest
from tests.fixtures.skyserver_client import HERE, PLENTY, Scripted, asked, whole
from tests.services.server import Server

from sdss_photoz.archive import skyserver
from sdss_photoz.archive.query import build_query
from sdss_photoz.errors import UserError


@pytest.mark.parametrize("name", ["galaxies", "fields"])
def test_rows_are_those_of_the_one_query_though_the_server_cuts_answers_off(
    name, catalog, straight, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(skyserver, "PART_WIDTH", 90.0)
    query = build_query(name)
    table = straight(query)
    limit = {"galaxies": 300, "fields": 3}[name]
    assert len(table) > limit
    with Server(catalog.parent, limits=PLENTY._replace(rows=limit)) as server:
        pd.testing.assert_frame_equal(whole(query, settings(server.url), tmp_path), table)
        assert len(asked(server)) > 5


@pytest.mark.parametrize("release", [12, 18])
def test_a_release_has_its_own_page(release, catalog, straight, settings, tmp_path):
    query = build_query("fields", HERE)
    with Server(catalog.parent, release=release, limits=PLENTY) as server:
        pd.testing.assert_frame_equal(whole(query, settings(server.url, release=release), tmp_path), straight(query))
        assert {request.path for request in asked(server)} == {f"/dr{release}/en/tools/search/x_results.aspx"}


def test_a_query_of_a_region_asks_nothing_of_the_rest_of_the_sky(catalog, straight, settings, tmp_path):
    query = build_query("galaxies", HERE)
    with Server(catalog.parent, limits=PLENTY) as server:
        found = whole(query, settings(server.url), tmp_path)
        assert len(asked(server)) == 4  # two parts, two groups of columns
    pd.testing.assert_frame_equal(found, straight(query))
    assert found.ra.min() < 165 < found.ra.max()


def test_parts_tile_the_circle_and_those_of_a_region_hold_it():
    whole_circle = skyserver.parts()
    assert whole_circle[0][0] == 0
    assert whole_circle[-1][1] == 360
    assert all(first[1] == second[0] for first, second in itertools.pairwise(whole_circle))
    assert skyserver.parts((350.0, 365.0)) == [(0.0, 15.0), (345.0, 360.0)]
    assert skyserver.parts((16.0, 29.0)) == [(15.0, 30.0)]
    assert skyserver.parts((14.9999999, 15.0)) == [(0.0, 15.0), (15.0, 30.0)]


def test_no_query_string_is_longer_than_the_server_takes(catalog, settings, tmp_path):
    """The whole text is: its columns are asked for in groups, each with the key.

    The page hands the query on to the service behind it, with three characters for a blank.
    """
    query = build_query("galaxies", HERE)
    server = skyserver._SkyServer(query, settings("http://127.0.0.1:1"), tmp_path)
    assert len(server.groups) == 2
    assert [name for group in server.groups for name in group if name != query.key] == [
        name for name in query.columns if name != query.key
    ]
    assert all(group[query.key] == "za.specObjID" for group in server.groups)
    for group in server.groups:
        sent = {"cmd": server._text((165.0, 180.0), group), "format": "csv", "searchtool": "SQL"}
        assert len(urlencode(sent, quote_via=quote)) <= 2048
    with pytest.raises(UserError, match=r"longer than the 2048 characters.*casjobs"):
        skyserver.run_query(
            query._replace(sql=query.sql + "AND po.ra > 0 " * 150), settings("http://127.0.0.1:1"), tmp_path
        )


def test_comments_and_blanks_go_but_what_is_quoted_stays():
    sql = "-- why\nSELECT  a /* b\n */,\n  'it''s -- no  comment' AS c -- d\nFROM  t"
    assert skyserver.one_line(sql) == "SELECT a , 'it''s -- no  comment' AS c FROM t"


@pytest.mark.parametrize(
    "refused",
    [
        (200, '#Error\nerror_message\n"Timeout expired. The timeout period elapsed prior to completion."\n'),
        (500, "<html><head><title>A task was canceled.</title></head><body>Server Error in '/dr12'.</body></html>"),
    ],
)
def test_a_query_that_takes_too_long_is_cut_in_two(refused, fields, settings, tmp_path):
    query, table, _ = fields

    def answer(sql):
        low, high = (float(re.search(rf"fr\.ra{sign}([\d.]+)", sql)[1]) for sign in (">=", "<"))
        if high - low > 4:
            return refused
        rows = table[(table.ra >= low) & (table.ra < high)]
        return 200, "#Table1\n" + rows.assign(**{skyserver.COUNT_COLUMN: len(rows)}).to_csv(index=False)

    with Scripted(answer) as server:
        pd.testing.assert_frame_equal(whole(query, settings(server.url), tmp_path), table)
        assert len(server.queries) == 7  # 15, twice 7.5 and four times 3.75 degrees
        whole(query, settings(server.url), tmp_path)
        assert len(server.queries) == 7  # what was too long is not tried again either


def test_a_query_that_always_takes_too_long_ends_with_one_sentence(fields, settings, tmp_path):
    refused = '#Error\nerror_message\n"Timeout expired."\n'
    with Scripted((200, refused)) as server:
        with pytest.raises(
            UserError, match=r"even for right ascensions from 150 to 150\.007.*: Timeout expired.*casjobs"
        ):
            skyserver.run_query(fields[0], settings(server.url), tmp_path)
        assert len(server.queries) == 12


def test_a_range_without_rows_is_no_error(fields, settings, tmp_path):
    query, table, body = fields
    names = ",".join([*query.columns, skyserver.COUNT_COLUMN])
    for empty in (f"#Table1\n{names}\n", "No objects have been found\n"):
        both = query._replace(span=(151.0, 166.0))
        with Scripted((200, body), (200, empty)) as server:
            pd.testing.assert_frame_equal(whole(both, settings(server.url), tmp_path / empty[:3]), table)
        with Scripted((200, empty)) as server, pytest.raises(UserError, match=r"skyserver archive answered .* no rows"):
            whole(both, settings(server.url), tmp_path / f"{empty[:3]} twice")


def test_groups_of_columns_with_other_rows_are_never_joined(catalog, settings, tmp_path):
    query = build_query("galaxies", HERE)
    groups = skyserver._SkyServer(query, settings("http://127.0.0.1:1"), tmp_path).groups

    def answer(ids):
        def reply(sql):
            group = next(group for group in groups if ",".join(group.values()) in sql)
            table = pd.DataFrame({name: [0] * len(ids) for name in group}).assign(specObjID=ids)
            return 200, table.assign(**{skyserver.COUNT_COLUMN: len(ids)}).to_csv(index=False)

        return reply

    with Scripted(answer([1, 2]), answer([1, 3])) as server, pytest.raises(UserError, match="gave other rows"):
        skyserver.run_query(query, settings(server.url), tmp_path)
    with Scripted(answer([1, 2]), answer([1, 2]), answer([3]), answer([3])) as server:  # a later start asks anew
        assert sorted(skyserver.run_query(query, settings(server.url), tmp_path).specObjID) == [1, 2, 3]
