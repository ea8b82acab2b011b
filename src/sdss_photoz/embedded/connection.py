"""The one way in which the embedded archive opens DuckDB to answer queries: with no door but its own tables."""

import duckdb

from sdss_photoz.errors import UserError

MEMORY = "2GB"  # of all queries of one database at once
# DuckDB refuses two configurations of one file in a process: whatever answers queries opens the catalogue here.
CONFIG = {
    "enable_external_access": False,  # no file is read or written, no other database attached, no extension loaded
    "python_enable_replacements": False,  # a name that is no table is not looked for among Python's variables
    "temp_directory": "",  # nothing is spilt to the disk
    "memory_limit": MEMORY,
    "threads": 1,
    "default_collation": "NOCASE",  # of SQL Server
    "integer_division": True,  # of SQL Server
    "lock_configuration": True,  # a query changes none of this
}


def connect(catalog=None) -> duckdb.DuckDBPyConnection:
    """Open a catalogue to answer queries, which cannot reach anything outside it.

    Parameters
    ----------
    catalog : str or Path, optional
        Opened read-only; an empty database in memory where it is not given.

    Raises
    ------
    UserError
        Where the file cannot be opened.
    """
    try:
        return duckdb.connect(
            ":memory:" if catalog is None else str(catalog), read_only=catalog is not None, config=CONFIG
        )
    except duckdb.Error as error:
        raise UserError(f"the catalogue {catalog} cannot be opened: {str(error).splitlines()[0]}") from None
