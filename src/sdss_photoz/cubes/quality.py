"""The table of a chunk's quality, and the check that its galaxies are those of its shard."""

import pandas as pd

from sdss_photoz.cubes import VERSION
from sdss_photoz.cubes.store import chunk_rows
from sdss_photoz.errors import UserError
from sdss_photoz.survey import BANDS


def check_rows(galaxies: pd.DataFrame, group, store, chunk: int) -> None:
    """Refuse galaxies that are not those of a chunk, in its order.

    Parameters
    ----------
    galaxies : DataFrame
        With the column row.
    group : zarr.Group
        The open store.
    store : str or Path
        Its folder.
    chunk : int
        Number of the chunk.

    Raises
    ------
    UserError
        Where they are others.
    """
    rows = chunk_rows(group, chunk)
    if galaxies["row"].tolist() != list(range(rows.start, rows.stop)):
        raise UserError(
            f"chunk {chunk} of {store} holds rows {rows.start} to {rows.stop - 1}, but the table of galaxies gives "
            f"{len(galaxies)} other ones: rerun the stage sample."
        )


def quality_table(galaxies: pd.DataFrame, group, counts, coverage) -> pd.DataFrame:
    """Table of a chunk's quality.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, row.
    group : zarr.Group
        The open store.
    counts : ndarray
        (galaxy, band) int64: frames that cover any pixel.
    coverage : ndarray
        (galaxy, band) float64: fraction of pixels that are covered.

    Returns
    -------
    DataFrame
        object_id, row, selection (digest), version; frames_{b} and coverage_{b} for each band.
    """
    quality = pd.DataFrame(
        {
            "object_id": galaxies["object_id"].to_numpy(),
            "row": galaxies["row"].to_numpy(),
            "selection": group.attrs["selection"],
            "version": VERSION,
        }
    )
    for index, band in enumerate(BANDS):
        quality[f"frames_{band}"] = counts[:, index]
        quality[f"coverage_{band}"] = coverage[:, index]
    return quality
