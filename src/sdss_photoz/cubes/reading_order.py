"""The order in which frames are read, and the number of resampled images that it holds in memory.

The images of a galaxy in one band are held until the last of its frames was read, so their number follows from the
order alone. A chunk whose images exceed the memory is split into parts, whose common frames are read more than once.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from sdss_photoz.surveys import CUBE, SDSS
from sdss_photoz.surveys.sdss import Frame

Groups = list[tuple[Frame, np.ndarray]]
FRAME_COLUMNS = ["run", "camcol", "field", "band"]
LAYER_BYTES = 4 * CUBE.size**2  # of one image of the default grid


def group_overlaps(overlaps: pd.DataFrame) -> Groups:
    """Group overlaps by frame, in the order of each frame's first galaxy, then of run, camcol and field.

    Parameters
    ----------
    overlaps : DataFrame
        galaxy, run, camcol, field, band: one row for each pair; repeats count once.
    """
    groups = [
        (Frame(int(run), int(camcol), int(field), band), np.unique(rows.to_numpy()))
        for (run, camcol, field, band), rows in overlaps.groupby(FRAME_COLUMNS, sort=True)["galaxy"]
    ]
    return sorted(groups, key=lambda group: (group[1][0], group[0]))


def reading_order(
    groups: Iterable[tuple[Frame, np.ndarray]], memory: float = np.inf, layer_bytes: int = LAYER_BYTES
) -> Groups:
    """Order frames by band, and split the galaxies of a band into parts whose images fit the memory.

    Parameters
    ----------
    groups : iterable of (Frame, ndarray)
        Each frame with the indices of its galaxies, without repeats; the order within a band is kept.
    memory : float
        Bytes that resampled images may take. A part is halved, in the order of the galaxies, until it fits or has one
        galaxy; a frame of two parts is listed, and read, twice.
    layer_bytes : int
        Bytes of a galaxy's image in one band.
    """
    groups = list(groups)
    return [
        group
        for band in SDSS.band_names
        for group in _parts([group for group in groups if group[0].band == band], memory / layer_bytes)
    ]


def _parts(groups: Groups, layers: float) -> Groups:
    """Split the frames of one band until at most `layers` images are held at a time."""
    if not groups or layers_held(groups) <= layers:
        return groups
    galaxies = np.unique(np.concatenate([galaxies for _, galaxies in groups]))
    if len(galaxies) == 1:
        return groups
    middle = galaxies[len(galaxies) // 2]
    first = [(frame, galaxies[galaxies < middle]) for frame, galaxies in groups]
    second = [(frame, galaxies[galaxies >= middle]) for frame, galaxies in groups]
    return [group for part in (first, second) for group in _parts([group for group in part if len(group[1])], layers)]


def layers_held(groups: Groups) -> int:
    """Return the largest number of resampled images held at a time when the frames of one band are read in order."""
    pending = np.bincount(np.concatenate([galaxies for _, galaxies in groups]))
    frames = pending.copy()
    held = largest = 0
    for _, galaxies in groups:
        held += len(galaxies)
        largest = max(largest, held)
        pending[galaxies] -= 1
        held -= frames[galaxies[pending[galaxies] == 0]].sum()
    return int(largest)
