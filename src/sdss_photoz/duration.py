"""Time limits (minutes) of jobs that read many frames, as requested from a cluster.

They follow from the run's plan, which counts the frames of each chunk: some thousands in most of the sky, up to 65,000
in Stripe 82.
"""

import json
import math
from pathlib import Path

DEFAULT_MINUTES = 240  # of a chunk whose number of frames is not known yet, as in a dry run
STARTUP_MINUTES = 10  # loading of the environment on a node, tables, compilation, and the writing of the shard
READ_SECONDS = 0.8  # per frame and thread: three times the measured time to decompress and resample on an idle node
OUTAGE_MINUTES = 60  # during which an archive may be down
FETCH_SECONDS = 2.0  # per frame, of 3 MB


def frames_of_chunk(plan, chunk) -> int | None:
    """Number of frames that a chunk needs; None if the run has no plan yet.

    Parameters
    ----------
    plan : str or Path
        The file that rule plan_frames writes.
    chunk : int or str
        Number of the chunk.
    """
    try:
        counted = json.loads(Path(plan).read_text(encoding="utf-8"))["frames_by_chunk"]
    except (OSError, ValueError, KeyError):  # missing, of another version, or just being removed
        return None
    return counted.get(str(chunk), 0)


def minutes_to_fetch(frames: int | None, attempt: int = 1) -> int:
    """Time limit (minutes) of a job that fetches frames; `frames` is None if their number is not known yet."""
    if frames is None:
        return attempt * DEFAULT_MINUTES
    return attempt * math.ceil(OUTAGE_MINUTES + frames * FETCH_SECONDS / 60)


def minutes_to_cut(frames: int | None, threads: int = 1, attempt: int = 1, fetched: bool = False) -> int:
    """Time limit (minutes) of a job that cuts cubes from frames.

    Parameters
    ----------
    frames : int or None
        Number of frames; None if it is not known yet.
    threads : int
        Threads of the job.
    attempt : int
        Snakemake's number of the attempt, from 1; the limit grows with it.
    fetched : bool
        Whether the job also fetches its frames, again with each attempt.
    """
    if frames is None:
        return attempt * DEFAULT_MINUTES
    cut = attempt * math.ceil(STARTUP_MINUTES + frames * READ_SECONDS / threads / 60)
    return cut + minutes_to_fetch(frames, attempt) if fetched else cut
