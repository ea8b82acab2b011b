"""What SQL Server says where a query fails."""

import asyncio
import math
import re
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import duckdb

from sdss_photoz.embedded.connection import connect
from sdss_photoz.errors import UserError

WATCH = 0.05  # seconds
TIMEOUT = (
    "Timeout expired. The timeout period elapsed prior to completion of the operation or the server is not responding."
)
_COMPLAINTS = (  # the embedded archive's sentence, the number and the text of SQL Server's message
    (r'column "(\w+)" not found', 207, "Invalid column name '{}'."),
    (r'Column "(\w+)" referenced', 207, "Invalid column name '{}'."),
    (r'does not have a column named "(\w+)"', 207, "Invalid column name '{}'."),
    (r"(\w+) is an alias of the same SELECT", 207, "Invalid column name '{}'."),
    (r"has no table (.+): it has", 208, "Invalid object name '{}'."),
    (r'Cannot access file "(.+)"', 208, "Invalid object name '{}'."),
    (r"needs more than the (\w+) of memory", 701, "There is insufficient system memory to run this query."),
    (r'table "(\w+)" not found', 4104, 'The multi-part identifier "{}" could not be bound.'),
    (r"(Division by zero)", 8134, "Divide by zero error encountered."),
)


class SqlError(Exception):
    """A query failed; the text is the server's message."""


def message(error: UserError, sql: str) -> str:
    """SQL Server's message for a sentence of the embedded archive, with the line of the query that it is about.

    Sentences about what the embedded archive does not answer are passed on as they are.
    """
    for pattern, number, text in _COMPLAINTS:
        if found := re.search(pattern, str(error)):
            return f"Msg {number}, Level 16, State 1, Line {_line(found[1], sql)}: {text.format(found[1])}"
    if "is not T-SQL" in str(error):
        place = re.search(r"Line (\d+), Col: (\d+)", str(error))
        return (
            f"Msg 102, Level 15, State 1, Line {place[1] if place else 1}: Incorrect syntax near '{_near(place, sql)}'."
        )
    return str(error)


def _line(name, sql):
    """Number of the first line that has a name outside comments."""
    lines = re.sub(r"--.*", "", sql).split("\n")
    return next((i for i, line in enumerate(lines, 1) if re.search(rf"(?i)\b{re.escape(name)}\b", line)), 1)


def _near(place, sql):
    """The word before a place that sqlglot names by line and column."""
    if place is None:
        return ""
    words = sql.split("\n")[int(place[1]) - 1][: int(place[2])].split()
    return words[-1] if words else ""


@contextmanager
def messages(sql: str):
    """Turn sentences of the embedded archive into SQL Server's messages."""
    try:
        yield
    except UserError as error:
        raise SqlError(message(error, sql)) from None
    except duckdb.InterruptException:
        raise SqlError(TIMEOUT) from None


@contextmanager
def catalogue(path: Path, cancelled: threading.Event, seconds: float = math.inf):
    """A connection to the catalogue, whose query is interrupted when it is cancelled or after some seconds."""
    with connect(path) as connection, interrupted(connection, cancelled, seconds):
        yield connection


@contextmanager
def interrupted(connection: duckdb.DuckDBPyConnection, cancelled: threading.Event, seconds: float = math.inf):
    """Interrupt the query of a connection when it is cancelled or after some seconds."""
    ended, deadline = threading.Event(), time.monotonic() + seconds

    def watch():
        while not ended.wait(WATCH):  # DuckDB forgets an interruption that comes between two statements
            if time.monotonic() > deadline or cancelled.is_set():
                connection.interrupt()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


async def in_thread(ask, sql: str):
    """What `ask(sql, cancelled)` returns, in a thread; the query is cancelled where nobody waits for it any more.

    A client that has left, or a server that stops, must not leave queries behind: they would hold the few threads
    that answer every request.
    """
    cancelled = threading.Event()
    try:
        return await asyncio.to_thread(ask, sql, cancelled)
    finally:
        cancelled.set()
