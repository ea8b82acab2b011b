"""The aligned form of the paper's network is the network."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sdss_photoz.networks import build
from sdss_photoz.networks.parts.layers import Convolution, Dense, flatten
from sdss_photoz.training.fast.aligned import AlignedNetwork, NotAligned


def _batch(count=6):
    generator = torch.Generator().manual_seed(1)
    cubes = torch.randn(count, 16, 16, 5, generator=generator, dtype=torch.float64)
    ebv = torch.rand(count, 1, generator=generator, dtype=torch.float64)
    return cubes, ebv, torch.randint(0, 7, (count,), generator=generator)


def _padding(aligned, tensors):
    """Values of aligned tensors where no plain weight lies."""
    ones = {name: torch.ones(shape) for name, shape in aligned.shapes.items()}
    return torch.cat([tensors[name][real == 0] for name, real in aligned.pack(ones).items()])


def test_the_aligned_form_returns_the_plain_logits_in_float64(narrow_network):
    narrow_network = narrow_network.double()
    cubes, ebv, _ = _batch()
    for multiple in (1, 8):
        for fourier in (False, True):
            aligned = AlignedNetwork(narrow_network, multiple, fourier)
            assert torch.allclose(aligned(cubes, ebv), narrow_network(cubes, ebv), rtol=0, atol=1e-14)


def test_parallel_convolutions_are_one_without_padding(narrow_network):
    narrow_network = narrow_network.double()
    merged = AlignedNetwork(narrow_network, multiple=1)
    assert sum(p.numel() for p in merged.parameters()) == sum(p.numel() for p in narrow_network.parameters())
    sizes = [module.weight.shape[-1] for module in merged.modules() if hasattr(module, "branches")]
    assert sizes == [5, *[1, 3, 5] * 4, 1, 3]


def test_all_numbers_of_channels_are_multiples_of_eight_except_the_logits():
    aligned = AlignedNetwork(build("inception"))
    network = aligned.network
    widths = [network.conv0.weight.shape[1]]
    widths += [getattr(network, f"inception{block}").channels.count for block in range(5)]
    assert widths == [8, 240, 352, 480, 480, 352]
    for name, parameter in aligned.named_parameters():
        if "dense2" not in name:
            assert all(size % 8 == 0 for size in parameter.shape[:2]), name


def test_packed_weights_come_back_bit_for_bit_under_their_names(narrow_network):
    narrow_network = narrow_network.double()
    aligned = AlignedNetwork(narrow_network)
    plain = aligned.unpack(aligned.state_dict())
    assert {name: tensor.shape for name, tensor in plain.items()} == aligned.shapes
    assert all(torch.equal(plain[name], value) for name, value in narrow_network.state_dict().items())


def test_files_keep_the_published_number_of_parameters():
    assert sum(shape.numel() for shape in AlignedNetwork(build("inception")).shapes.values()) == 27_596_372


@pytest.mark.parametrize("fourier", [False, True])
def test_padding_stays_exactly_zero_through_adam_and_the_weights_are_those_of_the_plain_network(
    narrow_network, fourier
):
    narrow_network = narrow_network.double()
    aligned = AlignedNetwork(narrow_network, fourier=fourier)
    plain = copy.deepcopy(narrow_network)
    cubes, ebv, labels = _batch()
    losses = []
    for network in (plain, aligned):
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(20):
            loss = F.cross_entropy(network(cubes, ebv), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-12)
    padding = _padding(aligned, aligned.state_dict())
    assert len(padding) > 5000
    assert (padding == 0).all()
    trained = aligned.unpack(aligned.state_dict())
    for name, value in plain.state_dict().items():
        assert torch.allclose(trained[name], value, rtol=0, atol=1e-10), name


def test_the_papers_network_in_aligned_form_has_the_plain_gradients():
    network = build("inception", initialisation="paper")
    nn.init.normal_(network.dense2.weight, std=0.05)
    for name, parameter in network.named_parameters():
        if name.endswith("slope"):
            nn.init.uniform_(parameter, 0.1, 0.3)
    network = network.double()
    aligned = AlignedNetwork(network)
    cubes, ebv, labels = torch.randn(1, 64, 64, 5).double(), torch.rand(1, 1).double(), torch.tensor([20])
    for form in (network, aligned):
        F.cross_entropy(form(cubes, ebv), labels).backward()
    gradients = aligned.unpack({name: parameter.grad for name, parameter in aligned.named_parameters()})
    for name, parameter in network.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-9, atol=1e-13), name
    assert (_padding(aligned, {name: parameter.grad for name, parameter in aligned.named_parameters()}) == 0).all()


def test_the_dense_layer_reads_the_features_as_a_view(narrow_network):
    narrow_network = narrow_network.double()
    aligned, seen = AlignedNetwork(narrow_network), []
    aligned.network.inception4.register_forward_hook(lambda _, __, output: seen.append(output))
    aligned(*_batch()[:2])
    assert flatten(seen[0]).data_ptr() == seen[0].data_ptr()


def _no_hook(layer, inputs):
    return None


class Scaled(Dense):
    """A layer that computes something else than the one it is derived from."""

    def forward(self, x):
        return 2 * super().forward(x)


class Strided(Convolution):
    """A layer like another, of a class that nothing is known of."""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda n: setattr(n, "dense1", Scaled(13, 11)), "dense1 is a Scaled"),
        (lambda n: setattr(n, "inception1", nn.Identity()), "inception1 is a Identity"),
        (lambda n: setattr(n.inception1, "into_3x3", Strided(18, 4, 1)), "inception1.into_3x3 is a Strided"),
        (lambda n: setattr(n.inception1, "branch_3x3", nn.Conv2d(4, 9, 3)), "inception1.branch_3x3 is a Conv2d"),
        (lambda n: setattr(n.inception1.branch_3x3, "stride", 2), "inception1.branch_3x3 is a Convolution of stride 2"),
        (lambda n: setattr(n.dense1, "scale", 2.0), "dense1 has an attribute scale, which a Dense has not"),
        (lambda n: setattr(n.conv0, "forward", torch.relu), "conv0 has an attribute forward"),
        (lambda n: n.dense1.register_buffer("mask", None, persistent=False), "dense1 has an attribute mask"),
        (lambda n: n.inception0.add_module("branch_7x7", Convolution(6, 5, 7)), "has an attribute branch_7x7"),
        (lambda n: n.dense1.register_forward_pre_hook(_no_hook), "dense1 has hooks"),
        (lambda n: setattr(n.conv0, "norm", nn.BatchNorm2d(6)), "conv0.norm is a BatchNorm2d"),
        (lambda n: setattr(n.inception0, "into_pool", Convolution(6, 3, 3)), "branches of different kinds"),
        (lambda n: setattr(n.inception0, "into_pool", Convolution(6, 4, 1)), "branches of different kinds"),
        (lambda n: setattr(n.inception0, "pool", torch.relu), "inception0 has another pool"),
        (lambda n: setattr(n.dense0, "dropout", nn.Dropout(0.5)), "dense0 has dropout"),
        (lambda n: setattr(n.dense1, "dropout", nn.Dropout(0.5)), "dense1.dropout is a Dropout"),
        (lambda n: setattr(n, "conv0", Convolution(5, 7, 5)), "inception0.into_3x3 reads 6 channels, but .* has 7"),
        (lambda n: delattr(n, "dense2") or delattr(n, "dense1"), "dense0, its last layer, is a DenseWithNumbers"),
        (lambda n: setattr(n, "scale", nn.Parameter(torch.ones(1))), "scale belongs to none of its layers"),
    ],
)  # fmt: skip
def test_a_layer_that_is_not_known_whole_is_never_taken_for_one_that_is(narrow_network, change, said):
    AlignedNetwork(narrow_network)
    change(narrow_network)
    with pytest.raises(NotAligned, match=said):
        AlignedNetwork(narrow_network)
