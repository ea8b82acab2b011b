"""``sdss-photoz evaluate``: scores of any table of photometric redshifts."""

import argparse
import difflib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz.errors import UserError
from sdss_photoz.evaluation import metrics
from sdss_photoz.evaluation.residuals import residuals

POSITION = (("ra", "dec"), ("RA", "DEC"), ("RA", "Dec"))


def add_arguments(parser) -> None:
    """Add the command's arguments to an argparse parser."""
    parser.add_argument("table", metavar="TABLE", help="CSV (also .gz) or parquet table, a row for each galaxy")
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
        read_table(args.table),
        args.z_spec,
        args.z_phot,
        args.outlier,
        args.bootstrap,
        args.nside,
        args.seed,
        args.table,
    )
    print(json.dumps(report, indent=1))
    return 0


def read_table(path) -> pd.DataFrame:
    """Read a parquet or CSV table (compressed or not), by its name.

    Raises
    ------
    UserError
        Where the file is missing or cannot be read as a table.
    """
    path = Path(path)
    parquet = path.suffix in (".parquet", ".pq")
    try:
        return pd.read_parquet(path) if parquet else pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give the path of a CSV or parquet table.") from None
    except (OSError, ValueError) as error:
        kind = "parquet" if parquet else "CSV"
        raise UserError(f"{path} cannot be read as a {kind} table ({str(error).splitlines()[0]}).") from None


def evaluate_table(
    table: pd.DataFrame,
    z_spec: str,
    z_phot: str,
    outlier: float = metrics.OUTLIER,
    resamples: int = 300,
    nside: int = 64,
    seed: int = 7,
    name="the table",
) -> dict:
    """Scores of the photometric redshifts in a table, with bootstrap errors.

    The bootstrap draws sky cells where the table has columns ra and dec (degrees), rows where not. Rows in which a
    redshift is missing are left out and counted.

    Parameters
    ----------
    table : DataFrame
    z_spec, z_phot : str
        Names of columns.
    outlier : float
        |dz| above which a galaxy is an outlier.
    resamples, nside, seed : int
        Of the bootstrap.
    name : str
        What an error calls the table.

    Returns
    -------
    dict
        ``bias``, ``sigma_mad``, ``outliers``; the same under ``errors``; ``n``, ``missing``, and what was resampled.

    Raises
    ------
    UserError
        Where a column is missing or holds no numbers.
    """
    columns = {column: _numbers(table, column, name) for column in (z_spec, z_phot)}
    used = np.isfinite(columns[z_spec]) & np.isfinite(columns[z_phot])
    position = next((pair for pair in POSITION if set(pair) <= set(table)), None)
    if position is not None:
        ra, dec = (_numbers(table, column, name) for column in position)
        used &= np.isfinite(ra) & np.isfinite(dec)
    if not used.any():
        raise UserError(f"{name} has no row in which both {z_spec} and {z_phot} are numbers.")
    dz = residuals(columns[z_phot][used], columns[z_spec][used])
    cells = np.arange(len(dz)) if position is None else metrics.sky_cells(ra[used], dec[used], nside)
    found = metrics.compare({"table": {"dz": dz}}, cells, outlier=outlier, resamples=resamples, seed=seed)
    found = found["scores"]["table"]
    return {
        **{key: score["value"] for key, score in found.items()},
        "n": len(dz),
        "missing": int((~used).sum()),
        "errors": {key: score["error"] for key, score in found.items()},
        "resampled": "rows" if position is None else f"{cells.max() + 1} sky cells of nside {nside}",
    }


def _numbers(table, column, name):
    if column not in table:
        near = difflib.get_close_matches(column, list(table), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(str, table))}."
        raise UserError(f"{name} has no column {column!r}: {hint}")
    try:
        return pd.to_numeric(table[column]).to_numpy(np.float64)
    except (ValueError, TypeError):
        raise UserError(f"column {column!r} of {name} holds text, but redshifts are numbers.") from None
