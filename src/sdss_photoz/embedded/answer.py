"""Format query results of the embedded archive as the survey's services do."""

import io

import numpy as np
import pandas as pd

DIGITS = {"float32": "%.7g", "float64": "%.15g"}  # of SQL Server's real and float, as both services print them


def to_csv(table: pd.DataFrame) -> str:
    """Format a table as CSV: a header, floating-point numbers with the services' digits, NULL as ``null``.

    Digits are those of recorded replies: 0.04559058 (real) and 258.250803912329 (float).
    """
    printed = {}
    for name in table:
        column = table[name]
        if str(column.dtype) in DIGITS:
            values = np.char.mod(DIGITS[str(column.dtype)], column.to_numpy())
            printed[name] = np.where(column.isna(), "null", values) if column.isna().any() else values
        else:
            printed[name] = column
    text = io.StringIO()
    pd.DataFrame(printed).to_csv(text, index=False, na_rep="null", lineterminator="\n")
    return text.getvalue()


def to_values(table: pd.DataFrame) -> list[list]:
    """Convert a table to rows of JSON values: numbers with the services' digits, NULL as None."""
    printed = {}
    for name in table:
        column = table[name]
        if str(column.dtype) in DIGITS:
            column = pd.Series([float(DIGITS[str(column.dtype)] % value) for value in column], dtype=float)
        values = column.astype(object)
        printed[name] = values.where(values.notna(), None).tolist()
    return [list(row) for row in zip(*printed.values(), strict=True)]
