"""The table of positions that `sdss-photoz predict` takes: its checks, and its columns as numbers."""

import numpy as np
import pandas as pd
import pyarrow as pa

from sdss_photoz import tables
from sdss_photoz.condition import columns_of
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation import domain
from sdss_photoz.surveys import SDSS

NUMBERS = -9000.0, 1e30  # range of a number beside the image: -9999 marks a missing one
POSITIONS_TABLE = "the table of positions"
QUANTITIES = {  # of the required and optional columns that are used as numbers
    **{"ra": tables.RA, "dec": tables.DEC, "ebv": tables.EBV, "extinction_r": tables.EXTINCTION},
    domain.PETROSIAN: tables.MAGNITUDE,
}


def check_columns(positions: pd.DataFrame) -> None:
    """Check that ra and dec are complete, and that all columns can be written to a parquet table; else UserError."""
    for column in ("ra", "dec"):
        _all_measured(positions, column)
    try:
        pa.Table.from_pandas(positions, preserve_index=False)  # fails now, not after hours
    except (pa.ArrowException, ValueError) as error:
        raise UserError(
            f"the table of positions cannot be carried into a parquet table ({' '.join(str(error).split())}): give "
            "columns of different names, each with values of one kind."
        ) from None


def typed(positions: pd.DataFrame) -> pd.DataFrame:
    """The table as it is written to the output: used columns as numbers, identifiers without loss of digits."""
    positions = positions.reset_index(drop=True)
    for column in ("ra", "dec", "ebv" if "ebv" in positions else "extinction_r", domain.PETROSIAN):
        if column in positions and positions[column].dtype.kind not in "iuf":
            positions[column] = tables.numbers(positions, column, QUANTITIES[column], POSITIONS_TABLE)
    for column in positions:
        if str(column).lower() in tables.IDENTIFIERS:
            positions[column] = tables.identifiers(positions, column, POSITIONS_TABLE)
    return positions


def numbers_of(positions: pd.DataFrame, ebv: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """The columns that the networks' numbers (`Inputs.numbers`) are made of, as numbers, missing values NaN.

    Parameters
    ----------
    positions : DataFrame
        The table.
    ebv : ndarray
        (position,) E(B-V), mag.
    names : tuple of str
        Columns, or arithmetic with them.

    Raises
    ------
    UserError
        If the table lacks a column, or a word in it is no number.
    """
    found = pd.DataFrame({"ebv": ebv})
    for text in names:
        for column in columns_of(text, "inputs.numbers"):
            if column in found:
                continue
            if column not in positions:
                raise UserError(
                    f"{POSITIONS_TABLE} has no column {column!r}, but the run's networks read {text} beside the image "
                    "(inputs.numbers): add it."
                )
            quantity = tables.MAGNITUDE if "mag" in column else tables.Quantity(f"values of {column}", *NUMBERS)
            found[column] = tables.measured(positions, column, quantity, POSITIONS_TABLE).values
    return found


def _all_measured(positions: pd.DataFrame, column: str) -> np.ndarray:
    """A column of numbers, (position,) float64; UserError if one is missing, with its row counted from 1."""
    values = tables.measured(positions, column, QUANTITIES[column], POSITIONS_TABLE).values
    bad = np.flatnonzero(np.isnan(values))
    if bad.size:
        raise UserError(
            f"column {column!r} of {POSITIONS_TABLE} holds {bad.size} values that are missing or fill values, the "
            f"first in row {bad[0] + 1} ({positions[column].iloc[bad[0]]}): correct or drop those rows."
        )
    return values


def reddening(positions: pd.DataFrame) -> np.ndarray:
    """E(B-V) of each position, (position,) float64, mag: its column ebv, or extinction_r / 2.285.

    Raises
    ------
    UserError
        If the table has neither, or a value is negative or no number.
    """
    for column, unit in (("ebv", 1.0), ("extinction_r", SDSS.extinction["r"])):
        if column in positions:
            return _all_measured(positions, column) / unit
    raise UserError(
        "the table of positions has neither a column 'ebv' nor 'extinction_r', but the networks need the reddening of "
        f"each galaxy: add E(B-V) in mag, or the extinction in r, of which it is a {SDSS.extinction['r']}th."
    )
