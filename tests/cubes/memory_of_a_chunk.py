"""Make a chunk that is as deep as one of Stripe 82, and print what memory it took and how often frames were read.

    python -m tests.cubes.memory_of_a_chunk FRAME GALAXIES DEPTH BANDS MEMORY_GB

One frame stands for all of them, and all galaxies lie on it: every image of a band is held at a time, which is more
than a real chunk needs.
"""

import json
import sys
import tempfile

import numpy as np
import pandas as pd

from sdss_photoz import files
from sdss_photoz.cubes import make
from sdss_photoz.cubes.frame import OpenFrame, read_wcs
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.store import shard_files
from sdss_photoz.surveys.sdss import Frame


def peak_gb() -> float:
    """Largest resident memory of this process (GB), which unlike that of getrusage leaves its parent's out."""
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def main(path: str, galaxies: int, depth: int, bands: str, memory_gb: float) -> dict:
    """Make the chunk; peak (GB), reads, frames, and the SHA-256 of the flux."""
    opened = []

    class Any(OpenFrame):
        def __init__(self, _, threads, frame):
            opened.append(frame)
            super().__init__(path, threads)

    def copies(*_):
        yield path

    make.OpenFrame, make.copies_in_mirror = Any, copies
    ra, dec = Projection(read_wcs(path)).centre()
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"object_id": np.arange(galaxies), "row": np.arange(galaxies)})
    table["ra"] = ra + rng.uniform(-0.06, 0.06, galaxies) / np.cos(np.radians(dec))
    table["dec"] = dec + rng.uniform(-0.06, 0.06, galaxies)
    frames = pd.DataFrame([Frame(94 + run, 1, 11, band) for band in bands for run in range(depth)])
    overlaps = frames.merge(pd.DataFrame({"galaxy": np.arange(galaxies)}), how="cross")
    with tempfile.TemporaryDirectory() as folder:
        create_store(folder, table, 1)
        quality = make.make_chunk(
            table, overlaps, frames.assign(sha256="", state="ok"), folder, 0, sas="", mirror="", memory_gb=memory_gb
        )
        assert (quality[[f"frames_{band}" for band in bands]] == depth).all(axis=None)
        digest = files.sha256(shard_files(folder, 0)[0])
    return {"peak_gb": peak_gb(), "reads": len(opened), "frames": len(frames), "flux": digest}


if __name__ == "__main__":
    path, galaxies, depth, bands, memory_gb = sys.argv[1:]
    print(json.dumps(main(path, int(galaxies), int(depth), bands, float(memory_gb))))
