"""How long a job over many frames may take, which is what a cluster is asked for.

It rests on the plan of the run, which counts the frames of each chunk's manifest: a chunk of the whole sky has some
thousands of them, one of Stripe 82 may have 65,000.
"""

import json
import math
from pathlib import Path

UNPLANNED = 240  # minutes: a chunk of the whole sky; a dry run shows them as long as there is no plan
START = 10  # minutes: a node's first reading of the environment, tables, compilation, and the writing of the shard
READ_SECONDS = 0.8  # a frame, on one thread: three times what decompressing and resampling take on a node of its own
PATIENCE = 60  # minutes in which an archive may rest
FETCH_SECONDS = 2.0  # a frame of 3 MB


def frames_of_chunk(plan, chunk) -> int | None:
    """Frames that a chunk needs, those of its manifest; None where the run's plan is not there yet.

    Parameters
    ----------
    plan : str or Path
        The file that the rule plan_frames writes.
    chunk : int or str
        Number of the chunk.
    """
    try:
        counted = json.loads(Path(plan).read_text(encoding="utf-8"))["frames_by_chunk"]
    except (OSError, ValueError, KeyError):  # not there, of another version, or just being removed
        return None
    return counted.get(str(chunk), 0)


def minutes_to_fetch(frames: int | None, attempt: int = 1) -> int:
    """Minutes for a job that has frames fetched, more with each attempt; None stands for a number not known yet."""
    if frames is None:
        return attempt * UNPLANNED
    return attempt * math.ceil(PATIENCE + frames * FETCH_SECONDS / 60)


def minutes_to_cut(frames: int | None, threads: int = 1, attempt: int = 1, fetched: bool = False) -> int:
    """Minutes for a job that cuts cubes from frames; `fetched`: it fetches them itself, anew with each attempt."""
    if frames is None:
        return attempt * UNPLANNED
    cut = attempt * math.ceil(START + frames * READ_SECONDS / threads / 60)
    return cut + minutes_to_fetch(frames, attempt) if fetched else cut
