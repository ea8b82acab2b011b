"""T-SQL as sent to CasJobs, answered by DuckDB.

sqlglot translates the syntax. What would pass silently with another meaning is mended here (comparison without case,
hexadecimal numbers, integer division, casts that truncate, double precision floats, aliases in WHERE) or refused by
name: a statement either means what it means in SQL Server or fails with one sentence.
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
    """A translated query: DuckDB's `sql`, the name after INTO (None without one), the columns' names as written."""

    sql: str
    into: str | None
    names: list[str]


def _parse(tsql):
    declared = re.search(r"(?im)^\s*(declare|set|exec|execute|use|go)\b", tsql)
    if declared:
        refuse(declared[1].upper())
    tsql = re.sub(r"(?i)(\bas\s+|\bconvert\s*\(\s*)real\b", r"\1float(24)", tsql)  # sqlglot takes real for float
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


def _mended(node):
    """What stands for a node in DuckDB, so that it has the meaning that it has in SQL Server."""
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
        return _mended(exp.Cast(this=node.expression, to=node.this))
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
        return exp.Literal.string(node.name.rstrip(" "))  # trailing blanks do not count
    return node


def _mend(tree):
    """Replace nodes by what stands for them, the innermost first."""
    for node in reversed(list(tree.walk())):
        parent = node.parent
        if parent is not None and (mended := _mended(node)) is not node:
            node.replace(mended)
    return tree


def _tables(connection):
    """Columns, in lower case, of every table of the database, by its name in lower case."""
    rows = connection.execute("SELECT table_name, column_name FROM information_schema.columns").fetchall()
    tables = {}
    for table, column in rows:
        tables.setdefault(table.lower(), set()).add(column.lower())
    return tables


def translate(connection, tsql: str, rows: int | None = None) -> Statement:
    """Translate one T-SQL query for DuckDB.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The database that will answer: its tables and columns are looked up.
    tsql : str
        One SELECT, as sent to CasJobs.
    rows : int, optional
        Most rows of the answer.

    Raises
    ------
    UserError
        What the embedded archive does not answer is named; so are unknown tables.
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
    tree = _mend(tree)
    if rows is not None:
        own = tree.args.get("limit")
        own = own and (own.args.get("count") or own.expression)  # of OFFSET … FETCH, of TOP
        tree = tree.limit(exp.func("least", own, exp.Literal.number(rows)) if own else rows)
    return Statement(tree.sql("duckdb", comments=False), into, names)


def _local_names(table):
    """Names, in lower case, of the common table expressions that a table of a query may stand for.

    DuckDB would look for a name that is none of them, nor a table, among files.
    """
    names, node = set(), table
    while (parent := node.parent) is not None:
        if isinstance(parent, exp.With):  # within the definition of one of them: those before it
            before = itertools.takewhile(lambda cte, node=node: cte is not node, parent.expressions)
            names.update(cte.alias.lower() for cte in before)
            parent = parent.parent
        elif isinstance(parent, exp.Query):
            names.update(cte.alias.lower() for cte in parent.ctes)
        node = parent
    return names


def _names_as_written(tree):
    """Names of the answer's columns, those without one as Column1, Column2, …; empty where a * stands for some."""
    if any(isinstance(p, exp.Star) or (isinstance(p, exp.Column) and p.is_star) for p in tree.selects):
        return []
    nameless = itertools.count(1)
    return [
        p.alias_or_name if isinstance(p, exp.Alias | exp.Column) else f"Column{next(nameless)}" for p in tree.selects
    ]


def _rename(given, statement):
    """Names of the answer's columns: DuckDB has the case of the table's, SQL Server that of the query."""
    if len(set(statement.names)) < len(given):  # a * or a repeated name
        return given
    return statement.names


def _names(connection):
    return {
        row[0] for row in connection.execute("SELECT DISTINCT table_name FROM information_schema.tables").fetchall()
    }


def _sentence(error):
    """One sentence for DuckDB's complaint about a query."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return (
            f"the query needs more than the {MEMORY} of memory that the embedded archive has: ask for fewer rows or "
            "columns at a time."
        )
    message = str(error).split("\n")[0].split(": ", 1)[-1].rstrip("!. ")
    near = re.search(r"Candidate bindings[: ]+(.*)", str(error))
    return f"the embedded archive cannot answer the query: {message}" + (f" (near: {near[1]})." if near else ".")


def _rows(connection, sql):
    """The answer as a table; whole numbers beside NULL stay whole (a float would round object ids)."""
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
def _asking(database):
    """A connection with the meaning of SQL Server; DuckDB's complaints become sentences."""
    opened = not isinstance(database, duckdb.DuckDBPyConnection)
    connection = connect(database) if opened else database
    try:
        connection.execute(_FUNCTIONS)
        yield connection
    except (duckdb.InterruptException, duckdb.InternalError):
        raise
    except duckdb.Error as error:
        raise UserError(_sentence(error)) from None
    finally:
        if opened:
            connection.close()


def run(database, tsql: str, rows: int | None = None) -> pd.DataFrame:
    """Answer one T-SQL query as the archive would.

    Parameters
    ----------
    database : str, Path or duckdb.DuckDBPyConnection
        The catalogue, opened read-only where it is a path; a connection is one of `connection.connect`.
    tsql : str
        One SELECT, as sent to CasJobs; rows of ``SELECT … INTO mydb.X`` are returned, not stored.
    rows : int, optional
        Most rows of the answer; others are left out.

    Returns
    -------
    DataFrame
        The rows; columns are named as in the query.

    Raises
    ------
    UserError
        One sentence: what is not understood, or the table, column or function that does not exist.
    """
    with _asking(database) as connection:
        statement = translate(connection, tsql, rows)
        table = _rows(connection, statement.sql)
        return table.set_axis(_rename(list(table), statement), axis=1)


def rows_into(database, tsql: str):
    """Answer one T-SQL query with rows that keep their types, for a table that is made of them.

    Parameters and errors are those of `run`.

    Returns
    -------
    pyarrow.Table
        The rows.
    str or None
        The name after INTO.
    """
    with _asking(database) as connection:
        statement = translate(connection, tsql)
        rows = connection.sql(statement.sql).to_arrow_table()
        return rows.rename_columns(_rename(rows.column_names, statement)), statement.into
