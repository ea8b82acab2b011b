"""Open the catalogue in DuckDB for queries, without access to files, network or settings."""

import duckdb

from sdss_photoz.errors import UserError

MEMORY = "2GB"  # of all queries of one database at once
# DuckDB refuses two configurations of one file in a process, so all queries use this one.
CONFIG = {
    "enable_external_access": False,  # no file is read or written, no other database attached, no extension loaded
    "python_enable_replacements": False,  # unknown table names are not looked up among Python variables
    "temp_directory": "",  # no temporary files
    "memory_limit": MEMORY,
    "threads": 1,
    "default_collation": "NOCASE",  # as in SQL Server
    "integer_division": True,  # as in SQL Server
    "lock_configuration": True,  # queries cannot change the settings
}


def connect(catalog=None) -> duckdb.DuckDBPyConnection:
    """Open a catalogue for queries, which can access nothing else.

    Parameters
    ----------
    catalog : str or Path, optional
        Path, opened read-only; None: an empty database in memory.

    Raises
    ------
    UserError
        If the file cannot be opened.
    """
    try:
        return duckdb.connect(
            ":memory:" if catalog is None else str(catalog), read_only=catalog is not None, config=CONFIG
        )
    except duckdb.Error as error:
        raise UserError(f"the catalogue {catalog} cannot be opened: {str(error).splitlines()[0]}") from None
