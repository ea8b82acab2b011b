"""Any number of columns beside the image, in the plain and the aligned form."""

import copy

import pytest
import torch
from tests.fixtures.quick_training import QUICK, task
from tests.fixtures.synthetic_galaxies import NarrowNetwork
from torch.nn import functional as F

from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build, names
from sdss_photoz.networks.parts.layers import DenseWithNumbers, flatten
from sdss_photoz.training.fast.aligned import AlignedDenseWithNumbers, AlignedNetwork, Channels
from sdss_photoz.training.step import Trainer, train_step

COLUMNS = {0: (), 1: ("ebv",), 3: ("ebv", "petro_mag_r", "petro_r50")}
each_count = pytest.mark.parametrize("count", COLUMNS)


def drawn(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return module.double()


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@each_count
def test_the_layer_multiplies_pixels_and_numbers_and_its_aligned_form_as_well(count):
    plain = drawn(DenseWithNumbers(2 * 2 * 5, count, 7))
    x, numbers = random(6, 5, 2, 2), random(6, count)
    expected = torch.cat([flatten(x), numbers], 1) @ plain.weight.T + plain.bias
    assert torch.allclose(plain(x, numbers), expected, rtol=0, atol=1e-14)
    for multiple in (1, 8):
        aligned = AlignedDenseWithNumbers(plain, Channels.concatenated(5, multiple=multiple)).double()
        for place in (place for places in aligned.places.values() for place in places):
            source = plain.bias if place.name == "bias" else plain.weight
            aligned.get_parameter(place.name).data[place.index] = source[place.of].detach()
        padded = F.pad(x, (0, 0, 0, 0, 0, aligned.weight.shape[1] // 4 - 5))
        assert torch.allclose(aligned(padded, numbers)[:, :7], expected, rtol=0, atol=1e-14)


@each_count
@pytest.mark.parametrize("multiple", [1, 8])
def test_outputs_and_gradients_of_both_forms_are_the_same(count, multiple):
    network = NarrowNetwork()
    network.dense0 = DenseWithNumbers(2 * 2 * 19, count, 13)
    network._modules.update({name: network._modules.pop(name) for name in ("dense1", "dense2")})  # in their order
    network = drawn(network)
    aligned = AlignedNetwork(network, multiple)
    images, numbers = random(6, 16, 16, 5), random(6, count)
    labels, found = torch.arange(6) % 7, []
    for form in (network, aligned):
        beside = numbers.clone().requires_grad_()
        outputs = form(images, beside)
        F.cross_entropy(outputs, labels).backward()
        found.append((outputs, beside.grad))
    assert torch.allclose(*(outputs for outputs, _ in found), rtol=0, atol=1e-12)
    if count:
        assert torch.allclose(*(gradient for _, gradient in found), rtol=0, atol=1e-12)
        assert (found[0][1] != 0).all()
    gradients = aligned.unpack({name: parameter.grad for name, parameter in aligned.named_parameters()})
    for name, parameter in network.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-10, atol=1e-13), name


@each_count
@pytest.mark.parametrize("name", names())
def test_the_librarys_networks_take_a_step_with_any_columns(name, count):
    settings, _, head = task(QUICK.model_copy(update={"network": name}))
    network = build(name, head.outputs, inputs=Inputs(numbers=COLUMNS[count]))
    before = copy.deepcopy(network.state_dict())
    trainer = Trainer(network, settings, head, 4, torch.float32)
    assert trainer.aligned == (name == "inception")
    batch = random(2, 64, 64, 5).float(), random(2, count).float(), torch.tensor([3, 90])
    losses = [train_step(trainer, batch).item() for _ in range(2)]
    assert losses[1] < losses[0]
    after = trainer.trained_network().state_dict()
    assert not torch.equal(after["dense2.weight"], before["dense2.weight"])
    if count:  # the columns of the numbers, whose gradient is 0 while the head is
        columns = slice(-count, None) if name == "inception" else slice(448, 448 + count)
        assert (after["dense0.weight"] != before["dense0.weight"])[:, columns].any(0).all()
