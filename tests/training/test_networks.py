"""The networks are what the paper and its published code say."""

import csv

import numpy as np
import torch

from sdss_photoz.training.networks import build


def _published_variables(shared_data):
    """(name, shape) of the published code's trainable variables, in the order in which it creates them."""
    with open(shared_data / "oracles" / "network_variables.csv", newline="") as file:
        return [(row["name"], tuple(map(int, row["shape"].split("x")))) for row in csv.DictReader(file)]


def _torch_layout(array):
    """From TensorFlow's (y, x, in, out) or (in, out) to torch's (out, in, y, x) or (out, in)."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def test_inception_has_the_published_number_of_parameters():
    network = build("inception")
    assert sum(p.numel() for p in network.parameters()) == 27_596_372
    dense = sum(p.numel() for name, p in network.named_parameters() if name.startswith("dense"))
    assert dense == 25_812_076


def test_inception_has_the_published_variables_in_their_order(shared_data):
    published = [_torch_layout(np.empty(shape, dtype=bool)).shape for _, shape in _published_variables(shared_data)]
    assert len(published) == 93
    assert [tuple(p.shape) for p in build("inception").parameters()] == published


def test_inception_returns_the_probabilities_of_the_published_code(shared_data):
    network = build("inception").eval()
    rng = np.random.default_rng(20181)
    for parameter, (name, shape) in zip(network.parameters(), _published_variables(shared_data), strict=True):
        if "weights" in name:
            value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
        else:
            value = rng.uniform(0.05, 0.3, shape) if "prelu" in name else rng.uniform(-0.1, 0.1, shape)
        parameter.data = torch.from_numpy(np.ascontiguousarray(_torch_layout(value.astype(np.float32))))
    cubes = torch.from_numpy(rng.standard_normal((8, 64, 64, 5)).astype(np.float32))
    ebv = torch.from_numpy(rng.uniform(0, 0.3, (8, 1)).astype(np.float32))[:, 0]
    with torch.no_grad():
        probabilities = network(cubes, ebv).softmax(dim=1).numpy()
    published = np.load(shared_data / "oracles" / "network_forward.npz")["probabilities"]
    difference = np.abs(probabilities - published).max()
    print(f"largest difference from the published code's probabilities: {difference:.1e}")
    assert difference <= 1e-5
