"""A training of seconds on galaxies that need no store: also for processes that are killed."""

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
