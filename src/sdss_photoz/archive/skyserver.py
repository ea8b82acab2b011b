"""Queries through the SkyServer, which needs no account, with astroquery.

The server returns at most 500,000 rows and silently omits others, ends a query after 600 s, and takes query strings of
at most 2,048 characters, 60 times a minute. So a query is split into ranges of right ascension, and into groups of
columns if its text is too long. Each result also has the number of its rows; a range with too many, or one that takes
too long, is split in two. Results are kept one by one, so that a restarted run queries only the missing ones.
"""

import html
import re
from pathlib import Path
from urllib.parse import quote, urlencode

import pandas as pd
import requests
from astroquery.sdss import SDSS
from astroquery.sdss import conf as astroquery_conf

from sdss_photoz import files
from sdss_photoz.archive.http import (
    CONNECT_SECONDS,
    WEB_PAGE,
    RateLimiter,
    Response,
    TransientError,
    check_status,
    is_web_page,
    with_retries,
)
from sdss_photoz.archive.query import (
    Query,
    full_state_disk_as_user_error,
    one_line,
    read_result,
    state_folder,
    with_columns,
)
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress

PART_WIDTH = 15.0  # degrees of right ascension: some 30,000 galaxies, 60,000 fields
MIN_PART_WIDTH = 0.01  # degrees: narrower parts are not split
MAX_QUERY_STRING = 2048  # characters
MAX_READ_TIMEOUT = 630.0  # seconds: the server ends a query after 600 s, in which it may send nothing
COUNT_COLUMN = "rows_of_part"

_LONGEST_BOUNDS = (359.123456789012345, 359.234567890123456)  # has the longest condition on right ascension
_THROTTLED = re.compile(r"Maximum \d+ queries allowed per minute")
_TOO_SLOW = re.compile(  # a canceled task is the page's request to the service behind it
    r"(?i)timeout expired|timed out|execution timeout|exceeded .{0,40}(seconds|time limit)|task was cancell?ed"
)
_JSON_MESSAGE = re.compile(r'"Error ?Message"\s*:\s*"((?:[^"\\]|\\.)*)"')  # in JSON, also inside a page
_SQL_ERROR = re.compile(r"Invalid (column|object) name|Incorrect syntax|could not be bound|Ambiguous column name")


class _PartTooLarge(Exception):
    """A part has more rows, or takes longer, than the server allows."""


def run_query(query: Query, archive, folder) -> pd.DataFrame:
    """Run a query through the SkyServer, using results that an interrupted run left.

    Parameters
    ----------
    query : Query
        The query.
    archive : config.Archive
        Address, release, rate of requests and retries.
    folder : str or Path
        The run's archive folder: partial results and the time of the last request are kept in its ``queries``.

    Returns
    -------
    DataFrame
        The rows of the query, in any order.

    Raises
    ------
    UserError
        If the server refuses the query (with its message, and the line), a column is missing from the result, or
        retries end.
    """
    server = _SkyServer(query, archive, Path(folder))
    waiting, tables, rows = parts(query.span), [], 0
    with (
        full_state_disk_as_user_error(server.state),
        progress(total=len(waiting), unit="part", label=f"query of {query.name}") as bar,
    ):
        while waiting:
            part = waiting.pop(0)
            table = server.rows(part)
            if table is None:
                middle = sum(part) / 2
                waiting[:0] = [(part[0], middle), (middle, part[1])]
                bar.total += 1
                continue
            tables.append(table)
            rows += len(table)
            bar.set_postfix_str(f"{rows:,} rows", refresh=False)
            bar.update()
    filled = [table for table in tables if not table.empty]  # an empty one has no types to agree with
    return pd.concat(filled or tables[:1], ignore_index=True)


def parts(span=(0.0, 360.0)) -> list[tuple[float, float]]:
    """Ranges of right ascension (degrees) into which a query is split: those of the circle that overlap its span.

    A range includes its lower end and excludes its upper one; the first and the last of the circle are open.
    """
    first, last = span[0] - 1e-5, span[1] + 1e-5  # the query's bounds are rounded
    whole = [(PART_WIDTH * k, PART_WIDTH * (k + 1)) for k in range(round(360 / PART_WIDTH))]
    return [(low, high) for low, high in whole if any(low <= last - turn and first - turn < high for turn in (0, 360))]


class _SkyServer:
    """One query, split into parts and groups of columns.

    `groups` are the groups of columns that are queried separately, as {name: expression}, each with the key.
    """

    def __init__(self, query, archive, folder):
        self.query, self.archive = query, archive
        self.state = state_folder(query, archive, folder)
        self.limiter = RateLimiter(folder / "queries", archive.queries_per_minute)
        self.rest = re.fullmatch(r"SELECT .*? INTO mydb\.\w+ (FROM .*)", one_line(query.sql))[1]
        self.groups = self._group(dict(zip(query.columns, query.items, strict=True)))

    def _group(self, columns):
        key = {self.query.key: columns.pop(self.query.key)}
        groups = [dict(key)]
        for name, expression in columns.items():
            if not self._fits(groups[-1] | {name: expression}):
                groups.append(dict(key))
            groups[-1][name] = expression
        if not all(map(self._fits, groups)):
            raise UserError(
                f"the query of {self.query.name} is longer than the {MAX_QUERY_STRING} characters that the "
                "SkyServer takes: use CasJobs (archive.service: casjobs)."
            )
        return groups

    def _fits(self, group):
        payload = SDSS.query_sql_async(
            self._text(_LONGEST_BOUNDS, group), data_release=self.archive.release, get_query_payload=True
        )
        return len(urlencode(payload, quote_via=quote)) <= MAX_QUERY_STRING  # the page passes it on with blanks as %20

    def _text(self, part, group):
        """The query of one part and one group of columns."""
        (low, high), longitude = part, self.query.longitude
        bounds = [f" AND {longitude}>={low!r}"] * (low > 0) + [f" AND {longitude}<{high!r}"] * (high < 360)
        return f"SELECT {','.join(group.values())},COUNT(*) OVER () AS {COUNT_COLUMN} {self.rest}{''.join(bounds)}"

    def rows(self, part) -> pd.DataFrame | None:
        """All rows of a part, from disk if it was queried before; None if it must be split."""
        low, high = part
        cut = self.state / f"{low!r}-{high!r}.cut"
        if cut.exists():
            return None
        try:
            return self._joined(part)
        except _PartTooLarge as reason:
            if high - low <= MIN_PART_WIDTH:
                raise UserError(
                    f"the SkyServer cannot answer the query of {self.query.name} even for right ascensions from "
                    f"{low:.6g} to {high:.6g} alone: {reason}; use CasJobs (archive.service: casjobs)."
                ) from None
            files.write_text(cut, f"{reason}\n")
            return None

    def _joined(self, part):
        key = self.query.key
        joined = self._answer(part, self.groups[0])
        if joined.empty:
            return pd.DataFrame(columns=self.query.columns)
        for group in self.groups[1:]:
            table = self._answer(part, group)
            if not joined[key].is_unique or set(joined[key]) != set(table[key]) or len(joined) != len(table):
                for group in self.groups:
                    self._path(part, group).unlink(missing_ok=True)
                raise UserError(
                    f"the SkyServer gave other rows for other columns of the query of {self.query.name}, right "
                    f"ascensions from {part[0]:g} to {part[1]:g}: run again, this part is asked anew."
                )
            joined = joined.merge(table, on=key)
        return joined[self.query.columns]

    def _path(self, part, group):
        return self.state / f"{part[0]!r}-{part[1]!r}-{files.digest(self._text(part, group))[:12]}.parquet"

    def _answer(self, part, group):
        path = self._path(part, group)
        if path.exists():
            return pd.read_parquet(path)
        archive, text = self.archive, self._text(part, group)
        label = f"query of {self.query.name}, right ascensions {part[0]:g} to {part[1]:g}"
        read_timeout = [archive.timeout_seconds]

        def attempt():
            self.limiter.wait()
            try:
                with astroquery_conf.set_temp("skyserver_baseurl", archive.skyserver.rstrip("/")):
                    response = SDSS.query_sql_async(
                        text, data_release=archive.release, cache=False, timeout=(CONNECT_SECONDS, read_timeout[0])
                    )
            except requests.Timeout:
                read_timeout[0] = min(2 * read_timeout[0], max(MAX_READ_TIMEOUT, archive.timeout_seconds))
                raise
            return self._table(response, list(group))

        table = with_retries(attempt, archive.skyserver, archive, label)
        count = table.pop(COUNT_COLUMN).max() if len(table) else 0
        if len(table) < count:
            raise _PartTooLarge(f"{len(table):,} of its {count:,} rows came")
        files.write_parquet(path, table)
        return table

    def _table(self, response, names):
        """The rows of a response; raises TransientError, _PartTooLarge or UserError if it is none."""
        head = response.content[:4000].decode("utf-8", "replace").lstrip("\ufeff \r\n")
        if throttled := _THROTTLED.search(head):
            raise TransientError(throttled[0])
        if message := _query_error(head):
            if _TOO_SLOW.search(message):
                raise _PartTooLarge(message)
            raise UserError(
                f"the SkyServer refuses the query of {self.query.name}: {message}{self.query.line_of(message)}"
            )
        message = _message(head)[:300]
        check_status(Response(response.status_code, response.headers, response.content, response.reason), message)
        if response.status_code != 200:
            raise UserError(
                f"the SkyServer at {self.archive.skyserver} answered HTTP {response.status_code} {response.reason} to "
                f"the query of {self.query.name}: check archive.skyserver and archive.release."
            )
        if is_web_page(response.content):
            raise TransientError(f"{WEB_PAGE} instead of a table: {message!r}")
        if head.startswith("No objects have been found"):
            return pd.DataFrame(columns=names)
        try:
            table = read_result(response.content)
        except ValueError as error:
            raise TransientError(f"what came is no table: {error}") from None
        return with_columns(table, [*names, COUNT_COLUMN], self.query, "skyserver")


def _plain_text(page):
    """The text of a page without tags, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def _message(page):
    """The message of a response that is no table, in one line; that of the service alone if it is wrapped in JSON."""
    wrapped = _JSON_MESSAGE.search(page)
    return _plain_text(re.sub(r"\\[rnt]", " ", wrapped[1]).replace(r"\"", '"') if wrapped else page)


def _query_error(head):
    """The message of a refused query, as text or in a page, in one line; empty if there is none."""
    message = ""
    if "error_message" in head:
        message = _plain_text(head.split("error_message", 1)[1]).strip(" \"':,{}[]")
    elif head.startswith(("<", "{")) and (_SQL_ERROR.search(head) or _TOO_SLOW.search(head)):
        message = _message(head)
    return re.sub(r", Line 1\b", "", message)[:500]
