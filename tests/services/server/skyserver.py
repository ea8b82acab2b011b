"""The SkyServer's page of SQL queries and its cross-identification, as astroquery calls them."""

import asyncio
import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from aiohttp import web
from scipy.spatial import cKDTree
from tests.services.server.faults import MAINTENANCE, html_page
from tests.services.server.limits import Limits, Throttle
from tests.services.server.sqlserver import SqlError, catalogue, in_thread, messages

from sdss_photoz.embedded import answer, tsql
from sdss_photoz.embedded.schema import TABLES
from sdss_photoz.surveys.sphere import unit_vectors

LONGEST_QUERY_STRING = 2048  # characters
LARGEST_RADIUS = 3.0  # arcmin, of a cross-identification
TOO_LONG = (
    "<html><head><title>The length of the query string for this request exceeds the configured maxQueryStringLength "
    "value.</title></head><body><h1>Server Error in '/dr{}' Application.</h1><h2><i>The length of the query string for "
    "this request exceeds the configured maxQueryStringLength value.</i></h2></body></html>\n"
)
BYTES = {"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8, "real": 4, "float": 8, "varchar": 32}
_COLUMNS_OF = re.compile(r"(?i)\s*select\s+\*\s+from\s+(?:dbo\.)?fDocColumns\(\s*'(\w+)'\s*\)\s*;?\s*")


class SkyServer:
    """The service."""

    def __init__(self, catalog: Path, release: int, limits: Limits):
        self.catalog, self.release, self.limits = catalog, release, limits
        self._throttle = Throttle(limits.queries_per_minute)

    def routes(self) -> list:
        """(method, path, kind, handler) of each call; handlers take (request, fault)."""
        page = f"/dr{self.release}/en/tools/search/"
        names = "{name:(?i:x_results[.]aspx)}"  # the real server knows no case
        return [("GET", page + names, "sql", self.search), ("POST", page + names, "sql", self.cross_identify)]

    async def search(self, request, fault):
        """Answer a query of SQL."""
        if len(request.rel_url.raw_query_string) > LONGEST_QUERY_STRING:
            return html_page(400, TOO_LONG.format(self.release))
        return await self._answer(request.query, self._search)

    async def cross_identify(self, request, fault):
        """Answer a query of objects near uploaded positions."""
        form = await request.post()
        asked = {"cmd": form.get("uquery", ""), "format": form.get("format", "csv")}
        return await self._answer(asked, lambda sql, cancelled: self._cross_identify(sql, form, cancelled))

    async def _answer(self, asked, ask):
        sql, kind = asked.get("cmd", ""), asked.get("format", "html").lower()
        if not self._throttle.admit():
            refused = f"ERROR: Maximum {self._throttle.per_minute} queries allowed per minute. Rejected query: {sql}"
            return web.Response(text=f'#Table1\n"{refused}"\n', content_type="text/plain")
        try:
            table = await in_thread(ask, sql)
        except SqlError as error:
            if kind == "csv":
                return web.Response(text=f'#Error\nerror_message\n"{error}"\n', content_type="text/plain")
            return html_page(200, MAINTENANCE.format(error))
        if kind == "json":
            rows = [dict(zip(table.columns, row, strict=True)) for row in answer.to_values(table)]
            return web.json_response(text=json.dumps([{"TableName": "Table1", "Rows": rows}], allow_nan=False))
        if kind == "csv":
            text = await asyncio.to_thread(answer.to_csv, table)
            return web.Response(text=f"#Table1\n{text}", content_type="text/plain")
        return html_page(200, table.to_html(index=False))

    def _search(self, sql, cancelled):
        if described := _COLUMNS_OF.fullmatch(sql):
            return _columns(described[1])
        if re.search(r"(?i)\binto\b", re.sub(r"--.*|'[^']*'", "", sql)):
            raise SqlError("SELECT INTO is not allowed: the SkyServer makes no tables.")
        with messages(sql), catalogue(self.catalog, cancelled, self.limits.seconds) as connection:
            return tsql.run(connection, sql, self.limits.rows)

    def _cross_identify(self, sql, form, cancelled):
        upload, radius = _read_upload(form)
        with messages(sql), catalogue(self.catalog, cancelled, self.limits.seconds) as connection:
            near = _near(connection, upload, min(radius, LARGEST_RADIUS), form.get("photoScope") == "nearPrim")
            tables = {"upload": upload, "x": near}
            for name, rows in tables.items():
                connection.register(f"rows_of_{name}", rows)
                connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM rows_of_{name}")
            return tsql.run(connection, re.sub(r"#(upload|x)\b", r"\1", sql), self.limits.rows)


def _columns(table):
    """The columns of a table, as ``fDocColumns`` describes them."""
    columns = {name.lower(): columns for name, columns in TABLES.items()}.get(table.lower(), {})
    rows = [
        {"enum": "", "name": name, "type": kind, "length": BYTES[kind], "unit": "", "ucd": "", "description": ""}
        for name, kind in columns.items()
    ]
    return pd.DataFrame(rows, columns=["enum", "name", "type", "length", "unit", "ucd", "description"])


def _read_upload(form):
    """Uploaded positions (up_id, up_name, up_ra, up_dec; degrees), and the radius around them (arcmin)."""
    try:
        upload, radius = form["upload"], float(form["radius"])
        text = upload.file.read().decode() if hasattr(upload, "file") else upload
        names, *lines = [line.split() for line in text.splitlines() if line.strip()]
        rows = pd.DataFrame(lines, columns=[name.lower() for name in names])
        places = {"up_ra": rows["ra"].astype(float), "up_dec": rows["dec"].astype(float)}
        if not np.isfinite([radius, *places["up_ra"], *places["up_dec"]]).all():
            raise ValueError
    except (ValueError, KeyError):
        raise SqlError("The upload has no radius, or no columns ra and dec with a number in each line.") from None
    given = rows.get("name", pd.Series(np.arange(len(rows)).astype(str)))
    return pd.DataFrame({"up_id": np.arange(1, len(rows) + 1), "up_name": given, **places}), radius


def _near(connection: duckdb.DuckDBPyConnection, upload, radius, nearest):
    """Objects within a radius (arcmin) of each position: up_id, objID; the nearest primary one, or all."""
    objects = connection.execute(
        f"SELECT objID, ra, dec FROM PhotoObjAll {'WHERE mode = 1' if nearest else ''} ORDER BY objID"
    ).fetchdf()
    tree = cKDTree(unit_vectors(objects["ra"], objects["dec"]))
    places = unit_vectors(upload["up_ra"], upload["up_dec"])
    chord = 2 * np.sin(np.radians(radius / 60) / 2)
    pairs = []
    for number, place in zip(upload["up_id"], places, strict=True):
        near = np.asarray(tree.query_ball_point(place, chord), dtype=np.int64)
        near = near[np.argsort(((tree.data[near] - place) ** 2).sum(axis=1), kind="stable")]
        pairs += [(number, index) for index in near[: 1 if nearest else None]]
    pairs = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return pd.DataFrame({"up_id": pairs[:, 0], "objID": objects["objID"].to_numpy()[pairs[:, 1]]})
