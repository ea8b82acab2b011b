"""The archive's door for tables: the sample's queries, sent as they stand in ``queries/``, answered as a table.

A door is a function (archive, catalog, sql) -> DataFrame; `DOORS` names one for each ``archive.service``.
"""

import re
from importlib.resources import files

import pandas as pd

from sdss_photoz.errors import UserError


def _ask_embedded(archive, catalog, sql):
    from sdss_photoz.embedded import tsql

    return tsql.run(catalog, sql)


DOORS = {"embedded": _ask_embedded}


def read_query(name: str) -> str:
    """Text of one of the shipped queries: ``paper``, ``extended`` or ``fields``."""
    return (files("sdss_photoz.archive") / "queries" / f"{name}.sql").read_text(encoding="utf-8")


def _expected(sql):
    """Names of the columns that the outer SELECT of a shipped query asks for."""
    text = re.sub(r"--.*", "", sql)
    listed = re.sub(r"\([^()]*\)", "", text[text.index("SELECT") + 6 : text.index("INTO")])
    return [item.split()[-1].split(".")[-1] for item in listed.split(",")]


def _ask(archive, catalog, name, key):
    """Send a shipped query through the configured door; check and order what comes back."""
    sql = read_query(name)
    table = DOORS[archive.service](archive, catalog, sql)
    given = {column.lower(): column for column in table.columns}
    missing = [column for column in _expected(sql) if column.lower() not in given]
    if missing:
        raise UserError(
            f"the answer of the {archive.service} archive to {name}.sql lacks the column {missing[0]}: "
            f"it has {', '.join(table.columns)}."
        )
    if table.empty:
        raise UserError(
            f"the {archive.service} archive answered {name}.sql with no rows: check archive.release "
            f"({archive.release}) and that the catalogue {catalog} is whole."
        )
    table = table.rename(columns={given[column.lower()]: column for column in _expected(sql)})
    return table.sort_values(key, kind="stable").reset_index(drop=True)


def query_galaxies(archive, catalog_path=None, query: str = "extended") -> pd.DataFrame:
    """Ask the archive for the galaxies of the sample.

    Parameters
    ----------
    archive : config.Archive
        Its `service` names the door.
    catalog_path : str or Path, optional
        The embedded archive's catalogue.
    query : {"extended", "paper"}
        The appendix query of the paper, or the same rows with the columns that the analysis needs.

    Returns
    -------
    DataFrame
        Rows as the archive gave them, columns named as in the query, ordered by ``specObjID``.

    Raises
    ------
    UserError
        Where the archive refuses the query, gives no row, or leaves a column out.
    """
    return _ask(archive, catalog_path, query, ["specObjID"])


def query_fields(archive, catalog_path=None) -> pd.DataFrame:
    """Ask the archive where its fields lie on the sky.

    Parameters and errors are those of `query_galaxies`.

    Returns
    -------
    DataFrame
        One row a field: run, camcol, field, stripe, strip, node, incl, a … f (r band) and a_u … f_z (each band;
        degrees and degrees a pixel), centre and bounds, ordered by run, camcol, field.
    """
    return _ask(archive, catalog_path, "fields", ["run", "camcol", "field"])
