"""A training of seconds on galaxies that need no store: also for processes that are killed."""

import os
import re
import resource
import signal
import sys

import numpy as np
import pandas as pd
import torch
from synthetic_galaxies import draw_population, render

from sdss_photoz.config import Training
from sdss_photoz.training import fit
from sdss_photoz.training.examples import Examples, gather

QUICK = Training(epochs=12, batch=16, learning_rate=2e-3, device="cpu", checkpoint_minutes=0.0)


def draw_examples(count: int, seed: int, settings: Training = QUICK) -> Examples:
    """Synthetic galaxies in memory."""
    population = draw_population(count, seed)
    galaxies = pd.DataFrame({"object_id": np.arange(count), "z_spec": population["z"], "ebv": population["ebv"]})
    cubes = render(population, seed).numpy()
    pieces = (cubes[start : start + 1024] for start in range(0, count, 1024))
    return gather(galaxies, pieces, settings.bins, settings.stretch, torch.device("cpu"))


def train_in(folder, settings: Training = QUICK) -> None:
    """Train on 96 galaxies: six steps an epoch."""
    parts = draw_examples(96, 1, settings), draw_examples(12, 2, settings)
    outputs = folder / "member-0.safetensors", folder / "history.csv", folder / ".member-0.checkpoint"
    fit.train_member(*parts, settings, "images", 0, 0, *outputs)


FILE_CALLS = {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir"}


def train_and_die(folder, settings: Training, step: int, calls: int, within: int | None = None) -> None:
    """Train until the checkpoint of a step is whole, then die: at one of the next calls that see or change files, for
    between them nothing on the disk changes, or in the middle of the next file that is longer than `within` bytes.
    """
    left = None

    def watch(event, arguments):
        nonlocal left
        if event == "os.rename" and (name := re.search(r"/step-(\d+)\.safetensors$", str(arguments[1]))):
            left = calls if left is None and int(name[1]) >= step else left
        elif event in FILE_CALLS and left is not None:
            left -= 1
            if left == 0 and within is None:
                os.kill(os.getpid(), signal.SIGKILL)
            elif left == 0:
                resource.setrlimit(resource.RLIMIT_FSIZE, (within, within))

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the kernel kills the process in the middle of its write
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(watch)
    train_in(folder, settings)
