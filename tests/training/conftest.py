"""Galaxies that the tests of training share: synthetic, learnable, no rendered sky needed."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sdss_photoz.cubes.store import create_store, write_shard
from sdss_photoz.training.device import cpu_threads

sys.path.insert(0, str(Path(__file__).parent))
from synthetic_galaxies import NarrowNetwork, draw_population, render


def make_run(folder, count: int, seed: int = 0):
    """A store of synthetic cubes with its tables of galaxies and folds: one fold, a tenth validation, a tenth test."""
    population = draw_population(count, seed)
    cubes = render(population, seed).numpy()
    store = folder / "cubes.zarr"
    galaxies = pd.DataFrame(
        {
            "object_id": 1237648720000000000 + np.arange(count),
            "row": np.arange(count),
            "chunk": 0,
            "ra": np.linspace(10, 20, count),
            "dec": 0.0,
            "z_spec": population["z"],
            "ebv": population["ebv"],
        }
    )
    create_store(store, galaxies, 1)
    write_shard(store, 0, cubes, np.ones((count, 5), dtype=np.uint16))
    roles = np.where(np.arange(count) % 10 == 3, "validation", np.where(np.arange(count) % 10 == 7, "test", "train"))
    folds = pd.DataFrame({"object_id": galaxies["object_id"], "fold": 0, "group": 0, "role_0": roles})
    return galaxies, folds, store


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """(galaxies, folds, store) of 120 synthetic galaxies."""
    return make_run(tmp_path_factory.mktemp("small_run"), 120)


@pytest.fixture(scope="session")
def smallest_run(tmp_path_factory):
    """(galaxies, folds, store) of 11 synthetic galaxies to train on, one to validate and one to test with."""
    return make_run(tmp_path_factory.mktemp("smallest_run"), 13)


@pytest.fixture
def narrow_network():
    """The narrow network, all its weights and slopes random."""
    torch.manual_seed(0)
    network = NarrowNetwork()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with cpu_threads(1):  # its work is too small to be shared
        yield network
