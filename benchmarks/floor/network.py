"""A network trained on increasing numbers of draws, and the extrapolation of its scores."""

from itertools import pairwise

import numpy as np
import torch
from scipy.optimize import curve_fit
from torch import nn

from sdss_photoz.progress import progress
from sdss_photoz.scores.grid import Grid

BINS, WIDTH, RATE, PASSES = 180, 128, 4e-3, 6
STEPS = 1024  # per pass, within batches of 32 to 512 galaxies


def learn(features: np.ndarray, z: np.ndarray, others: np.ndarray, seed: int) -> np.ndarray:
    """Train a perceptron of three hidden layers, and predict probabilities for other galaxies.

    Parameters
    ----------
    features, others : ndarray (galaxy, feature), float32
    z : ndarray (galaxy,)
    seed : int

    Returns
    -------
    ndarray (other galaxy, bin), float32
    """
    torch.manual_seed(seed)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    x, others = (torch.from_numpy((values - mean) / scale) for values in (features, others))
    bins = torch.from_numpy(Grid(bins=BINS).place(z)[0])
    sizes = [x.shape[1], WIDTH, WIDTH, WIDTH]
    hidden = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.SiLU())]
    network = nn.Sequential(*hidden, nn.Linear(WIDTH, BINS))
    batch = int(np.clip(len(x) // STEPS, 32, 512))
    steps = PASSES * len(x) // batch
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1, pct_start=0.1)
    order = torch.cat([torch.randperm(len(x)) for _ in range(PASSES)])
    for rows in order[: steps * batch].view(steps, batch):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x[rows]), bins[rows]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return torch.cat([network(part).softmax(dim=1) for part in others.split(8192)]).numpy()


def learning_curve(features, z, others, numbers: list[int], seed: int) -> list[np.ndarray]:
    """Return predictions for other galaxies after training on the first n draws, for each n in `numbers`."""
    label = "networks"
    return [learn(features[:n], z[:n], others, seed) for n in progress(numbers, total=len(numbers), label=label)]


def power_law(number, limit, excess, slope):
    """Return a score after a number of draws (millions): limit + excess * number^-slope."""
    return limit + excess * np.power(number, -slope)


def extrapolate(numbers: list[int], scores: np.ndarray) -> np.ndarray:
    """Fit a power law to scores by number of draws; return limit, excess at a million draws, and slope."""
    millions = np.array(numbers) / 1e6
    start = [0.97 * scores[-1], scores[-1] - 0.97 * scores[-1], 0.5]
    bounds = ([0, 0, 0.1], [scores[-1], np.inf, 2.0])
    return curve_fit(power_law, millions, scores, p0=start, bounds=bounds)[0]
