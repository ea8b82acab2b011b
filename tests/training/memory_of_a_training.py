"""Train a step on as many galaxies as the paper's, streamed, save a checkpoint, and print what memory that took.

    python tests/training/memory_of_a_training.py FOLDER NETWORK BATCH GALAXIES

The cubes are a file of zeros that takes no disk. Two groups of chunks are read ahead, as throughout a training.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from sdss_photoz.config import Training
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.targets.classes import Classes
from sdss_photoz.training import fit, jobs  # noqa: F401, with all that a job imports
from sdss_photoz.training.data.examples import Catalogue
from sdss_photoz.training.data.residence import Streamed
from sdss_photoz.training.resources import float16_cube_bytes

CHUNK, SHARD = 128, 10_112


def peak_bytes() -> int:
    """Largest resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main(folder: Path, network: str, batch: int, galaxies: int) -> dict:
    """The dtype, the bytes of the libraries alone and of all, and whether PyTorch's compiler was loaded."""
    libraries = peak_bytes()
    file = folder / "cubes"
    with open(file, "wb") as cubes:
        cubes.truncate(galaxies * float16_cube_bytes())
    parts = []
    for rows in (np.flatnonzero(np.arange(galaxies) % 20), np.arange(0, galaxies, 20)):
        z = np.linspace(0.01, 0.3, len(rows))
        catalogue = Catalogue(rows, z, np.zeros((len(rows), 1), np.float32), Inputs(), Classes())
        streamed = Streamed(file, 0, rows, CHUNK, SHARD, torch.device("cpu"))
        parts.append(catalogue.examples(streamed, False, "", torch.device("cpu")))
    settings = Training(network=network, batch=batch)
    outputs = folder / "member-0.safetensors", folder / "history.csv", folder / ".member-0.checkpoint"

    def stop(_):
        os.kill(os.getpid(), signal.SIGTERM)  # after the first step it saves and exits

    try:
        fit.train_member(*parts, settings, "images", 0, 0, *outputs, open_scalars=stop)
    except SystemExit:
        return {
            "dtype": str(fit.compute_dtype(torch.device("cpu"))),
            "libraries": libraries,
            "peak": peak_bytes(),
            "compiler": "torch._dynamo" in sys.modules,
        }
    raise RuntimeError("the training went on")


if __name__ == "__main__":
    folder, network, batch, galaxies = sys.argv[1:]
    print(json.dumps(main(Path(folder), network, int(batch), int(galaxies))))
