"""Which frames a run needs, and how much of them is still to be fetched."""

import os
from contextlib import suppress
from pathlib import Path

import pandas as pd

from sdss_photoz.archive.consent import FRAME_BYTES, is_remote
from sdss_photoz.archive.frames import disk_in_one_sentence
from sdss_photoz.sample.footprint import fields_near, overlapping_frames
from sdss_photoz.survey import Frame

FRAME = ["run", "camcol", "field", "band"]


def frames_needed(galaxies: pd.DataFrame, fields) -> pd.DataFrame:
    """The frames that each chunk of galaxies needs.

    Parameters
    ----------
    galaxies : DataFrame
        ra, dec (degrees), chunk.
    fields : str or Path
        The archive's table of fields.

    Returns
    -------
    DataFrame
        chunk, run, camcol, field, band, galaxies (how many the frame covers), one row a frame and chunk, ordered.
    """
    ra, dec = galaxies["ra"].to_numpy(), galaxies["dec"].to_numpy()
    overlaps = overlapping_frames(ra, dec, fields_near(fields, ra, dec))
    overlaps["chunk"] = galaxies["chunk"].to_numpy()[overlaps["galaxy"]]
    counted = overlaps.groupby(["chunk", *FRAME], as_index=False).size()
    return counted.rename(columns={"size": "galaxies"})


def summary(frames: pd.DataFrame) -> dict:
    """How many frames: each counted once, in all chunks and for each chunk, and their bytes as estimated."""
    once = len(frames.drop_duplicates(FRAME))
    by_chunk = frames.groupby("chunk").size()
    return {
        "frames": once,
        "frames_of_chunks": len(frames),
        "frames_by_chunk": {str(chunk): int(count) for chunk, count in by_chunk.items()},
        "cutouts": int(frames["galaxies"].sum()),
        "estimated_bytes": once * FRAME_BYTES,
    }


def frames_to_fetch(config, frames: pd.DataFrame) -> int:
    """How many frames the run would fetch: those not yet in the mirror, or each chunk's own where none is kept.

    Parameters
    ----------
    config : config.Config
        Archive, mirror and `frames.keep`.
    frames : DataFrame
        As `frames_needed` returns them.

    Raises
    ------
    UserError
        Where the mirror cannot be read.
    """
    if not is_remote(config):
        return 0
    there = set()
    for run, camcol in frames[["run", "camcol"]].drop_duplicates().itertuples(index=False):
        folder = (Path(config.mirror) / Frame(run, camcol, 0, "r").path(config.archive.release)).parent
        with disk_in_one_sentence(folder), suppress(FileNotFoundError):
            there.update(os.listdir(folder))
    if config.frames.keep:
        frames = frames.drop_duplicates(FRAME)
    return sum(Frame(*frame).name not in there for frame in frames[FRAME].itertuples(index=False, name=None))


def bytes_to_fetch(config, frames: pd.DataFrame) -> int:
    """Bytes of the frames to fetch, at the archive's usual size of a frame."""
    return frames_to_fetch(config, frames) * FRAME_BYTES
