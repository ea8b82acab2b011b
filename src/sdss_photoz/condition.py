"""Conditions on the columns of a catalogue, and arithmetic with them, as users write them: read, never executed."""

import ast
import difflib
import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from sdss_photoz.errors import UserError
from sdss_photoz.tables import MAX_EXACT_INTEGER

FUNCTIONS = {"abs": np.abs, "log10": np.log10, "sqrt": np.sqrt}

_log = logging.getLogger(__name__)
_ARITHMETIC = {
    **{ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide},
    **{ast.Mod: np.mod, ast.Pow: np.power},
}
_COMPARISONS = {
    **{ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal},
    **{ast.Eq: np.equal, ast.NotEq: np.not_equal},
}
_EXAMPLE = "compare columns with numbers, as in 'z_spec > 0.05 and abs(ebv) < 0.1'"
_ARITHMETIC_EXAMPLE = "compute with columns and numbers, as in 'model_mag_g - model_mag_r'"


def fulfilled(text: str, table: pd.DataFrame, key: str) -> pd.arrays.BooleanArray:
    """Return for each row of a table whether it fulfils a condition.

    A condition is made of column names, numbers, text in quotes, comparisons (``0.1 < z_spec <= 0.3``), ``in [...]``,
    arithmetic (``+ - * / % **``, as float64), `FUNCTIONS`, and ``and``, ``or``, ``not`` or ``&``, ``|``, ``~``. A
    comparison with a missing value, or a result that is not finite, is unknown, and combines as NULL does in SQL.

    Parameters
    ----------
    text : str
        The condition.
    table : DataFrame
        n rows; columns of numbers or text.
    key : str
        Key of the configuration that holds the condition, for messages.

    Returns
    -------
    BooleanArray, shape (n,)
        True, False, or NA where unknown.

    Raises
    ------
    UserError
        If the text is no such condition, names no column or an unknown one, compares text with numbers, or computes
        with identifiers that float64 does not hold.
    """
    tree = parsed(text, key)
    try:
        with np.errstate(all="ignore"):
            return _Condition(text, table, key).truth(tree)
    except RecursionError:
        raise _error(text, key, "is nested too deeply: write it with fewer brackets") from None


def chosen(text: str, galaxies: pd.DataFrame, key: str) -> pd.arrays.BooleanArray:
    """Return which galaxies fulfil a condition, and log how many lack a value for it.

    Parameters and result are those of `fulfilled`.

    Raises
    ------
    UserError
        Also if no galaxy of a table that has some fulfils it.
    """
    found = fulfilled(text, galaxies, key)
    unknown = int(found.isna().sum())
    if unknown:
        _log.info("%s: %d of %d galaxies lack a value for it, and are left out", key, unknown, len(galaxies))
    if len(galaxies) and not found.any():
        lack = f", and {unknown} lack a value for it" if unknown else ""
        raise _error(text, key, f"none of {len(galaxies)} galaxies fulfils{lack}: loosen it")
    return found


def evaluated(text: str, table: pd.DataFrame, key: str) -> np.ndarray:
    """Return the value of an arithmetic expression for each row of a table.

    An expression is a column's name, or made of columns and numbers by arithmetic and `FUNCTIONS`, as in a condition
    (`fulfilled`).

    Parameters
    ----------
    text : str
        The expression.
    table : DataFrame
        n rows; columns of numbers or text.
    key : str
        Key of the configuration that holds the expression, for messages.

    Returns
    -------
    ndarray, shape (n,)
        float64; NaN or infinite where a value is missing or the arithmetic has no result.

    Raises
    ------
    UserError
        If the text is no such expression, names no column or an unknown one, or computes with text or identifiers.
    """
    tree = parsed(text, key, _ARITHMETIC_EXAMPLE)
    try:
        with np.errstate(all="ignore"):
            value = _Condition(text, table, key, _ARITHMETIC_EXAMPLE).number(tree)
    except RecursionError:
        raise _error(text, key, "is nested too deeply: write it with fewer brackets") from None
    return np.array(np.broadcast_to(value, (len(table),)), np.float64)


def columns_of(text: str, key: str) -> list[str]:
    """The columns that an expression names, each once; parameters and errors are those of `evaluated`."""
    return list(dict.fromkeys(_names(parsed(text, key, _ARITHMETIC_EXAMPLE))))


def check_names(text: str, columns: Iterable[str], key: str) -> None:
    """Refuse a condition that names none of the columns, or another one; parameters are those of `fulfilled`."""
    for name in _names(parsed(text, key)):
        if name not in columns:
            raise _unknown(name, columns, text, key)


def _names(tree: ast.expr) -> list[str]:
    """Names of columns in a condition: all but those of functions."""
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called]


def _unknown(name, columns, text, key):
    near = difflib.get_close_matches(name, columns, n=3)
    hint = f"did you mean {' or '.join(near)}? There are " if near else "there are "
    return _error(text, key, f"names {name}, but that is no column of the sample: {hint}{', '.join(columns)}")


def parsed(text: str, key: str, example: str = _EXAMPLE) -> ast.expr:
    """Parse a condition, without its columns; parameters and errors are those of `fulfilled`."""
    try:
        tree = ast.parse(f"({text}\n)", mode="eval").body  # within brackets a line may end anywhere
        names = _names(tree)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error) or "too long"
        raise _error(text, key, f"is no expression ({reason}): {example}") from None
    if not names:
        raise _error(text, key, f"names no column: {example}")
    return tree


def _error(text, key, problem):
    return UserError(f"{key} is {text!r}, which {problem}.")


class _Condition:
    """A condition and the table that it is evaluated on.

    Values are float64 or integer arrays (n,), numpy or Python numbers; text is a str, or an object array (n,).
    """

    def __init__(self, text, table, key, example=_EXAMPLE):
        self.text, self.table, self.key, self.example = text, table, key, example
        self.allowed, self.joined = "quoted text, comparisons, arithmetic", ", and, or, not, in [...]"
        if example is _ARITHMETIC_EXAMPLE:
            self.allowed, self.joined = "arithmetic", ""

    def error(self, problem):
        return _error(self.text, self.key, problem)

    def truth(self, node):
        """A part that is true or false, as BooleanArray (n,)."""
        match node:
            case ast.BoolOp(op=operator, values=parts):
                found = [self.truth(part) for part in parts]
                return self._joined(found, isinstance(operator, ast.And))
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr() as operator, left=left, right=right):
                return self._joined([self.truth(left), self.truth(right)], isinstance(operator, ast.BitAnd))
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self.truth(operand)
            case ast.Compare(left=left, ops=operators, comparators=others):
                sides = [left, *others]
                found = [
                    self._compared(first, operator, second)
                    for first, operator, second in zip(sides, operators, sides[1:], strict=False)
                ]
                return self._joined(found, every=True)
        part = ast.unparse(node)
        raise self.error(
            f"has {part!r} where something true or false must stand: {_EXAMPLE}, each comparison beside & and | in "
            "brackets"
        )

    def _joined(self, parts, every):
        found = parts[0]
        for part in parts[1:]:
            found = found & part if every else found | part
        return found

    def _compared(self, left, operator, right):
        """One comparison, unknown where a side is not finite or is missing."""
        first = self.value(left)
        if isinstance(operator, ast.In | ast.NotIn):
            found = self._listed(first, right)
            return ~found if isinstance(operator, ast.NotIn) else found
        second = self.value(right)
        if type(operator) not in _COMPARISONS:
            raise self.error("compares with 'is': write == or !=")
        part = f"{ast.unparse(left)} and {ast.unparse(right)}"
        if _is_text(first) != _is_text(second):
            raise self.error(f"compares {part}, of which one is text and one a number: {_EXAMPLE}")
        if _is_text(first) and not isinstance(operator, ast.Eq | ast.NotEq):
            raise self.error(f"orders {part}, which are text: compare them with ==, != or in")
        for one, other in ((first, second), (second, first)):
            if not _fits_float(one) and not isinstance(other, int) and _kind(other) not in "iu":
                raise self.error(
                    f"compares {part}, an identifier with a number that is not whole: write all its digits"
                )
        return self._known(_COMPARISONS[type(operator)](first, second), first, second)

    def _listed(self, value, node):
        if not isinstance(node, ast.List | ast.Tuple | ast.Set) or not node.elts:
            raise self.error(f"has 'in {ast.unparse(node)}': write a list, as in 'run in [94, 125]'")
        items = [self.value(item) for item in node.elts]
        if not all(isinstance(item, str | int | float) for item in items):
            raise self.error(f"has 'in {ast.unparse(node)}', but a list holds numbers or quoted text alone")
        if any(_is_text(item) != _is_text(value) for item in items):
            raise self.error(f"seeks text among numbers, or a number among text, in {ast.unparse(node)}: {_EXAMPLE}")
        allowed = set(items)  # compares as Python does: exact for whole numbers of any size
        return self._known([one in allowed for one in np.broadcast_to(value, len(self.table)).tolist()], value)

    def _known(self, truth, *values):
        """A BooleanArray of the truth, NA where a value is missing or not finite."""
        shape = (len(self.table),)
        unknown = np.zeros(shape, dtype=bool)
        for value in values:
            unknown |= pd.isna(value) if _is_text(value) else ~np.isfinite(np.asarray(value, dtype=np.float64))
        return pd.arrays.BooleanArray(np.array(np.broadcast_to(truth, shape), dtype=bool), unknown)

    def value(self, node):
        """A part that is a number or text."""
        match node:
            case ast.Constant(value=bool() | None):
                pass
            case ast.Constant(value=int() | float() | str() as value):
                if (isinstance(value, int) and value >= 2**64) or (isinstance(value, float) and not np.isfinite(value)):
                    raise self.error(f"has the number {ast.unparse(node)[:40]}, which is too large: {self.example}")
                return value
            case ast.Name(id=name):
                return self._column(name)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.number(operand)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.number(operand)
            case ast.BinOp(op=operator, left=left, right=right) if type(operator) in _ARITHMETIC:
                return _ARITHMETIC[type(operator)](self.number(left), self.number(right))
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr()):
                raise self.error(
                    f"has {ast.unparse(node)!r} where a number must stand: write each comparison beside & and | in "
                    "brackets"
                )
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](self.number(argument))
        raise self.error(
            f"has {ast.unparse(node)!r}, but may hold columns, numbers, {self.allowed}, {', '.join(FUNCTIONS)}"
            f"{self.joined}"
        )

    def _column(self, name):
        if name not in self.table:
            raise _unknown(name, list(self.table), self.text, self.key)
        column = self.table[name]
        if pd.api.types.is_numeric_dtype(column):
            return column.to_numpy() if column.dtype.kind in "iu" else column.to_numpy(np.float64)
        return column.to_numpy(object)

    def number(self, node):
        """A part that is a number, as float64."""
        value = self.value(node)
        if _is_text(value):
            raise self.error(f"computes with {ast.unparse(node)}, which is text: {self.example}")
        if not _fits_float(value):
            remedy = "leave it out" if self.example is _ARITHMETIC_EXAMPLE else "compare it, or list it with in [...]"
            raise self.error(f"computes with {ast.unparse(node)}, an identifier: {remedy}")
        return np.float64(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)


def _kind(value):
    return np.asarray(value).dtype.kind


def _is_text(value):
    return isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype == object)


def _fits_float(value):
    """Whether a float64 holds a value exactly: not so for identifiers."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu" or not len(value):
        return True
    return value.min() >= -MAX_EXACT_INTEGER and value.max() <= MAX_EXACT_INTEGER
