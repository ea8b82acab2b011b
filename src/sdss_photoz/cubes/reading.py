"""The order in which frames are read, and how many of their resampled images are held meanwhile.

A galaxy's images of one band are held until its last frame was read. How many that makes at a time follows from the
order alone, so a chunk is cut in parts, whose common frames are read once more, only where it must be.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from sdss_photoz.survey import BANDS, CUBE_SIZE, Frame

Groups = list[tuple[Frame, np.ndarray]]
FRAME_COLUMNS = ["run", "camcol", "field", "band"]
LAYER_BYTES = 4 * CUBE_SIZE**2


def group_overlaps(overlaps: pd.DataFrame) -> Groups:
    """Frames with their galaxies, in the order of the first galaxy that each overlaps, then of run, camcol and field.

    Parameters
    ----------
    overlaps : DataFrame
        galaxy, run, camcol, field, band: one row a pair; repeats count once.
    """
    groups = [
        (Frame(int(run), int(camcol), int(field), band), np.unique(rows.to_numpy()))
        for (run, camcol, field, band), rows in overlaps.groupby(FRAME_COLUMNS, sort=True)["galaxy"]
    ]
    return sorted(groups, key=lambda group: (group[1][0], group[0]))


def reading_order(groups: Iterable[tuple[Frame, np.ndarray]], room: float = np.inf) -> Groups:
    """Frames with their galaxies, one band after the other, and in each as few parts of the galaxies as fit a room.

    Parameters
    ----------
    groups : iterable of (Frame, ndarray)
        Each frame with the indices of its galaxies, none of them twice; within a band the order stays.
    room : float
        Bytes that resampled images may take. A part is halved, in the order of the galaxies, until it fits or is one
        galaxy; a frame of two parts is listed, and read, twice.
    """
    groups = list(groups)
    return [
        group for band in BANDS for group in _parts([group for group in groups if group[0].band == band], room)
    ]  # fmt: skip


def _parts(groups: Groups, room: float) -> Groups:
    if not groups or LAYER_BYTES * layers_held(groups) <= room:
        return groups
    galaxies = np.unique(np.concatenate([galaxies for _, galaxies in groups]))
    if len(galaxies) == 1:
        return groups
    middle = galaxies[len(galaxies) // 2]
    first = [(frame, galaxies[galaxies < middle]) for frame, galaxies in groups]
    second = [(frame, galaxies[galaxies >= middle]) for frame, galaxies in groups]
    return [group for part in (first, second) for group in _parts([group for group in part if len(group[1])], room)]


def layers_held(groups: Groups) -> int:
    """Largest number of resampled images held at a time, when the frames of one band are read in this order."""
    awaited = np.bincount(np.concatenate([galaxies for _, galaxies in groups]))
    frames = awaited.copy()
    held = largest = 0
    for _, galaxies in groups:
        held += len(galaxies)
        largest = max(largest, held)
        awaited[galaxies] -= 1
        held -= frames[galaxies[awaited[galaxies] == 0]].sum()
    return int(largest)
