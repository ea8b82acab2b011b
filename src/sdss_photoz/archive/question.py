"""What is asked of the archive's table services, and what comes back as CSV."""

import re
import shutil
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sdss_photoz import files, tables
from sdss_photoz.errors import UserError

TEXT = ("class", "subClass", "targettype", "spectrotype", "zi_subclass", "strip")  # columns that hold words
KEYS = {"galaxies": ("specObjID", "po"), "fields": ("fieldID", "fr")}
QUERIES = {"galaxies": "extended", "fields": "fields"}
FIELD_RADIUS = 0.2  # degrees: half of a field's diagonal (0.14) and of a cube's


class Question(NamedTuple):
    """One query of the archive.

    Attributes
    ----------
    name : str
        "galaxies" or "fields".
    sql : str
        ``SELECT … INTO mydb.… FROM … WHERE …`` as CasJobs takes it; it ends in the WHERE clause.
    key : str
        A column of the answer with another whole number in each row: answers are paged and ordered by it.
    longitude : str
        The right ascension in terms of the query's tables, by which it may be cut into parts.
    span : tuple of float
        First and last right ascension (degrees) that rows may have; it may run through 360.
    """

    name: str
    sql: str
    key: str
    longitude: str
    span: tuple[float, float] = (0.0, 360.0)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that the outer SELECT asks for."""
        text = re.sub(r"--.*", "", self.sql)
        listed = re.sub(r"\([^()]*\)", "", text[text.index("SELECT") + 6 : text.index("INTO")])
        return [item.split()[-1].split(".")[-1] for item in listed.split(",")]

    @property
    def table(self) -> str:
        """Name of the table in MyDB that the query makes."""
        return re.search(r"INTO\s+mydb\.(\w+)", self.sql)[1]

    def line_of(self, complaint: str) -> str:
        """The line of the query with a name that a server's message quotes, in brackets; empty where there is none.

        The messages of SQL Server tell no line where a service passes on their text alone.
        """
        lines = re.sub(r"--.*", "", self.sql).split("\n")
        for name in re.findall(r"['\"]([\w.]+)['\"]", complaint):
            for number, line in enumerate(lines, 1):
                if re.search(rf"(?i)\b{re.escape(name)}\b", line):
                    return f" (line {number} of the query, {line.strip()!r})"
        return ""


def read_query(name: str) -> str:
    """Text of one of the shipped queries: ``paper``, ``extended`` or ``fields``."""
    return (resources.files("sdss_photoz.archive") / "queries" / f"{name}.sql").read_text(encoding="utf-8")


def ask_for(name: str, region=None) -> Question:
    """The question for the galaxies or the fields.

    Parameters
    ----------
    name : {"galaxies", "fields"}
        What is asked for.
    region : config.Region, optional
        A box that the galaxies lie in; fields that reach into it are asked for too.
    """
    key, table = KEYS[name]
    sql = read_query(QUERIES[name]).rstrip() + "\n"
    if region is None:
        return Question(name, sql, key, f"{table}.ra")
    bounds = region.box(0.0 if name == "galaxies" else FIELD_RADIUS)
    return Question(name, f"{sql}  AND {_inside(*bounds, table)}\n", key, f"{table}.ra", bounds[0])


def state_folder(question: Question, archive, folder) -> Path:
    """Where a door keeps what a later start goes on from: another one for another question or release."""
    asked = files.digest([question.sql, archive.service, archive.release])[:12]
    return Path(folder) / "queries" / f"{question.name}-{asked}"


def forget(folder, name: str) -> None:
    """Remove what doors kept of a question, once its answer is written."""
    for kept in (Path(folder) / "queries").glob(f"{name}-*"):
        shutil.rmtree(kept)


def room(folder):
    """A context that turns a full disk under a folder into a sentence for the user."""
    return files.full_disk_said(lambda _: f"the disk of {folder} is full: make room and run again; what came is kept.")


def _inside(ra, dec, table):
    """The condition that a table's ra and dec lie in a box (degrees) as `config.Region.box` gives it, to its digits."""
    (first, last), (low, high) = ra, dec
    condition = f"({table}.dec BETWEEN {low:.6f} AND {high:.6f})"
    if last - first >= 360:
        return condition
    join = "AND" if last < 360 else "OR"
    return f"({table}.ra >= {first:.6f} {join} {table}.ra <= {last % 360:.6f}) AND {condition}"


def read_answer(body: bytes) -> pd.DataFrame:
    """Read the CSV of a table service: a line ``#Table1`` may stand before the names of the columns.

    Returns
    -------
    DataFrame
        Words as text, an empty one where there is none; whole numbers int64; others float64.

    Raises
    ------
    ValueError
        Where it is not such a table.
    """
    table = tables.read_text(body, ",")
    if wrong := [name for name in table if not re.fullmatch(r"\w+", name)]:
        raise ValueError(f"its first line is {','.join(table)[:80]!r}, not the names of columns: {wrong[0][:40]!r}")
    words = {name.lower() for name in TEXT}
    for name in table:
        column = table[name]
        table[name] = column.where(tables.has_value(column), "") if name.lower() in words else tables.inferred(column)
    return table


def check_answer(question: Question, table: pd.DataFrame, service: str) -> pd.DataFrame:
    """Check what came back, and give it the query's names and order.

    Raises
    ------
    UserError
        Where a column is missing, there is no row, or an identifier is none of the survey's: a 64-bit one that comes
        as a float has lost its last digits.
    """
    given = {column.lower(): column for column in table.columns}
    missing = [column for column in question.columns if column.lower() not in given]
    if missing:
        raise UserError(
            f"the answer of the {service} archive to the query of {question.name} lacks the column {missing[0]}: "
            f"it has {', '.join(table.columns)}."
        )
    if table.empty:
        raise UserError(
            f"the {service} archive answered the query of {question.name} with no rows: check archive.release and "
            "archive.region."
        )
    table = table.rename(columns={given[column.lower()]: column for column in question.columns})[question.columns]
    identifiers = [(column, 1, 2**63 - 1) for column in question.columns if column.endswith("ID")]
    for column, low, high in [("run", 1, 0xFFFF), ("camcol", 1, 6), ("field", 0, 0xFFF), *identifiers]:
        values = table[column]
        numbers = pd.to_numeric(values, errors="coerce")
        sound = numbers.between(low, high) & (numbers % 1 == 0)
        if values.dtype.kind not in "iu" or not sound.all():
            found = f"of type {values.dtype}" if sound.all() else repr(str(values[~sound].iloc[0])[:40])
            raise UserError(
                f"the answer of the {service} archive to the query of {question.name} has {column} {found}, but the "
                f"survey's are whole numbers from {low} to {high}: it cannot be used; run again to ask anew."
            )
    return table.sort_values(question.key, kind="stable").reset_index(drop=True)
