"""Which frames a run needs, and how many of them are still to be fetched."""

import os
from contextlib import suppress
from pathlib import Path

import pandas as pd

from sdss_photoz.frames.consent import FRAME_BYTES, is_remote
from sdss_photoz.frames.footprint import fields_near, overlapping_frames
from sdss_photoz.frames.mirror import disk_errors_as_user_error
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.surveys.sdss import Frame

FRAME_COLUMNS = ["run", "camcol", "field", "band"]


def frames_needed(galaxies: pd.DataFrame, fields, grid: PixelGrid = CUBE) -> pd.DataFrame:
    """The frames that each chunk of galaxies needs.

    Parameters
    ----------
    galaxies : DataFrame
        ra, dec (degrees), chunk.
    fields : str or Path
        The archive's table of fields.
    grid : PixelGrid
        Pixels and bands of the cubes.

    Returns
    -------
    DataFrame
        chunk, run, camcol, field, band, galaxies (number that the frame covers); one row per frame and chunk, ordered.
    """
    ra, dec = galaxies["ra"].to_numpy(), galaxies["dec"].to_numpy()
    overlaps = overlapping_frames(ra, dec, fields_near(fields, ra, dec, grid=grid), grid)
    overlaps["chunk"] = galaxies["chunk"].to_numpy()[overlaps["galaxy"]]
    counted = overlaps.groupby(["chunk", *FRAME_COLUMNS], as_index=False).size()
    return counted.rename(columns={"size": "galaxies"})


def summary(frames: pd.DataFrame) -> dict:
    """Count the frames: distinct ones, those of all chunks, and those of each chunk; with their estimated bytes."""
    distinct = len(frames.drop_duplicates(FRAME_COLUMNS))
    by_chunk = frames.groupby("chunk").size()
    return {
        "frames": distinct,
        "frames_of_chunks": len(frames),
        "frames_by_chunk": {str(chunk): int(count) for chunk, count in by_chunk.items()},
        "cutouts": int(frames["galaxies"].sum()),
        "estimated_bytes": distinct * FRAME_BYTES,
    }


def frames_to_fetch(config, frames: pd.DataFrame) -> int:
    """Number of frames that the run would fetch: those not in the mirror, per chunk if frames are not kept.

    Parameters
    ----------
    config : config.Config
        Archive, mirror and `frames.keep`.
    frames : DataFrame
        As `frames_needed` returns them.

    Raises
    ------
    UserError
        If the mirror cannot be read.
    """
    if not is_remote(config):
        return 0
    present = set()
    for run, camcol in frames[["run", "camcol"]].drop_duplicates().itertuples(index=False):
        folder = (Path(config.mirror) / Frame(run, camcol, 0, "r").path(config.archive.release)).parent
        with disk_errors_as_user_error(folder), suppress(FileNotFoundError):
            present.update(os.listdir(folder))
    if config.frames.keep:
        frames = frames.drop_duplicates(FRAME_COLUMNS)
    return sum(Frame(*frame).name not in present for frame in frames[FRAME_COLUMNS].itertuples(index=False, name=None))


def bytes_to_fetch(config, frames: pd.DataFrame) -> int:
    """Estimated bytes of the frames to fetch (`FRAME_BYTES` each)."""
    return frames_to_fetch(config, frames) * FRAME_BYTES
