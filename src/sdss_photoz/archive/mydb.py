"""A table in the user's MyDB at CasJobs, read in pages that are kept as files until all rows are there."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from sdss_photoz import files
from sdss_photoz.archive.query import Query
from sdss_photoz.archive.sciserver import CasJobs, RequestRefused
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress

PAGE_ROWS = 20_000  # some 20 MB, sorted and sent well within the 60 s that CasJobs allows a quick query


class TableGone(Exception):
    """The table is not in MyDB."""


def download_table(service: CasJobs, query: Query, table: str, rows: int, folder: Path) -> int:
    """Read a table ordered by the query's key, each page to a file ``page-000.parquet``; existing pages are kept.

    Parameters
    ----------
    service : sciserver.CasJobs
        Reads the pages.
    query : Query
        Its `key` orders the pages.
    table : str
        Name of the table in MyDB.
    rows : int
        Expected number of rows: reading ends with a page that is not full, once there are so many.
    folder : Path
        Folder of the pages.

    Returns
    -------
    int
        Number of rows read.

    Raises
    ------
    TableGone
        If the table is not in MyDB.
    UserError
        If its rows have no key, or CasJobs cannot be reached.
    """
    paths = page_paths(folder)
    lengths = [pq.read_metadata(path).num_rows for path in paths]
    total = sum(lengths)
    last = _largest_key(pd.read_parquet(paths[-1]), query.key) if total else -1
    complete = bool(paths) and lengths[-1] < PAGE_ROWS and total >= rows
    if not complete and table.lower() not in service.tables():
        raise TableGone
    with progress(total=rows, initial=total, unit="row", label=f"{query.name} from MyDB") as bar:
        while not complete:
            page = _read_page(service, query, table, last)
            if len(page) or not paths:
                paths.append(folder / f"page-{len(paths):03d}.parquet")
                files.write_parquet(paths[-1], page)
            total += len(page)
            bar.update(len(page))
            if len(page):
                last = _largest_key(page, query.key)
            complete = page.empty or (len(page) < PAGE_ROWS and total >= rows)  # a short page may be truncated
    return total


def _read_page(service: CasJobs, query: Query, table: str, last: int) -> pd.DataFrame:
    """Read the rows that follow the key `last`, at most `PAGE_ROWS`."""
    sql = f"SELECT TOP {PAGE_ROWS} * FROM {table} WHERE {query.key} > {last} ORDER BY {query.key}"
    try:
        page = service.read(sql, f"read {query.name} after {query.key} {last}")
    except RequestRefused:
        if table.lower() not in service.tables():
            raise TableGone from None
        raise
    if query.key.lower() not in [column.lower() for column in page.columns]:
        raise UserError(
            f"the answer of the casjobs archive to the query of {query.name} lacks the column {query.key}: it has "
            f"{', '.join(page.columns)}."
        )
    return page


def page_paths(folder: Path) -> list[Path]:
    """Files of the pages, in order."""
    return sorted(folder.glob("page-*.parquet"))


def read_pages(folder: Path) -> pd.DataFrame:
    """All rows of the pages."""
    return pd.concat([pd.read_parquet(path) for path in page_paths(folder)], ignore_index=True)


def _largest_key(page: pd.DataFrame, key: str) -> int:
    """The largest key of a page, whose column names may differ in case."""
    return int(next(page[column] for column in page.columns if column.lower() == key.lower()).max())
