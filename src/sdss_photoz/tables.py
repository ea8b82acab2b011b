"""Tables of users and archives: columns as numbers, quantities and identifiers; what marks a missing value is here.

Delimited text is read as text, whatever it holds. A column becomes numbers where numbers are needed, with `measured`,
and identifiers with `identifiers`. So ``0266`` stays ``0266``, and no identifier is ever converted to a double.
"""

import difflib
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sdss_photoz.errors import UserError
from sdss_photoz.table_files import NUMBER, read, read_text

__all__ = [
    "DEC",
    "EBV",
    "EXTINCTION",
    "IDENTIFIERS",
    "MAGNITUDE",
    "RA",
    "REDSHIFT",
    "Measured",
    "Quantity",
    "describe_missing",
    "has_value",
    "identifier_of",
    "identifiers",
    "inferred",
    "measured",
    "numbers",
    "read",
    "read_text",
]

MISSING_WORDS = ("", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "--")  # in any case
_NINES = (9, 99, 99.9, 99.99, 999, 999.9, 9999, 99999)
FILL_VALUES = (  # numbers that mark a missing value, unless the quantity can have them
    -1,
    *(-value for value in _NINES),
    *_NINES,
    -9.999995e8,  # of the WFCAM and VISTA archives
    -1e30,
    -1.6375e30,  # of HEALPix maps
    np.inf,
    -np.inf,
)
IDENTIFIERS = (  # names, in any case, of columns that identify a row; earlier ones have precedence
    *("object_id", "objid", "photoobjid", "bestobjid", "dr8objid", "specobjid", "spec_id", "source_id", "targetid"),
    *("ident", "id"),
)
MAX_EXACT_INTEGER = 2**53  # a double does not hold every whole number above it
_WHOLE = r"^[+-]?\d+$"
_IDENTIFIER = r"^-?(0|[1-9]\d*)$"
_ROUNDED = r"^[+-]?\d+(\.\d*[eE][+-]?|[eE]\+)\d+$"  # 1.23766E+18, as a spreadsheet writes an identifier
_MISSING_WORDS = pa.array(
    {case(word) for word in (*MISSING_WORDS, "NaN") for case in (str, str.lower, str.upper, str.title)}
)


class Quantity(NamedTuple):
    """A physical quantity: its name in the plural, its range of possible values and their unit."""

    name: str
    low: float
    high: float
    unit: str = ""

    @property
    def allowed(self) -> str:
        """The range of values with the unit, as text."""
        return f"{self.low:g} to {self.high:g}{self.unit and ' ' + self.unit}"


REDSHIFT = Quantity("redshifts", -0.99, 30)
RA = Quantity("right ascensions", -360, 360, "degrees")
DEC = Quantity("declinations", -90, 90, "degrees")
EBV = Quantity("values of E(B-V)", 0, 50, "mag")
EXTINCTION = Quantity("extinctions", 0, 100, "mag")
MAGNITUDE = Quantity("magnitudes", -30, 50, "mag")


def _text(column: pd.Series) -> pa.Array:
    """A column as text without surrounding spaces; null for missing values (`MISSING_WORDS`)."""
    words = column if isinstance(column.dtype, pd.StringDtype) else column.map(str, na_action="ignore")
    words = pa.array(words, pa.string(), from_pandas=True)
    words = pc.utf8_trim_whitespace(words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words)
    return pc.if_else(pc.is_in(words, _MISSING_WORDS), None, words)


def _matches(words: pa.Array, pattern: str) -> np.ndarray:
    """Whether each word matches a pattern, (row,) bool; False for null."""
    return pc.match_substring_regex(words, pattern).fill_null(False).to_numpy(zero_copy_only=False)


def has_value(column: pd.Series) -> np.ndarray:
    """Whether each row of a column of text has a value, (row,) bool."""
    return _text(column).is_valid().to_numpy(zero_copy_only=False)


def inferred(column: pd.Series) -> pd.Series:
    """A column of text as int64, uint64 (if a value needs it) or float64; unchanged if a word is no number."""
    words = _text(column)
    values = _whole(words)
    if values is None:
        try:
            values = words.cast(pa.float64())
        except pa.ArrowInvalid:
            return column
    return pd.Series(values.to_numpy(zero_copy_only=False), index=column.index, dtype=values.type.to_pandas_dtype())


def _whole(words: pa.Array) -> pa.Array | None:
    """Words as int64, or uint64 if one is 2**63 or more; None if one is missing or no whole number."""
    if words.null_count or (len(words) and not _matches(words[:1], _WHOLE).all()):  # a failing cast is slow
        return None
    if pc.any(pc.match_substring(words, "x", ignore_case=True)).as_py():  # a cast would accept 0x10
        return None
    for kind in (pa.int64(), pa.uint64()):
        try:
            return words.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def numbers(table: pd.DataFrame, column: str, quantity: Quantity, name: str = "the table") -> np.ndarray:
    """A column as float64 (row,), missing values NaN.

    Raises
    ------
    UserError
        If there is no such column, or a word is no number; it names the first row, counted from 1.
    """
    if column not in table:
        names = {str(known).lower(): known for known in table}
        near = difflib.get_close_matches(column.lower(), names, n=1, cutoff=0.4)
        hint = f"did you mean {names[near[0]]!r}?" if near else f"it has {', '.join(map(str, table)) or 'none'}."
        raise UserError(f"{name} has no column {column!r}, {quantity.name}: {hint}")
    values = table[column]
    if values.dtype.kind in "iuf":
        return values.to_numpy(np.float64, na_value=np.nan)
    words = _text(values)
    bad = np.flatnonzero(~_matches(words, NUMBER) & words.is_valid().to_numpy(zero_copy_only=False))
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
        Number of rows by what marks the missing value: "no value", "-9999", …
    """

    values: np.ndarray
    missing: dict[str, int]


def measured(table: pd.DataFrame, column: str, quantity: Quantity, name: str = "the table") -> Measured:
    """A column as values of one quantity; `FILL_VALUES` outside its range are missing, and counted.

    Raises
    ------
    UserError
        As `numbers`, and if a number is outside the range and no fill value; it names the first row.
    """
    values = numbers(table, column, quantity, name).copy()
    missing = {"no value": int(np.isnan(values).sum())}
    outside = ~np.isnan(values) & ~((values >= quantity.low) & (values <= quantity.high))
    for fill in FILL_VALUES:
        filled = outside & np.isclose(values, fill, rtol=1e-6, atol=0)  # also in single precision
        missing[f"{fill:.7g}"] = int(filled.sum())
        values[filled], outside = np.nan, outside & ~filled
    if bad := np.flatnonzero(outside).tolist():
        raise UserError(
            f"column {column!r} of {name} is {values[bad[0]]:.12g} in row {bad[0] + 1}, but {quantity.name} lie in "
            f"{quantity.allowed}, and it is no fill value that is known: correct or drop such rows "
            f"({len(bad)} of {len(values)})."
        )
    return Measured(values, {mark: count for mark, count in missing.items() if count})


def describe_missing(column: str, missing: dict[str, int]) -> str:
    """Describe the missing values of a column (`Measured.missing`) in words."""
    marks = (
        f"has no value in {count}" if mark == "no value" else f"is {mark} in {count}" for mark, count in missing.items()
    )
    return f"{column} {' and '.join(marks)}"


def identifier_of(table: pd.DataFrame) -> str | None:
    """The column that identifies a table's rows: the first of `IDENTIFIERS` that it has, in any case; else None."""
    names = {str(column).lower(): column for column in reversed(list(table))}
    return next((names[name] for name in IDENTIFIERS if name in names), None)


def identifiers(table: pd.DataFrame, column: str, name: str = "the table") -> pd.Series:
    """A column of identifiers, to the last digit.

    Returns
    -------
    Series
        Whole numbers as int64, or uint64 if one is 2**63 or more; others, and text with missing values, as text;
        integers unchanged.

    Raises
    ------
    UserError
        If one was rounded before, by a spreadsheet or as a double; it names the first row.
    """
    values = table[column]
    if values.dtype.kind in "iu":
        return values if values.isna().any() else values.astype(values.dtype.name.lower())
    if values.dtype.kind == "f":
        given = values.to_numpy(np.float64, na_value=np.nan)
        bad = np.flatnonzero((np.abs(given) >= MAX_EXACT_INTEGER) | (np.isfinite(given) & (given % 1 != 0)))
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
    """Text as whole numbers if no character changes; text with missing values stays, or readers make doubles of it."""
    whole = _whole(words) if _matches(words, _IDENTIFIER).all() else None
    return pd.Series((words if whole is None else whole).to_pandas().to_numpy(), index=values.index)
