"""Scores of any table of photometric redshifts, as JSON.

TABLE is CSV or other delimited text (also .gz), parquet, FITS, VOTable or ECSV. Rows in which a redshift is missing, or
is a fill value such as -9999 or -99, are left out and counted, by column and value.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz import tables
from sdss_photoz.errors import UserError
from sdss_photoz.scores import metrics
from sdss_photoz.scores.residuals import residuals

POSITION = (("ra", "dec"), ("RA", "DEC"), ("RA", "Dec"))


def add_arguments(parser) -> None:
    """Add the command's arguments to an argparse parser."""
    parser.add_argument("table", metavar="TABLE", help="table with a row for each galaxy")
    parser.add_argument("--z-spec", required=True, metavar="COLUMN", help="spectroscopic redshift")
    parser.add_argument("--z-phot", required=True, metavar="COLUMN", help="photometric redshift")
    parser.add_argument("--outlier", type=float, default=metrics.OUTLIER, help="|dz| of an outlier (default 0.05)")
    parser.add_argument("--bootstrap", type=_resamples, default=300, metavar="N", help="resamples (default 300)")
    parser.add_argument("--nside", type=int, default=64, help="HEALPix NSIDE of the resampled sky cells (default 64)")
    parser.add_argument("--seed", type=int, default=7, help="seed of the resamples")


def _resamples(word: str) -> int:
    number = int(word)
    if number < 2:
        raise argparse.ArgumentTypeError(f"{number} is too few for a scatter: at least 2")
    return number


def main(args) -> int:
    """Print the scores of a table as JSON."""
    report = evaluate_table(
        tables.read(args.table),
        args.z_spec,
        args.z_phot,
        args.outlier,
        args.bootstrap,
        args.nside,
        args.seed,
        args.table,
    )
    print(json.dumps(report, indent=1, allow_nan=False))
    if report["missing"]:
        without = "; ".join(
            tables.describe_missing(column, marks) for column, marks in report["missing_values"].items()
        )
        rows = report["n"] + report["missing"]
        print(f"sdss-photoz evaluate: {report['missing']} of {rows} rows are left out: {without}", file=sys.stderr)
    if unplaced := report["without_position"]:
        print(
            f"sdss-photoz evaluate: {unplaced} of {report['n']} rows have no position: drawn one by one",
            file=sys.stderr,
        )
    return 0


def evaluate_table(
    table: pd.DataFrame,
    z_spec: str,
    z_phot: str,
    outlier: float = metrics.OUTLIER,
    resamples: int = 300,
    nside: int = 64,
    seed: int = 7,
    name: str | Path = "the table",
) -> dict:
    """Scores of the photometric redshifts in a table, with bootstrap errors.

    The bootstrap draws sky cells where the table has columns ra and dec (degrees), rows where not; a row without a
    position is drawn on its own. Rows in which a redshift is missing, or a fill value, are left out and counted.

    Parameters
    ----------
    table : DataFrame
    z_spec, z_phot : str
        Names of columns.
    outlier : float
        |dz| above which a galaxy is an outlier.
    resamples, nside, seed : int
        Number of resamples, HEALPix NSIDE of the sky cells, and seed of the bootstrap.
    name : str or Path
        Name of the table in errors.

    Returns
    -------
    dict
        ``bias``, ``sigma_mad``, ``outliers``; the same under ``errors``, None where nothing can be resampled; ``n``;
        ``missing``, the rows left out; ``missing_values``, for each column the fill values found and their counts;
        ``without_position``, the scored rows without one; ``resampled``, what the bootstrap draws.

    Raises
    ------
    UserError
        Where a column is missing, holds text, or holds a number that cannot be a redshift.
    """
    measures = {column: tables.measured(table, column, tables.REDSHIFT, name) for column in (z_spec, z_phot)}
    used = np.all([np.isfinite(values) for values, _ in measures.values()], axis=0)
    if not used.any():
        marks = "; ".join(
            tables.describe_missing(column, missing) for column, (_, missing) in measures.items() if missing
        )
        raise UserError(
            f"{name} has no row in which both {z_spec} and {z_phot} are numbers ({marks or 'it has no rows'}): give "
            "a table of redshifts, or correct the names."
        )
    dz = residuals(measures[z_phot].values[used], measures[z_spec].values[used])
    cells, resampled, unplaced = _cells(table, used, nside, name)
    found = metrics.compare({"table": {"dz": dz}}, cells, outlier=outlier, resamples=resamples, seed=seed)
    found = found["scores"]["table"]
    return {
        **{key: score["value"] for key, score in found.items()},
        "n": len(dz),
        "missing": int((~used).sum()),
        "missing_values": {column: missing for column, (_, missing) in measures.items() if missing},
        "without_position": unplaced,
        "errors": {key: score["error"] for key, score in found.items()},
        "resampled": resampled,
    }


def _cells(table: pd.DataFrame, used: np.ndarray, nside: int, name: str) -> tuple[np.ndarray, str, int]:
    """Cell of each used row for the bootstrap, what is resampled in words, and how many used rows lack a position."""
    count = int(used.sum())
    position = next((pair for pair in POSITION if set(pair) <= set(table)), None)
    if position is None:
        return np.arange(count), "rows" if count > 1 else "nothing: there is one row", 0
    quantities = zip(position, (tables.RA, tables.DEC), strict=True)
    ra, dec = (tables.measured(table, *pair, name).values[used] for pair in quantities)
    placed = np.isfinite(ra) & np.isfinite(dec)
    unplaced = count - int(placed.sum())
    cells = np.arange(count)
    number = 0
    if placed.any():
        cells[placed] = metrics.sky_cells(ra[placed], dec[placed], nside)
        number = int(cells[placed].max()) + 1
    cells[~placed] = number + np.arange(unplaced)
    parts = [f"{number} sky cells of nside {nside}"] * (number > 0) + [f"{unplaced} rows without a position"] * (
        unplaced > 0
    )
    return (
        cells,
        " and ".join(parts) if number + unplaced > 1 else f"nothing: all rows lie in one cell of nside {nside}",
        unplaced,
    )
