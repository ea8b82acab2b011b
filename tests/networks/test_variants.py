"""The variants of a network: pooling, activation, batch normalisation, dropout, in the plain and the aligned form."""

import copy

import pytest
import torch
from tests.fixtures.synthetic_galaxies import NarrowNetwork
from torch import nn
from torch.nn import functional as F

from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build
from sdss_photoz.networks.parts.dropout import Dropout, count_dropout, seed_layers, set_step
from sdss_photoz.networks.parts.layers import BatchNorm, Variant, block_max_pool, pool_same
from sdss_photoz.surveys import PixelGrid
from sdss_photoz.training.fast.aligned import AlignedNetwork

VARIANTS = {
    "max pooling": Variant(pooling="max"),
    "relu": Variant(activation="relu"),
    "batch normalisation": Variant(batch_norm=True),
    "dropout": Variant(dropout=0.3),
}


def _batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    cubes = torch.randn(6, 16, 16, 5, generator=generator, dtype=dtype)
    return cubes, torch.rand(6, 1, generator=generator, dtype=dtype), torch.randint(0, 7, (6,), generator=generator)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_variant_is_trained_in_its_aligned_form_as_in_its_plain_one_and_padding_stays_zero(variant):
    torch.manual_seed(0)
    plain = NarrowNetwork(variant)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    seed_layers(plain, 5)
    plain = plain.double()
    aligned, found = AlignedNetwork(plain), []
    cubes, ebv, labels = _batch()
    for network in (plain := copy.deepcopy(plain), aligned):
        optimizer, step = torch.optim.Adam(network.parameters(), lr=1e-3), torch.zeros((), dtype=torch.int64)
        set_step(network, step)
        for _ in range(10):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(cubes, ebv), labels)
            loss.backward()
            optimizer.step()
            step += 1
        found.append(loss.item())
    assert found[1] == pytest.approx(found[0], abs=1e-11)
    trained = aligned.unpack(aligned.state_dict())
    assert set(trained) == set(plain.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.allclose(trained[name], value, rtol=0, atol=1e-10), name
    ones = {name: torch.ones(shape) for name, shape in aligned.shapes.items()}
    padding = torch.cat([aligned.state_dict()[name][real == 0] for name, real in aligned.pack(ones).items()])
    assert len(padding) > 4000
    assert (padding == 0).all()
    logits = [network.eval()(cubes, ebv) for network in (plain, aligned)]
    assert torch.allclose(*logits, rtol=0, atol=1e-10)


def test_the_aligned_form_follows_an_odd_size_and_three_bands():
    grid = PixelGrid(17, 0.3, tuple("gri"))
    plain = build("inception", 7, inputs=Inputs(grid)).double()
    torch.manual_seed(0)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    cubes, ebv = torch.randn(2, *grid.shape, dtype=torch.float64), torch.rand(2, 1, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(AlignedNetwork(plain)(cubes, ebv), plain(cubes, ebv))
    torch.testing.assert_close(block_max_pool(cubes.permute(0, 3, 1, 2), 2), F.max_pool2d(cubes.permute(0, 3, 1, 2), 2))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_small_network_has_the_variants_too(variant):
    cubes, ebv = torch.randn(4, 64, 64, 5), torch.rand(4, 1)
    logits = []
    for kind in (Variant(), variant):
        network = build("inception_small", initialisation="paper", variant=kind)
        logits.append(network(cubes, ebv))
    # it has no PReLU as documented
    assert torch.equal(*logits) == (variant.activation == "relu")


def test_the_papers_network_without_slopes_is_its_relu_variant():
    names = [
        {name for name, _ in build("inception", variant=kind).named_parameters()}
        for kind in (Variant(), Variant(activation="relu"))
    ]
    assert names[0] - names[1] == {name for name in names[0] if name.endswith("slope")}


def test_batch_normalisation_is_torchs():
    ours, torchs = BatchNorm(3), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        x = 5 + 2 * torch.randn(4, 3, 6, 6)
        assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours.variance, torchs.running_var)
    assert torch.equal(ours.eval()(x), torchs.eval()(x))


def test_a_stride_one_max_pool_looks_right_and_below_at_real_pixels_only():
    pooled = pool_same(torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])[None, None], F.max_pool2d)
    assert pooled[0, 0].tolist() == [[-1.0, -2.0], [-3.0, -4.0]]


@pytest.mark.parametrize("side", [2, 4])
def test_the_max_pool_of_a_gpu_is_torchs_with_its_gradient(side):
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    weights = torch.randn(2, 3, 16 // side, 16 // side, dtype=torch.float64)
    pooled = [pool(x, side) for pool in (block_max_pool, F.max_pool2d)]
    assert torch.equal(*pooled)
    assert torch.equal(*(torch.autograd.grad((one * weights).sum(), x)[0] for one in pooled))


def test_dropout_drops_its_fraction_anew_each_step_and_follows_from_the_seed_and_the_step():
    layer, x = Dropout(0.3), torch.ones(200, 400)
    step = torch.zeros((), dtype=torch.int64)
    seed_layers(layer, 7)
    set_step(layer, step)
    first, again = layer(x), layer(x)
    step += 1
    second = layer(x)
    assert torch.equal(first, again)
    assert first.unique().tolist() == pytest.approx([0, 1 / 0.7])
    dropped = torch.stack([first == 0, second == 0]).double()
    assert dropped.mean() == pytest.approx(0.3, abs=0.005)
    # rows, columns and steps are independent
    assert dropped.mean(1).std() == pytest.approx((0.21 / 200) ** 0.5, rel=0.1)
    assert dropped.mean(2).std() == pytest.approx((0.21 / 400) ** 0.5, rel=0.15)
    assert (dropped[0] * dropped[1]).mean() == pytest.approx(0.09, abs=0.005)
    seed_layers(layer, 8)
    assert not torch.equal(layer(x), second)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d])
def test_torchs_dropout_becomes_the_counted_one_on_maps_too_with_others_dropped_at_each_call(kind):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Identity(), kind(0.25))
            self.drop = self.again = self.inner[1]

        def forward(self, x):
            return self.inner(x), self.again(x)

    network, x, step = count_dropout(Network()), torch.ones(40, 50, 4, 4), torch.zeros((), dtype=torch.int64)
    seed_layers(network, 3)
    set_step(network, step)
    state = torch.get_rng_state()
    first, second = network(x)
    again = copy.deepcopy(network)(x)
    assert torch.equal(state, torch.get_rng_state()), "a generator was asked"
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    dropped = torch.stack([first == 0, second == 0]).double()
    whole = dropped.flatten(3).mean(3)
    assert ((whole == 0) | (whole == 1)).all() == (kind is nn.Dropout2d)
    assert dropped.mean() == pytest.approx(0.25, abs=0.02)
    assert (dropped[0] * dropped[1]).mean() == pytest.approx(0.25**2, abs=0.02), "the two calls are independent"
    step += 1
    assert not torch.equal(network(x)[0], first)
    assert torch.equal(network.eval()(x)[0], x)
