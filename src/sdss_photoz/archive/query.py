"""The SQL queries of the archive's tables, and their results, which are CSV."""

import re
import shutil
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sdss_photoz import files, tables
from sdss_photoz.errors import UserError

TEXT_COLUMNS = ("class", "subClass", "targettype", "spectrotype", "zi_subclass", "strip")
KEYS = {"galaxies": ("specObjID", "po"), "fields": ("fieldID", "fr")}  # key column, alias of the table with ra and dec
QUERIES = {"galaxies": "extended", "fields": "fields"}  # files in queries/
IDENTIFIERS = ("objid", "specobjid", "bestobjid", "fieldid")
FIELD_RADIUS = 0.2  # degrees: half the diagonal of a field (0.14) plus half that of a cube


class Query(NamedTuple):
    """One query of the archive.

    Attributes
    ----------
    name : str
        "galaxies" or "fields".
    sql : str
        ``SELECT … INTO mydb.… FROM … WHERE …`` as CasJobs takes it; it ends in the WHERE clause.
    key : str
        A column of unique whole numbers, by which results are paged and ordered.
    longitude : str
        The right ascension as an expression of the query's tables, by which the query may be split.
    span : tuple of float
        First and last right ascension (degrees) of the rows; the last may be above 360.
    """

    name: str
    sql: str
    key: str
    longitude: str
    span: tuple[float, float] = (0.0, 360.0)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the outer SELECT."""
        return [item.split()[-1].split(".")[-1] for item in self.items]

    @property
    def items(self) -> list[str]:
        """The items of the outer SELECT, without comments."""
        depth, items = 0, [""]
        for character in re.match(r"SELECT (.*?) INTO mydb\.", one_line(self.sql))[1]:
            depth += (character == "(") - (character == ")")
            if character == "," and depth == 0:
                items.append("")
            else:
                items[-1] += character
        return [item.strip() for item in items]

    @property
    def table(self) -> str:
        """Name of the table in MyDB that the query creates."""
        return re.search(r"INTO\s+mydb\.(\w+)", self.sql)[1]

    def line_of(self, message: str) -> str:
        """The first line of the query with a name that a server's error message quotes, in brackets; else empty.

        Services pass on SQL Server's messages without its line numbers.
        """
        lines = re.sub(r"--.*", "", self.sql).split("\n")
        for name in re.findall(r"['\"]([\w.]+)['\"]", message):
            for number, line in enumerate(lines, 1):
                if re.search(rf"(?i)\b{re.escape(name)}\b", line):
                    return f" (line {number} of the query, {line.strip()!r})"
        return ""


def read_query(name: str) -> str:
    """Read one of the package's queries: ``paper``, ``extended`` or ``fields``."""
    return (resources.files("sdss_photoz.archive") / "queries" / f"{name}.sql").read_text(encoding="utf-8")


def build_query(name: str, region=None) -> Query:
    """Build the query of the galaxies or the fields.

    Parameters
    ----------
    name : {"galaxies", "fields"}
        Which table to query.
    region : config.Region, optional
        A box on the sky: galaxies in it, or fields that overlap it.
    """
    key, table = KEYS[name]
    query = Query(name, read_query(QUERIES[name]).rstrip() + "\n", key, f"{table}.ra")
    return limited(query, region, f"{table}.dec")


def limited(query: Query, region, latitude: str) -> Query:
    """Limit a query to a region, if there is one; `latitude` is the declination as an expression of its tables."""
    if region is None:
        return query
    bounds = region.box(0.0 if query.name == "galaxies" else FIELD_RADIUS)
    sql = f"{query.sql}  AND {_inside(*bounds, query.longitude, latitude)}\n"
    return query._replace(sql=sql, span=bounds[0])


def one_line(sql: str) -> str:
    """The query on one line, without comments and with single blanks; quoted text stays as it is."""
    return re.sub(
        r"('(?:[^']|'')*')|(?:--[^\n]*|/\*.*?\*/|\s)+", lambda found: found[1] or " ", sql, flags=re.DOTALL
    ).strip()


def state_folder(query: Query, archive, folder) -> Path:
    """Folder of the partial results of a query, from which a restarted run continues.

    Its name depends on the query, the service and the release.
    """
    digest = files.digest([query.sql, archive.service, archive.release])[:12]
    return Path(folder) / "queries" / f"{query.name}-{digest}"


def remove_state(folder, name: str) -> None:
    """Remove the state folders of a query, once its result is written."""
    for state in (Path(folder) / "queries").glob(f"{name}-*"):
        shutil.rmtree(state)


def full_state_disk_as_user_error(folder):
    """Context that converts the error of a full disk to a `UserError` that names the folder."""
    sentence = f"the disk of {folder} is full: make room and run again; what came is kept."
    return files.full_disk_as_user_error(lambda _: sentence)


def _inside(ra, dec, longitude, latitude):
    """SQL condition that a position lies in a box (degrees) as `config.Region.box` returns it."""
    (first, last), (low, high) = ra, dec
    condition = f"({latitude} BETWEEN {low:.6f} AND {high:.6f})"
    if last - first >= 360:
        return condition
    join = "AND" if last < 360 else "OR"
    return f"({longitude} >= {first:.6f} {join} {longitude} <= {last % 360:.6f}) AND {condition}"


def read_result(body: bytes) -> pd.DataFrame:
    """Parse the CSV of a table service; a line ``#Table1`` may precede the header.

    Returns
    -------
    DataFrame
        `TEXT_COLUMNS` as text, empty where missing; whole numbers as int64; others as float64.

    Raises
    ------
    ValueError
        If it is not such a table.
    """
    table = tables.read_text(body, ",")
    if wrong := [name for name in table if not re.fullmatch(r"\w+", name)]:
        raise ValueError(f"its first line is {','.join(table)[:80]!r}, not the names of columns: {wrong[0][:40]!r}")
    words = {name.lower() for name in TEXT_COLUMNS}
    for name in table:
        column = table[name]
        table[name] = column.where(tables.has_value(column), "") if name.lower() in words else tables.inferred(column)
    return table


def with_columns(table: pd.DataFrame, names: list[str], query: Query, service: str) -> pd.DataFrame:
    """The columns of a result under these names, whatever the case of its own.

    Raises
    ------
    UserError
        If a column is missing.
    """
    given = {column.lower(): column for column in table.columns}
    if missing := [name for name in names if name.lower() not in given]:
        raise UserError(
            f"the answer of the {service} archive to the query of {query.name} lacks the column {missing[0]}: "
            f"it has {', '.join(table.columns)}."
        )
    return table.rename(columns={given[name.lower()]: name for name in names})[names]


def check_result(query: Query, table: pd.DataFrame, service: str) -> pd.DataFrame:
    """Check a result; return it with the query's column names and order, sorted by the key.

    Raises
    ------
    UserError
        If a column is missing, there is no row, or an identifier is not a valid whole number: a 64-bit identifier that
        was a float has lost its last digits.
    """
    table = with_columns(table, query.columns, query, service)
    if table.empty:
        raise UserError(
            f"the {service} archive answered the query of {query.name} with no rows: check archive.release and "
            "archive.region."
        )
    numbers_of = {"run": (1, 0xFFFF), "camcol": (1, 6), "field": (0, 0xFFF)} | dict.fromkeys(
        IDENTIFIERS, (1, 2**63 - 1)
    )
    for column in (column for column in query.columns if column.lower() in numbers_of):
        low, high = numbers_of[column.lower()]
        values = table[column]
        numbers = pd.to_numeric(values, errors="coerce")
        sound = numbers.between(low, high) & (numbers % 1 == 0)
        if values.dtype.kind not in "iu" or not sound.all():
            found = f"of type {values.dtype}" if sound.all() else repr(str(values[~sound].iloc[0])[:40])
            raise UserError(
                f"the answer of the {service} archive to the query of {query.name} has {column} {found}, but the "
                f"survey's are whole numbers from {low} to {high}: it cannot be used; run again to ask anew."
            )
    return table.sort_values(query.key, kind="stable").reset_index(drop=True)
