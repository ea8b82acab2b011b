"""Reading of tables from files: delimited text, parquet, FITS, VOTable and ECSV."""

import bz2
import csv
import gzip
import io
import lzma
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from sdss_photoz.errors import UserError

NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf(inity)?))$"  # in a table, also inf
_DELIMITERS = (",", ";", "\t", "|")
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_CONVERT = {
    b"\x89HDF": "HDF5: write its table as parquet first, with pandas.read_hdf(…).to_parquet(…)",
    b"PK\x03\x04": "a spreadsheet or zip archive: unpack it, or export it as CSV with the identifiers as text",
    b"\xd0\xcf\x11\xe0": "a spreadsheet: export it as CSV with the identifiers as text",
}
_NULLABLE = {
    **{
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
    },
    **{pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype()},
    **{pa.uint32(): pd.UInt32Dtype(), pa.uint64(): pd.UInt64Dtype()},
}


def read(path) -> pd.DataFrame:
    """Read a table; its format follows from its content, then from its name.

    Parameters
    ----------
    path : str or Path
        Delimited text (comma, semicolon, tab, bar or spaces; names in the first line, or in a line of comments above
        the first row), also gzip, bzip2 or xz; parquet; FITS; VOTable; ECSV.

    Returns
    -------
    DataFrame
        Columns of delimited text are text as written, missing between two adjacent delimiters. Other formats keep
        their types; integers with missing values are nullable.

    Raises
    ------
    UserError
        If the file is missing or no such table, a row has another length, or a column name is duplicated.
    """
    path = Path(path)
    kind = "CSV"
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        opener = next((found for magic, found in _COMPRESSED.items() if start.startswith(magic)), open)
        with opener(path, "rb") as file:
            head = file.read(4096)
        kind = _kind(head, path)
        if kind == "parquet":
            return _from_parquet(pq.read_table(path))
        if kind != "CSV":
            return _from_astropy(path, kind)
        with opener(path, "rb") as file:
            return read_text(file.read())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give the path of a table.") from None
    except (OSError, ValueError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as a {kind} table ({reason[:300].rstrip('.')}).") from None


def _kind(head: bytes, path: Path) -> str:
    names = {suffix.lower() for suffix in path.suffixes}
    for magic, what in _CONVERT.items():
        if head.startswith(magic):
            raise UserError(f"{path} is {what}.")
    if head.startswith(b"PAR1") or names & {".parquet", ".parq", ".pq"}:
        return "parquet"
    if head.startswith(b"SIMPLE  =") or names & {".fits", ".fit"}:
        return "FITS"
    if b"<VOTABLE" in head or names & {".vot", ".votable"}:
        return "VOTable"
    return "ECSV" if head.startswith(b"# %ECSV") else "CSV"


def _from_parquet(table: pa.Table) -> pd.DataFrame:
    """All columns, also those that pandas stored as an index; integers with missing values do not become doubles."""
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    _check_unique(names)
    columns = {}
    for name in names:
        column = table[name]
        gaps = pa.types.is_integer(column.type) and column.null_count
        columns[name] = column.to_pandas(types_mapper=_NULLABLE.get if gaps else None)
    return pd.DataFrame(columns)


def _check_unique(names: list[str]) -> None:
    duplicate = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if duplicate:
        raise ValueError(f"the name {duplicate!r} stands twice in its header: rename one of the columns")


def _from_astropy(path: Path, kind: str) -> pd.DataFrame:
    """Read a table with astropy; columns of arrays become columns of lists."""
    from astropy.table import Table

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            options = {"FITS": "fits", "VOTable": "votable", "ECSV": "ascii.ecsv"}
            found = Table.read(path, format=options[kind])
        except Exception as error:  # parsers raise errors of many types
            raise ValueError(str(error)) from None
    if any("multiple tables are present" in str(warning.message) for warning in caught):
        raise ValueError("it holds several tables: write the one that is meant to a file of its own")
    found.convert_bytestring_to_unicode()
    wide = [name for name in found.colnames if found[name].ndim > 1]
    table = found[[name for name in found.colnames if name not in wide]].to_pandas()
    for name in wide:
        table[name] = list(np.ma.filled(found[name].astype(float), np.nan))
    return table[found.colnames]


def read_text(body: bytes, delimiter: str | None = None) -> pd.DataFrame:
    """Parse delimited text, every column as text; by default the delimiter is detected in the first line.

    Comment lines that begin with ``#`` may precede the table. If its first row holds numbers, the column names are in
    the last comment line with a word for each column, as LePhare and EAZY write it.

    Returns
    -------
    DataFrame
        Text as written; missing between two adjacent delimiters.

    Raises
    ------
    ValueError
        With one clause about what is wrong; for rows of another length the number of the first, counted from 1.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in body:
        raise ValueError("it is not text in UTF-8")
    comments, body = _without_comments(body)
    line, _, rows = body.partition(b"\n")
    first = _decoded(line)
    found = max(_DELIMITERS, key=first.count)
    if delimiter is None and found not in first and len(first.split()) > 1:
        found, body = "\t", b"\n".join(b"\t".join(row.split()) for row in body.split(b"\n"))
        first, rows = "\t".join(first.split()), body.partition(b"\n")[2]
        comments = ["\t".join(comment.split()) for comment in comments]
    delimiter = delimiter or found
    names = _split(first, delimiter)
    if any(map(_is_number, names)):
        listed = [_split(comment, delimiter) for comment in comments]
        fitting = [words for words in listed if len(words) == len(names) and not any(map(_is_number, words))]
        if not fitting:
            raise ValueError(
                f"its first line holds numbers, {first.strip()[:60]!r}, and no line of comments above has a name for "
                f"each of its {len(names)} columns: write their names above"
            )
        names, rows = fitting[-1], body
    if not any(names):
        raise ValueError("its first line is empty, not the names of columns")
    _check_unique(names)
    if body.count(b'"') % 2:
        raise ValueError("a quotation mark is not closed")
    return _parsed(rows, names, delimiter)


def _parsed(rows: bytes, names: list[str], delimiter: str) -> pd.DataFrame:
    if not rows.strip(b"\r\n"):
        return pd.DataFrame({name: pd.Series(dtype=str) for name in names})
    refused = []

    def refuse(row):
        refused.append(row)
        return "error"

    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(rows),
            pyarrow.csv.ReadOptions(column_names=names, use_threads=False),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if refused:
            row = refused[0]
            raise ValueError(
                f"row {row.number} has {row.actual_columns} values, the header {row.expected_columns} names: "
                f"{row.text[:80]!r}"
            ) from None
        raise ValueError("it is not text in UTF-8" if "UTF8" in str(error) else str(error)) from None
    return table.to_pandas()


def _without_comments(body: bytes) -> tuple[list[str], bytes]:
    """Split off the comment lines above a table; return them without ``#``, and the rest."""
    comments = []
    while body.startswith((b"#", b"\n", b"\r")):
        line, _, body = body.partition(b"\n")
        comments.append(_decoded(line).strip().lstrip("#").strip())
    return comments, body


def _decoded(line: bytes) -> str:
    try:
        return line.decode().rstrip("\r")
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None


def _split(line: str, delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]


def _is_number(word: str) -> bool:
    """Whether a word is a decimal number, or inf."""
    return bool(pc.match_substring_regex(word, NUMBER).as_py())
