"""MyDB: the tables that batch queries made."""

import math
import re
import threading
import time
from contextlib import contextmanager

import pandas as pd
import pyarrow
from sqlglot import exp
from tests.services.server.sqlserver import SqlError, interrupted, messages

from sdss_photoz.embedded import tsql
from sdss_photoz.embedded.connection import connect

TICKS_OF_1970 = 621_355_968_000_000_000  # of 100 ns since the year 1
_DROP = re.compile(
    r"(?i)^\s*DROP\s+TABLE\s+(?P<exists>IF\s+EXISTS\s+)?(?:\[?\w+\]?\s*\.+\s*)*(?P<name>\w+|\[(?:[^\]]|\]\])+\])\s*;?\s*$"
)


def _quoted(name):
    """A table's name as DuckDB reads it: whatever it holds, it is a name."""
    return exp.to_identifier(name, quoted=True).sql("duckdb")


class MyDB:
    """A user's database, in memory; any thread may ask it.

    Parameters
    ----------
    seconds : float
        How long a query that waits for its answer may take.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._database = connect()
        self._made = {}  # name in lower case: name, date in ticks
        self._lock = threading.Lock()

    def close(self) -> None:
        """Forget all tables."""
        self._database.close()

    def make(self, name: str | None, rows: pyarrow.Table) -> str:
        """Make a table of rows; its name comes back: MyTable, MyTable_0, … for the answer of a query without INTO.

        Raises
        ------
        SqlError
            Where there is one of this name.
        """
        with self._lock:
            if name is None:
                names = ("MyTable", *(f"MyTable_{i}" for i in range(len(self._made) + 1)))
                name = next(free for free in names if free.lower() not in self._made)
            if name.lower() in self._made:
                raise SqlError(f"There is already an object named '{name}' in the database.")
            cursor = self._database.cursor()
            cursor.register("rows_of_a_job", rows)
            cursor.execute(f"CREATE TABLE {_quoted(name)} AS SELECT * FROM rows_of_a_job")
            cursor.unregister("rows_of_a_job")
            self._made[name.lower()] = name, TICKS_OF_1970 + time.time_ns() // 100
            return name

    def drop(self, name: str) -> bool:
        """Drop a table; False where there is none."""
        with self._lock:
            if name.lower() not in self._made:
                return False
            self._database.cursor().execute(f"DROP TABLE {_quoted(name)}")
            del self._made[name.lower()]
            return True

    def tables(self) -> list[dict]:
        """Date (ticks), Rows, Name and Size (kB) of every table, as the service lists them."""
        listed = []
        with self._lock:
            for name, date in self._made.values():
                rows = self._database.cursor().execute(f"SELECT COUNT(*) FROM {_quoted(name)}").fetchone()[0]
                listed.append({"Date": date, "Rows": rows, "Name": name, "Size": 16 * (1 + rows // 32)})
        return listed

    def ask(self, sql: str, cancelled: threading.Event) -> pd.DataFrame:
        """Answer one query, or drop a table.

        Raises
        ------
        SqlError
            SQL Server's message.
        """
        if dropped := _DROP.match(sql):
            name = dropped["name"]
            name = name[1:-1].replace("]]", "]") if name.startswith("[") else name
            if not self.drop(name) and not dropped["exists"]:
                raise SqlError(
                    f"Msg 3701, Level 11, State 5, Line 1: Cannot drop the table '{name}', because it does not exist "
                    "or you do not have permission."
                )
            return pd.DataFrame({"Rows Affected": [0]})
        with messages(sql), self._cursor(cancelled, self.seconds) as cursor:
            return tsql.run(cursor, sql)

    def rows_into(self, sql: str, cancelled: threading.Event):
        """Answer one query with rows that keep their types, and the name after INTO."""
        with messages(sql), self._cursor(cancelled) as cursor:
            return tsql.rows_into(cursor, sql)

    @contextmanager
    def _cursor(self, cancelled, seconds=math.inf):
        with self._database.cursor() as cursor, interrupted(cursor, cancelled, seconds):
            yield cursor
