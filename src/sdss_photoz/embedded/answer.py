"""Answers of the embedded archive as the survey's services print them."""

import io

import numpy as np
import pandas as pd

DIGITS = {"float32": "%.7g", "float64": "%.15g"}  # of SQL Server's real and float, as both services print them


def to_csv(table: pd.DataFrame) -> str:
    """A table as CSV: names, then rows, floating-point numbers with the digits of the services, NULL as ``null``.

    Digits as in the recorded replies: 0.04559058 (real) and 258.250803912329 (float).
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
    """Rows of a table as JSON has them: numbers with the digits of the services, NULL as None."""
    printed = {}
    for name in table:
        column = table[name]
        if str(column.dtype) in DIGITS:
            column = pd.Series([float(DIGITS[str(column.dtype)] % value) for value in column], dtype=float)
        values = column.astype(object)
        printed[name] = values.where(values.notna(), None).tolist()
    return [list(row) for row in zip(*printed.values(), strict=True)]
