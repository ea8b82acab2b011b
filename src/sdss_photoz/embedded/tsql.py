"""Run T-SQL queries, as sent to CasJobs, in DuckDB.

sqlglot translates the syntax. Constructs that would silently change their meaning are converted here (case-insensitive
comparison, hexadecimal numbers, integer division, casts that truncate, double precision floats) or refused: a statement
either has its meaning in SQL Server or raises a `UserError`.
"""

import difflib
import itertools
import re
from contextlib import contextmanager
from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd
import sqlglot
from sqlglot import exp

from sdss_photoz.embedded.connection import MEMORY, connect
from sdss_photoz.embedded.refusals import ENUMERATIONS, check_aliases, check_constructs, check_into, refuse
from sdss_photoz.embedded.schema import PHOTO_TYPES
from sdss_photoz.errors import UserError

_INTEGERS = {exp.DType.TINYINT, exp.DType.SMALLINT, exp.DType.INT, exp.DType.BIGINT, exp.DType.UTINYINT}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In, exp.Between)
_TYPE_NAMES = " ".join(f"WHEN {value} THEN '{name}'" for name, value in PHOTO_TYPES.items())
_FUNCTIONS = f"""
CREATE OR REPLACE TEMP MACRO whole_of(x, kind) AS
  CASE WHEN typeof(kind) IN ('TINYINT', 'UTINYINT', 'SMALLINT', 'INTEGER', 'BIGINT') THEN trunc(x) ELSE x END;
CREATE OR REPLACE TEMP MACRO fDistanceArcMinEq(ra1, dec1, ra2, dec2) AS
  120 * degrees(asin(sqrt(pow(sin(radians(dec2 - dec1) / 2), 2)
    + cos(radians(dec1)) * cos(radians(dec2)) * pow(sin(radians(ra2 - ra1) / 2), 2))));
CREATE OR REPLACE TEMP MACRO fPhotoTypeN(kind) AS CASE kind {_TYPE_NAMES} END;
"""


class Statement(NamedTuple):
    """A translated query: `sql` for DuckDB, the name after INTO (None without one), column names as written."""

    sql: str
    into: str | None
    names: list[str]


def _parse(tsql):
    unsupported = re.search(r"(?im)^\s*(declare|set|exec|execute|use|go)\b", tsql)
    if unsupported:
        refuse(unsupported[1].upper())
    tsql = re.sub(r"(?i)(\bas\s+|\bconvert\s*\(\s*)real\b", r"\1float(24)", tsql)  # sqlglot reads real as float
    try:
        statements = [tree for tree in sqlglot.parse(tsql, read="tsql") if tree is not None]
    except sqlglot.errors.SqlglotError as error:
        message = re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()[0]
        raise UserError(f"the query is not T-SQL that the embedded archive understands: {message}") from None
    if len(statements) != 1:
        raise UserError(
            f"the embedded archive answers one SELECT at a time, but was sent {len(statements)} statements."
        )
    if not isinstance(statements[0], exp.Select | exp.Union):
        refuse(statements[0].key.upper())
    return statements[0]


def _converted(node):
    """Convert a node to one that has the same meaning in DuckDB as the node in SQL Server."""
    if isinstance(node, exp.HexString):
        return exp.Literal.number(int(node.name or "0", 16))
    if isinstance(node, exp.Dot) and node.this.name.lower() == "dbo":
        return node.expression
    if isinstance(node, exp.Anonymous) and node.name.lower() in ENUMERATIONS:
        values, key = ENUMERATIONS[node.name.lower()], next((value.name.upper() for value in node.expressions), "")
        if key not in values:
            near = difflib.get_close_matches(key, values, n=1)
            raise UserError(f"{node.name} knows no {key!r}" + (f": did you mean {near[0]!r}?" if near else "."))
        return exp.Literal.number(values[key])
    if isinstance(node, exp.Like):
        return exp.ILike(this=node.this, expression=node.expression)
    if isinstance(node, exp.Add) and any(side.is_string for side in (node.left, node.right)):
        return exp.DPipe(this=node.left, expression=node.right)
    if isinstance(node, exp.Convert):
        return _converted(exp.Cast(this=node.expression, to=node.this))
    if isinstance(node, exp.Cast):
        if node.to.this == exp.DType.FLOAT:
            bits = int(node.to.expressions[0].name) if node.to.expressions else 53
            return exp.cast(node.this, "double" if bits > 24 else "real", dialect="duckdb")
        if node.to.this in _INTEGERS and not node.this.is_string:
            return exp.Cast(this=exp.func("trunc", node.this), to=node.to)
    if isinstance(node, exp.Avg):
        return exp.func("whole_of", node.copy(), exp.Max(this=node.this.copy()))
    if isinstance(node, exp.Pow):
        return exp.func("whole_of", node.copy(), node.this.copy())
    if isinstance(node, exp.Literal) and node.is_string and isinstance(node.parent, _COMPARISONS):
        return exp.Literal.string(node.name.rstrip(" "))  # SQL Server ignores trailing blanks in comparisons
    return node


def _convert(tree):
    """Convert all nodes of a tree, the innermost first."""
    for node in reversed(list(tree.walk())):
        parent = node.parent
        if parent is not None and (converted := _converted(node)) is not node:
            node.replace(converted)
    return tree


def _tables(connection):
    """Return the columns of each table of the database; all names in lower case."""
    rows = connection.execute("SELECT table_name, column_name FROM information_schema.columns").fetchall()
    tables = {}
    for table, column in rows:
        tables.setdefault(table.lower(), set()).add(column.lower())
    return tables


def translate(connection, tsql: str, rows: int | None = None) -> Statement:
    """Translate a T-SQL query for DuckDB.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The database to query, for the names of its tables and columns.
    tsql : str
        One SELECT, as sent to CasJobs.
    rows : int, optional
        Largest number of rows of the result.

    Raises
    ------
    UserError
        If the query has an unsupported construct or an unknown table, which the message names.
    """
    tree = _parse(tsql)
    check_constructs(tree)
    names = _names_as_written(tree)
    tables = _tables(connection)
    named = {table.name.lower() for table in tree.find_all(exp.Table)}
    check_aliases(tree, set().union(*(tables[name] for name in named & tables.keys())))
    into = None
    for select in tree.find_all(exp.Select):
        if select.args.get("into") is not None:
            check_into(select)
            into = select.args["into"].this.name
            select.set("into", None)
    for table in tree.find_all(exp.Table):
        if table.name.lower() not in tables.keys() | _local_names(table):
            raise UserError(
                f"the embedded archive has no table {table.name}: it has {', '.join(sorted(_names(connection)))}."
            )
        table.set("db", None)
        table.set("catalog", None)
    tree = _convert(tree)
    if rows is not None:
        own = tree.args.get("limit")
        own = own and (own.args.get("count") or own.expression)  # of OFFSET … FETCH, of TOP
        tree = tree.limit(exp.func("least", own, exp.Literal.number(rows)) if own else rows)
    return Statement(tree.sql("duckdb", comments=False), into, names)


def _local_names(table):
    """Return the names, in lower case, of the common table expressions visible to a table reference.

    DuckDB would look for any other unknown name among files.
    """
    names, node = set(), table
    while (parent := node.parent) is not None:
        if isinstance(parent, exp.With):  # a common table expression sees those before it
            before = itertools.takewhile(lambda cte, node=node: cte is not node, parent.expressions)
            names.update(cte.alias.lower() for cte in before)
            parent = parent.parent
        elif isinstance(parent, exp.Query):
            names.update(cte.alias.lower() for cte in parent.ctes)
        node = parent
    return names


def _names_as_written(tree):
    """Return the names of the result's columns, Column1, Column2, … for unnamed ones; empty if there is a *."""
    if any(isinstance(p, exp.Star) or (isinstance(p, exp.Column) and p.is_star) for p in tree.selects):
        return []
    nameless = itertools.count(1)
    return [
        p.alias_or_name if isinstance(p, exp.Alias | exp.Column) else f"Column{next(nameless)}" for p in tree.selects
    ]


def _rename(given, statement):
    """Return the names of the result's columns as in the query; DuckDB gives them in the case of the tables."""
    if len(set(statement.names)) < len(given):  # a * or a repeated name
        return given
    return statement.names


def _names(connection):
    return {
        row[0] for row in connection.execute("SELECT DISTINCT table_name FROM information_schema.tables").fetchall()
    }


def _message(error):
    """Return the message for an error of DuckDB."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return (
            f"the query needs more than the {MEMORY} of memory that the embedded archive has: ask for fewer rows or "
            "columns at a time."
        )
    message = str(error).split("\n")[0].split(": ", 1)[-1].rstrip("!. ")
    near = re.search(r"Candidate bindings[: ]+(.*)", str(error))
    return f"the embedded archive cannot answer the query: {message}" + (f" (near: {near[1]})." if near else ".")


def _rows(connection, sql):
    """Run a query; integer columns with NULL stay integer, since float would round object ids."""
    table = connection.execute(sql).fetchdf()
    rounded = [
        name
        for name, (_, kind, *_) in zip(table, connection.description, strict=True)
        if str(kind) == "BIGINT" and table[name].dtype.kind == "f"
    ]
    if rounded:
        exact = connection.execute(sql).fetchnumpy()
        for name in rounded:
            table[name] = pd.arrays.IntegerArray(np.ma.getdata(exact[name]), np.ma.getmaskarray(exact[name]))
    return table


@contextmanager
def _connection(database):
    """Yield a connection that has the survey's functions; errors of DuckDB become a `UserError`."""
    opened = not isinstance(database, duckdb.DuckDBPyConnection)
    connection = connect(database) if opened else database
    try:
        connection.execute(_FUNCTIONS)
        yield connection
    except (duckdb.InterruptException, duckdb.InternalError):
        raise
    except duckdb.Error as error:
        raise UserError(_message(error)) from None
    finally:
        if opened:
            connection.close()


def run(database, tsql: str, rows: int | None = None) -> pd.DataFrame:
    """Run a T-SQL query as the archive would.

    Parameters
    ----------
    database : str, Path or duckdb.DuckDBPyConnection
        The catalogue: a path, opened read-only, or a connection of `connection.connect`.
    tsql : str
        One SELECT; rows of ``SELECT … INTO mydb.X`` are returned, not stored.
    rows : int, optional
        Largest number of rows of the result; further rows are dropped.

    Returns
    -------
    DataFrame
        Rows of the result; columns are named as in the query.

    Raises
    ------
    UserError
        If the query is not supported, or a table, column or function does not exist.
    """
    with _connection(database) as connection:
        statement = translate(connection, tsql, rows)
        table = _rows(connection, statement.sql)
        return table.set_axis(_rename(list(table), statement), axis=1)


def rows_into(database, tsql: str):
    """Run a T-SQL query and keep the column types, to store the rows as a table.

    Parameters and errors are those of `run`.

    Returns
    -------
    pyarrow.Table
        Rows of the result.
    str or None
        The name after INTO.
    """
    with _connection(database) as connection:
        statement = translate(connection, tsql)
        rows = connection.sql(statement.sql).to_arrow_table()
        return rows.rename_columns(_rename(rows.column_names, statement)), statement.into
