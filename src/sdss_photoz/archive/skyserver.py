"""The anonymous SkyServer, through astroquery: for users without an account.

It answers at most 500,000 rows, leaving others out without a word, in at most 600 s, to a query string of at most 2,048
characters, 60 times a minute. So the question is cut into ranges of right ascension, and into groups of columns where
its text is too long. Each answer tells beside its rows how many they should be; a range with too many, or one that
takes too long, is cut in two. Answers are kept one by one: a later start asks only for those that are missing.
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
from sdss_photoz.archive.http import CONNECT_SECONDS, PAGE, Answer, Faltering, Pace, check_status, insist, is_page
from sdss_photoz.archive.question import Question, read_answer, room, state_folder
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress

PART = 15.0  # degrees of right ascension: some 30,000 galaxies, 60,000 fields
NARROWEST = 0.01  # degrees: no narrower part is cut in two
LONGEST_QUERY_STRING = 2048  # characters
LONGEST_SILENCE = 630.0  # seconds: the server ends a query after 600 s, which it may spend in silence
COUNT = "rows_of_part"

_ANY_PART = (359.123456789012345, 359.234567890123456)  # no condition on right ascension is longer
_THROTTLED = re.compile(r"Maximum \d+ queries allowed per minute")
_TOO_SLOW = re.compile(  # a task that is canceled is the page's wait for the service behind it
    r"(?i)timeout expired|timed out|execution timeout|exceeded .{0,40}(seconds|time limit)|task was cancell?ed"
)
_WRAPPED = re.compile(r'"Error ?Message"\s*:\s*"((?:[^"\\]|\\.)*)"')  # in JSON, which may stand in a page
_SQL_ERROR = re.compile(r"Invalid (column|object) name|Incorrect syntax|could not be bound|Ambiguous column name")


class _TooMuch(Exception):
    """A part has more rows, or takes longer, than the server allows."""


def ask(question: Question, archive, folder) -> pd.DataFrame:
    """Ask the SkyServer; a question that an earlier start began goes on where that one ended.

    Parameters
    ----------
    question : Question
        What is asked.
    archive : config.Archive
        Address, release, pace and patience.
    folder : str or Path
        The run's archive folder; answers are kept in ``queries``, and requests of all processes are paced there.

    Returns
    -------
    DataFrame
        The rows of the one query, in any order.

    Raises
    ------
    UserError
        Where the server refuses the query (its own message, and the line), its answer lacks a column, or patience ends.
    """
    server = _SkyServer(question, archive, Path(folder))
    waiting, tables, rows = parts(question.span), [], 0
    with room(server.kept), progress(total=len(waiting), unit="part", label=f"query of {question.name}") as bar:
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
    """Ranges of right ascension (degrees) that a question is cut into: those of the whole circle that its span meets.

    A part holds its lower end, not its upper one; the first and the last of the circle are open to what lies beyond.
    """
    first, last = span[0] - 1e-5, span[1] + 1e-5  # the query's own bounds are rounded
    whole = [(PART * k, PART * (k + 1)) for k in range(round(360 / PART))]
    return [(low, high) for low, high in whole if any(low <= last - turn and first - turn < high for turn in (0, 360))]


def squeeze(sql: str) -> str:
    """The same query without comments, in one line with single blanks; what stands in quotes is left alone."""
    return re.sub(
        r"('(?:[^']|'')*')|(?:--[^\n]*|/\*.*?\*/|\s)+", lambda found: found[1] or " ", sql, flags=re.DOTALL
    ).strip()


def _items(listed):
    """The items of a SELECT list, cut at the commas outside of brackets."""
    depth, items = 0, [""]
    for character in listed:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return [item.strip() for item in items]


class _SkyServer:
    """One question on its way to the server.

    `groups` are the groups of columns that are asked for one by one, as {name: expression}, each with the key.
    """

    def __init__(self, question, archive, folder):
        self.question, self.archive = question, archive
        self.kept = state_folder(question, archive, folder)
        self.pace = Pace(folder / "queries", archive.queries_per_minute)
        listed, self.rest = re.fullmatch(r"SELECT (.*?) INTO mydb\.\w+ (FROM .*)", squeeze(question.sql)).groups()
        self.groups = self._group(dict(zip(question.columns, _items(listed), strict=True)))

    def _group(self, columns):
        key = {self.question.key: columns.pop(self.question.key)}
        groups = [dict(key)]
        for name, expression in columns.items():
            if not self._fits(groups[-1] | {name: expression}):
                groups.append(dict(key))
            groups[-1][name] = expression
        if not all(map(self._fits, groups)):
            raise UserError(
                f"the query of {self.question.name} is longer than the {LONGEST_QUERY_STRING} characters that the "
                "SkyServer takes: use CasJobs (archive.service: casjobs)."
            )
        return groups

    def _fits(self, group):
        payload = SDSS.query_sql_async(
            self._text(_ANY_PART, group), data_release=self.archive.release, get_query_payload=True
        )
        return len(urlencode(payload, quote_via=quote)) <= LONGEST_QUERY_STRING  # the page hands it on, blanks as %20

    def _text(self, part, group):
        """The query of one part and one group of columns."""
        (low, high), longitude = part, self.question.longitude
        bounds = [f" AND {longitude}>={low!r}"] * (low > 0) + [f" AND {longitude}<{high!r}"] * (high < 360)
        return f"SELECT {','.join(group.values())},COUNT(*) OVER () AS {COUNT} {self.rest}{''.join(bounds)}"

    def rows(self, part) -> pd.DataFrame | None:
        """All rows of a part, from disk where it was asked before; None where it must be cut in two."""
        low, high = part
        cut = self.kept / f"{low!r}-{high!r}.cut"
        if cut.exists():
            return None
        try:
            return self._joined(part)
        except _TooMuch as reason:
            if high - low <= NARROWEST:
                raise UserError(
                    f"the SkyServer cannot answer the query of {self.question.name} even for right ascensions from "
                    f"{low:.6g} to {high:.6g} alone: {reason}; use CasJobs (archive.service: casjobs)."
                ) from None
            files.write_text(cut, f"{reason}\n")
            return None

    def _joined(self, part):
        key = self.question.key
        joined = self._answer(part, self.groups[0])
        if joined.empty:
            return pd.DataFrame(columns=self.question.columns)
        for group in self.groups[1:]:
            table = self._answer(part, group)
            if not joined[key].is_unique or set(joined[key]) != set(table[key]) or len(joined) != len(table):
                for group in self.groups:
                    self._path(part, group).unlink(missing_ok=True)
                raise UserError(
                    f"the SkyServer gave other rows for other columns of the query of {self.question.name}, right "
                    f"ascensions from {part[0]:g} to {part[1]:g}: run again, this part is asked anew."
                )
            joined = joined.merge(table, on=key)
        return joined[self.question.columns]

    def _path(self, part, group):
        return self.kept / f"{part[0]!r}-{part[1]!r}-{files.digest(self._text(part, group))[:12]}.parquet"

    def _answer(self, part, group):
        path = self._path(part, group)
        if path.exists():
            return pd.read_parquet(path)
        archive, text = self.archive, self._text(part, group)
        label = f"query of {self.question.name}, right ascensions {part[0]:g} to {part[1]:g}"
        silence = [archive.timeout_seconds]

        def attempt():
            self.pace.wait()
            try:
                with astroquery_conf.set_temp("skyserver_baseurl", archive.skyserver.rstrip("/")):
                    response = SDSS.query_sql_async(
                        text, data_release=archive.release, cache=False, timeout=(CONNECT_SECONDS, silence[0])
                    )
            except requests.Timeout:
                silence[0] = min(2 * silence[0], max(LONGEST_SILENCE, archive.timeout_seconds))  # it may be at work
                raise
            return self._table(response, list(group))

        table = insist(attempt, archive.skyserver, archive, label)
        count = table.pop(COUNT).max() if len(table) else 0
        if len(table) < count:
            raise _TooMuch(f"{len(table):,} of its {count:,} rows came")
        files.write_parquet(path, table)
        return table

    def _table(self, response, names):
        """The rows of an answer; what is none is told from what may pass, and from what is too much."""
        head = response.content[:4000].decode("utf-8", "replace").lstrip("\ufeff \r\n")
        if throttled := _THROTTLED.search(head):
            raise Faltering(throttled[0])
        if complaint := _complaint(head):
            if _TOO_SLOW.search(complaint):
                raise _TooMuch(complaint)
            raise UserError(
                f"the SkyServer refuses the query of {self.question.name}: {complaint}"
                f"{self.question.line_of(complaint)}"
            )
        said = _message(head)[:300]
        check_status(Answer(response.status_code, response.headers, response.content, response.reason), said)
        if response.status_code != 200:
            raise UserError(
                f"the SkyServer at {self.archive.skyserver} answered HTTP {response.status_code} {response.reason} to "
                f"the query of {self.question.name}: check archive.skyserver and archive.release."
            )
        if is_page(response.content):
            raise Faltering(f"{PAGE} instead of a table: {said!r}")
        if head.startswith("No objects have been found"):
            return pd.DataFrame(columns=names)
        try:
            table = read_answer(response.content)
        except ValueError as error:
            raise Faltering(f"what came is no table: {error}") from None
        given = {column.lower(): column for column in table}
        if missing := [name for name in (*names, COUNT) if name.lower() not in given]:
            raise UserError(
                f"the answer of the skyserver archive to the query of {self.question.name} lacks the column "
                f"{missing[0]}: it has {', '.join(table)}."
            )
        return table.rename(columns={given[name.lower()]: name for name in (*names, COUNT)})[[*names, COUNT]]


def _words(page):
    """The text of a page, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def _message(page):
    """What an answer that is no table says, in one line: the words of the service alone, where it wraps them."""
    wrapped = _WRAPPED.search(page)
    return _words(re.sub(r"\\[rnt]", " ", wrapped[1]).replace(r"\"", '"') if wrapped else page)


def _complaint(head):
    """The message of a refused query in one line, as text or in a page; empty where there is none."""
    message = ""
    if "error_message" in head:
        message = _words(head.split("error_message", 1)[1]).strip(" \"':,{}[]")
    elif head.startswith(("<", "{")) and (_SQL_ERROR.search(head) or _TOO_SLOW.search(head)):
        message = _message(head)
    return re.sub(r", Line 1\b", "", message)[:500]
