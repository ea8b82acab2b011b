"""The networks are what the paper and its published code say."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sdss_photoz.config.cubes import LEAST_SIZE
from sdss_photoz.config.training import own_networks
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build, names
from sdss_photoz.networks.inception_small import colours
from sdss_photoz.networks.parts.layers import pool_neighbours, pool_same
from sdss_photoz.surveys import CUBE, PixelGrid


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
    ebv = torch.from_numpy(rng.uniform(0, 0.3, (8, 1)).astype(np.float32))
    with torch.no_grad():
        probabilities = network(cubes, ebv).softmax(dim=1).numpy()
    published = np.load(shared_data / "oracles" / "network_forward.npz")["probabilities"]
    difference = np.abs(probabilities - published).max()
    print(f"largest difference from the published code's probabilities: {difference:.1e}")
    assert difference <= 1e-5


def test_the_documented_layer_table_is_the_network():
    table = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    shapes = {}
    for name in ("inception", "inception_small"):
        rows = re.search(rf"## `{name}`.*?\n\n(\|.*?)\n\n", table, re.DOTALL)[1].splitlines()[2:]
        documented = [[cell.strip(" `*") for cell in row.strip("|").split("|")] for row in rows]
        counts = {row[0]: int(row[-1].replace(",", "")) for row in documented if row[0] and row[-1]}
        total = counts.pop("all")
        network = build(name)
        assert counts == {layer: sum(p.numel() for p in part.parameters()) for layer, part in network.named_children()}
        assert total == sum(p.numel() for p in network.parameters())
        for layer, part in network.named_children():
            part.register_forward_hook(lambda _, __, out, key=(name, layer): shapes.__setitem__(key, out.shape[1:]))
        with torch.no_grad():
            network(torch.zeros(1, 64, 64, 5), torch.zeros(1, 1))
        for layer, _, output, _ in (row for row in documented if row[0] in counts):
            size = tuple(map(int, re.findall(r"\d+", output)))
            channels, *image = shapes[name, layer]
            assert size == (*image, channels), layer


def test_a_stride_one_pool_pads_right_and_below_and_averages_over_real_pixels_only():
    pooled = pool_same(torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None])
    assert pooled[0, 0].tolist() == [[2.5, 3.0], [3.5, 4.0]]


@pytest.mark.parametrize("pool", [F.avg_pool2d, F.max_pool2d])
def test_a_gpus_stride_one_pool_gives_the_same_values_and_gradients(pool):
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for form in (pool_same, pool_neighbours):
        pooled = form(x, pool)
        found.append((pooled, *torch.autograd.grad(pooled.square().sum(), x)))
    assert all(torch.allclose(ours, theirs, rtol=0, atol=1e-12) for ours, theirs in zip(*found, strict=True))


def test_the_papers_initialisation_is_xavier_with_biases_of_a_tenth_and_slopes_of_zero():
    network = build("inception", initialisation="paper")
    layer = network.inception2.branch_3x3
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * (92 + 128))), rel=0.02)
    assert all((p == 0.1).all() for name, p in network.named_parameters() if name.endswith("bias"))
    assert all((p == 0).all() for name, p in network.named_parameters() if name.endswith("slope"))


def test_he_initialisation_keeps_variance_and_starts_from_equal_logits():
    network = build("inception_small", initialisation="he")
    weight = network.inception0.branch_3x3.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * weight.shape[1])), rel=0.05)
    with torch.no_grad():
        logits = network(torch.randn(2, 64, 64, 5), torch.tensor([[0.0], [0.1]]))
    assert (logits == 0).all()


def test_initial_weights_follow_from_the_seed_alone():
    first, again, other = (build("inception_small", seed=seed).dense0.weight for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("bins", [45, 180])
def test_a_network_takes_cubes_and_reddening_to_a_logit_per_bin(name, bins):
    network = build(name, bins, initialisation="paper")
    with torch.no_grad():
        cubes = torch.randn(1, 64, 64, 5).expand(2, -1, -1, -1)
        logits = network(cubes, torch.tensor([[0.0], [0.3]]))
    assert logits.shape == (2, bins)
    assert not torch.equal(logits[0], logits[1]), "the reddening has no effect"


def test_an_unknown_network_is_refused_with_those_that_there_are():
    with pytest.raises(UserError, match="'resnet', but must be one of inception, inception_small"):
        build("resnet")


def test_the_configuration_allows_the_networks_that_there_are():
    assert own_networks() == names()


def test_without_u_a_network_starts_from_the_same_colours_but_one():
    assert colours(CUBE) == [
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [1.0, -1.0, 0.0, 0.0, 0.0],
        [0.0, 2.0, -2.0, 0.0, 0.0],
        [0.0, 0.0, 4.0, -4.0, 0.0],
        [0.0, 0.0, 0.0, 4.0, -4.0],
    ]
    without_u = [row[1:] for row in colours(CUBE) if not row[0]]
    assert colours(CUBE._replace(bands=tuple("griz"))) == without_u
    assert colours(CUBE._replace(bands=("g", "i"))) == [[0.0, 1.0], [pytest.approx(4 / 3), pytest.approx(-4 / 3)]]


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("bands", ["i", "gr", "griz"])
def test_a_network_takes_cubes_of_any_size_from_the_least_on(name, bands):
    for size in (LEAST_SIZE[name], LEAST_SIZE[name] + 6):
        grid = PixelGrid(size, 0.3, tuple(bands))
        network = build(name, 20, initialisation="paper", inputs=Inputs(grid))
        with torch.no_grad():
            assert network(torch.randn(2, *grid.shape), torch.tensor([[0.0], [0.3]])).shape == (2, 20)
    with pytest.raises(UserError, match=f"too small for the network {name}"):
        build(name, 20, inputs=Inputs(CUBE._replace(size=LEAST_SIZE[name] - 1)))
