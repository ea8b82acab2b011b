"""Tables as astronomers keep them, read to the last digit; what marks a missing value is known here and nowhere else.

Delimited text is read as text, whatever it holds: a column becomes numbers where numbers are needed, with `measured`,
and identifiers with `identifiers`. So ``0266`` stays ``0266``, and no identifier passes through a double.
"""

import bz2
import csv
import difflib
import gzip
import io
import lzma
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from sdss_photoz.errors import UserError

NO_VALUE = ("", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "--")  # words for a missing value, in any case
_NINES = (9, 99, 99.9, 99.99, 999, 999.9, 9999, 99999)
FILLS = (  # numbers that stand for a missing value, where the quantity cannot have them
    -1,
    *(-value for value in _NINES),
    *_NINES,
    -9.999995e8,  # of the WFCAM and VISTA archives
    -1e30,
    -1.6375e30,  # of HEALPix maps
    np.inf,
    -np.inf,
)
IDENTIFIERS = (  # names of columns that identify a row, in any case of letters, the first that is there before others
    *("object_id", "objid", "photoobjid", "bestobjid", "dr8objid", "specobjid", "spec_id", "source_id", "targetid"),
    *("ident", "id"),
)
EXACT = 2**53  # above it a double does not hold every whole number
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf(inity)?))$"
_WHOLE = r"^[+-]?\d+$"
_IDENTIFIER = r"^-?(0|[1-9]\d*)$"
_ROUNDED = r"^[+-]?\d+(\.\d*[eE][+-]?|[eE]\+)\d+$"  # 1.23766E+18, as a spreadsheet writes an identifier
_NO_VALUE = pa.array({case(word) for word in (*NO_VALUE, "NaN") for case in (str, str.lower, str.upper, str.title)})
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


class Quantity(NamedTuple):
    """What a column of numbers measures: its name in the plural, and the values that it can have."""

    name: str
    low: float
    high: float
    unit: str = ""

    @property
    def allowed(self) -> str:
        """The values that it can have, in words."""
        return f"{self.low:g} to {self.high:g}{self.unit and ' ' + self.unit}"


REDSHIFT = Quantity("redshifts", -0.99, 30)
RA = Quantity("right ascensions", -360, 360, "degrees")
DEC = Quantity("declinations", -90, 90, "degrees")
EBV = Quantity("values of E(B-V)", 0, 50, "mag")
EXTINCTION = Quantity("extinctions", 0, 100, "mag")
MAGNITUDE = Quantity("magnitudes", -30, 50, "mag")


def read(path) -> pd.DataFrame:
    """Read a table; what it is follows from its content, then from its name.

    Parameters
    ----------
    path : str or Path
        Delimited text (comma, semicolon, tab, bar or spaces; names in the first line, or in a line of comments above
        the first row), also gzip, bzip2 or xz; parquet; FITS; VOTable; ECSV.

    Returns
    -------
    DataFrame
        Columns of delimited text are text as it was written, missing where nothing stands between two delimiters. Other
        formats keep their types; whole numbers with gaps are nullable integers.

    Raises
    ------
    UserError
        Where the file is missing or no such table; where a row has another length, or a name stands twice.
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
    """All columns, those that pandas kept as an index included; whole numbers with gaps do not become doubles."""
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    if twice := _first_twice(names):
        raise ValueError(f"the name {twice!r} stands twice in its header: rename one of the columns")
    columns = {}
    for name in names:
        column = table[name]
        gaps = pa.types.is_integer(column.type) and column.null_count
        columns[name] = column.to_pandas(types_mapper=_NULLABLE.get if gaps else None)
    return pd.DataFrame(columns)


def _first_twice(names):
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


def _from_astropy(path: Path, kind: str) -> pd.DataFrame:
    """A table of the formats that astropy reads; columns of arrays become columns of lists."""
    from astropy.table import Table

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            options = {"FITS": "fits", "VOTable": "votable", "ECSV": "ascii.ecsv"}
            found = Table.read(path, format=options[kind])
        except Exception as error:  # parsers of many formats raise of many kinds
            raise ValueError(str(error)) from None
    if any("multiple tables are present" in str(warning.message) for warning in said):
        raise ValueError("it holds several tables: write the one that is meant to a file of its own")
    found.convert_bytestring_to_unicode()
    wide = [name for name in found.colnames if found[name].ndim > 1]
    table = found[[name for name in found.colnames if name not in wide]].to_pandas()
    for name in wide:
        table[name] = list(np.ma.filled(found[name].astype(float), np.nan))
    return table[found.colnames]


def read_text(body: bytes, delimiter: str | None = None) -> pd.DataFrame:
    """Read delimited text, every column as text; where no delimiter is given the first line tells it.

    Lines that begin with ``#`` may stand above; where the first row then holds numbers, the last of them that has a
    word for each column names the columns, as LePhare and EAZY write it.

    Returns
    -------
    DataFrame
        Text as it was written; missing where nothing stands between two delimiters.

    Raises
    ------
    ValueError
        One clause that says what is wrong: of rows of another length the first by its number, counted from 1.
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
    if twice := _first_twice(names):
        raise ValueError(f"the name {twice!r} stands twice in its header: rename one of the columns")
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
    """The lines that begin with ``#`` above a table, without that sign; and the table from its first line on."""
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
    return bool(pc.match_substring_regex(word, _NUMBER).as_py())


def _text(column: pd.Series) -> pa.Array:
    """A column of text, without spaces round the values; null where a word for a missing value stands."""
    words = column if isinstance(column.dtype, pd.StringDtype) else column.map(str, na_action="ignore")
    words = pa.array(words, pa.string(), from_pandas=True)
    words = pc.utf8_trim_whitespace(words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words)
    return pc.if_else(pc.is_in(words, _NO_VALUE), None, words)


def _matches(words: pa.Array, pattern: str) -> np.ndarray:
    """Whether each word is of a pattern; those that are missing are not."""
    return pc.match_substring_regex(words, pattern).fill_null(False).to_numpy(zero_copy_only=False)


def has_value(column: pd.Series) -> np.ndarray:
    """Whether a word stands in each row of a column of text, (row,) bool."""
    return _text(column).is_valid().to_numpy(zero_copy_only=False)


def inferred(column: pd.Series) -> pd.Series:
    """A column of text as int64 (uint64 where it must be), float64 or, where a word is no number, as it is."""
    words = _text(column)
    values = _whole(words)
    if values is None:
        try:
            values = words.cast(pa.float64())
        except pa.ArrowInvalid:
            return column
    return pd.Series(values.to_numpy(zero_copy_only=False), index=column.index, dtype=values.type.to_pandas_dtype())


def _whole(words: pa.Array) -> pa.Array | None:
    """Words as int64 or, where one is above 2**63, as uint64; None where one is missing or another number."""
    if words.null_count or (len(words) and not _matches(words[:1], _WHOLE).all()):  # a cast that fails is slow
        return None
    if pc.any(pc.match_substring(words, "x", ignore_case=True)).as_py():  # 0x10 is no number here
        return None
    for kind in (pa.int64(), pa.uint64()):
        try:
            return words.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def numbers(table: pd.DataFrame, column: str, quantity: Quantity, name: str = "the table") -> np.ndarray:
    """A column as float64 (row,), missing values NaN, whatever else it holds.

    Raises
    ------
    UserError
        Where there is no such column, or a word in it is no number: the first by its row, counted from 1.
    """
    if column not in table:
        names = {str(there).lower(): there for there in table}
        near = difflib.get_close_matches(column.lower(), names, n=1, cutoff=0.4)
        hint = f"did you mean {names[near[0]]!r}?" if near else f"it has {', '.join(map(str, table)) or 'none'}."
        raise UserError(f"{name} has no column {column!r}, {quantity.name}: {hint}")
    values = table[column]
    if values.dtype.kind in "iuf":
        return values.to_numpy(np.float64, na_value=np.nan)
    words = _text(values)
    bad = np.flatnonzero(~_matches(words, _NUMBER) & words.is_valid().to_numpy(zero_copy_only=False))
    if bad.size:
        unit = f" ({quantity.unit})" if quantity.unit else ""
        raise UserError(
            f"column {column!r} of {name} holds text, {str(words[int(bad[0])])!r} in row {bad[0] + 1}, but "
            f"{quantity.name} are numbers{unit}: correct or drop such rows ({bad.size} of {len(words)})."
        )
    return words.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)


class Measured(NamedTuple):
    """A column of one quantity.

    Attributes
    ----------
    values : ndarray
        (row,) float64, NaN where the value is missing.
    missing : dict
        How many rows lack it, by what stands there: "no value", "-9999", …
    """

    values: np.ndarray
    missing: dict[str, int]


def measured(table: pd.DataFrame, column: str, quantity: Quantity, name: str = "the table") -> Measured:
    """A column as numbers of one quantity; fill values that it cannot have are missing, and counted.

    Raises
    ------
    UserError
        As of `numbers`, and where a number is neither one of the quantity nor a fill value: the first by its row.
    """
    values = numbers(table, column, quantity, name).copy()
    missing = {"no value": int(np.isnan(values).sum())}
    outside = ~np.isnan(values) & ~((values >= quantity.low) & (values <= quantity.high))
    for fill in FILLS:
        filled = outside & np.isclose(values, fill, rtol=1e-6, atol=0)  # also of single precision
        missing[f"{fill:.7g}"] = int(filled.sum())
        values[filled], outside = np.nan, outside & ~filled
    if bad := np.flatnonzero(outside).tolist():
        raise UserError(
            f"column {column!r} of {name} is {values[bad[0]]:.12g} in row {bad[0] + 1}, but {quantity.name} lie in "
            f"{quantity.allowed}, and it is no fill value that is known: correct or drop such rows "
            f"({len(bad)} of {len(values)})."
        )
    return Measured(values, {mark: count for mark, count in missing.items() if count})


def said(column: str, missing: dict[str, int]) -> str:
    """Of which rows a column lacks its value, in words."""
    marks = (
        f"has no value in {count}" if mark == "no value" else f"is {mark} in {count}" for mark, count in missing.items()
    )
    return f"{column} {' and '.join(marks)}"


def identifier_of(table: pd.DataFrame) -> str | None:
    """The column that identifies a table's rows: the first of `IDENTIFIERS` that it has, in any case of letters."""
    names = {str(column).lower(): column for column in reversed(list(table))}
    return next((names[name] for name in IDENTIFIERS if name in names), None)


def identifiers(table: pd.DataFrame, column: str, name: str = "the table") -> pd.Series:
    """A column of identifiers, to the last digit.

    Returns
    -------
    Series
        Whole numbers as int64, or uint64 where one is above 2**63; others, and those of text with gaps, as text; what
        was integers before as it is.

    Raises
    ------
    UserError
        Where one was rounded before it came here, by a spreadsheet or as a double: the first by its row.
    """
    values = table[column]
    if values.dtype.kind in "iu":
        return values if values.isna().any() else values.astype(values.dtype.name.lower())
    if values.dtype.kind == "f":
        given = values.to_numpy(np.float64, na_value=np.nan)
        bad = np.flatnonzero((np.abs(given) >= EXACT) | (np.isfinite(given) & (given % 1 != 0)))
        if not bad.size:
            return values.astype("Int64" if np.isnan(given).any() else np.int64)
        word = f"{given[bad[0]]:.17g}, a floating point number"
    else:
        words = _text(values)
        bad = np.flatnonzero(_matches(words, _ROUNDED))
        if not bad.size:
            return _whole_or_text(words, values)
        word = f"{words[int(bad[0])]}, rounded as a spreadsheet does"
    raise UserError(
        f"column {column!r} of {name} is {word}, in row {bad[0] + 1}: its last digits are lost ({bad.size} of "
        f"{len(values)} rows): export the identifiers anew as whole numbers or text, or drop the column."
    )


def _whole_or_text(words: pa.Array, values: pd.Series) -> pd.Series:
    """Text as whole numbers where that changes no character of it: a gap would make doubles of them in some readers."""
    whole = _whole(words) if _matches(words, _IDENTIFIER).all() else None
    return pd.Series((words if whole is None else whole).to_pandas().to_numpy(), index=values.index)
