"""One step, and the learning rate's course."""

import copy

import numpy as np
import pytest
import torch
from tests.fixtures.synthetic_galaxies import NarrowNetwork
from torch.utils._python_dispatch import TorchDispatchMode

from sdss_photoz import device
from sdss_photoz.config import Training
from sdss_photoz.networks import build
from sdss_photoz.targets.classes import Classes
from sdss_photoz.training.step import NO_STEP, Trainer, learning_rate, train_step

CPU = torch.device("cpu")


def _rates(settings, steps=1000):
    return learning_rate(settings, torch.arange(steps), steps).numpy()


def make_batch(bins=7, count=6, size=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    cubes = torch.randn(count, size, size, 5, generator=generator)
    ebv = torch.rand(count, generator=generator)[:, None] * 0.1
    return cubes.to(dtype), ebv.to(dtype), torch.randint(0, bins, (count,), generator=generator)


def test_the_papers_rate_is_divided_by_five_half_way():
    rates = _rates(Training(schedule="step", learning_rate=1e-4))
    assert rates[:500].tolist() == [1e-4] * 500
    assert rates[500:].tolist() == [1e-4 / 5] * 500


def test_one_cycle_climbs_to_the_rate_and_falls_to_zero():
    rates = _rates(Training(schedule="one_cycle", learning_rate=1e-3, warmup=0.25))
    assert abs(rates.argmax() - 250) <= 1
    assert rates.max() == pytest.approx(1e-3, rel=0.01)
    assert (np.diff(rates[:249]) > 0).all()
    assert (np.diff(rates[251:]) < 0).all()
    assert 0 < rates[-1] < 2e-6


def test_one_cycle_without_warm_up_starts_at_the_rate():
    settings = Training(schedule="one_cycle", learning_rate=1e-3, warmup=0.0)
    assert _rates(settings)[0] == pytest.approx(1e-3, rel=1e-3)


def test_a_step_sees_the_drop_at_half_way_in_tensors_that_stay_in_place(narrow_network):
    trainer = Trainer(narrow_network, Training(schedule="step", learning_rate=1e-3), Classes(), 10, torch.float32)
    places = trainer.rate.data_ptr(), trainer.step.data_ptr()
    rates = []
    for _ in range(10):
        train_step(trainer, make_batch())
        rates.append(trainer.rate.item())
    assert rates == [1e-3] * 5 + [1e-3 / 5] * 5
    assert trainer.step == 10
    assert (trainer.rate.data_ptr(), trainer.step.data_ptr()) == places
    assert trainer.optimizer.rate is trainer.rate


def test_the_first_step_whose_loss_is_no_number_is_noted_on_the_device(narrow_network):
    trainer = Trainer(narrow_network, Training(), Classes(), 10, torch.float32)
    cubes, ebv, labels = make_batch()
    for step in range(5):
        assert trainer.failed == (NO_STEP if step < 3 else 2)
        train_step(trainer, (cubes, ebv if step != 2 else ebv * torch.nan, labels))


class NoReading(TorchDispatchMode):
    """Refuses what makes a program wait for a GPU: reading a value there, or shapes that depend on values."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        assert torch.Tag.data_dependent_output not in operation.tags, f"{operation} reads a value from the device"
        assert torch.Tag.dynamic_output_shape not in operation.tags, f"{operation} reads a value from the device"
        return operation(*arguments, **(options or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_reads_no_value_from_the_device_and_so_can_be_captured(narrow_network, dtype):
    trainer = Trainer(narrow_network, Training(schedule="step"), Classes(), 10, dtype)
    train_step(trainer, make_batch())  # makes Adam's moments
    with NoReading():
        with pytest.raises(AssertionError, match="reads a value"):
            trainer.rate.item()
        train_step(trainer, make_batch())


def test_the_aligned_form_is_trained_as_the_plain_form_is(narrow_network):
    settings = Training(schedule="step", learning_rate=1e-3)
    found = []
    for wide in (False, True):
        network = copy.deepcopy(narrow_network).double()
        network.wide = wide
        trainer = Trainer(network, settings, Classes(), 20, torch.float64)
        losses = [train_step(trainer, make_batch(dtype=torch.float64)).item() for _ in range(20)]
        found.append((losses, trainer.trained_network().state_dict()))
    (plain_losses, plain), (losses, aligned) = found
    assert losses == pytest.approx(plain_losses, abs=1e-12)
    assert losses[-1] < losses[0]
    assert all(torch.allclose(aligned[name], value, rtol=0, atol=1e-10) for name, value in plain.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_that_is_stopped_and_resumed_gives_the_same_bits(narrow_network, dtype):
    settings, batch = Training(), make_batch()
    whole = Trainer(copy.deepcopy(narrow_network), settings, Classes(), 8, dtype)
    for step in range(8):
        train_step(whole, batch)
        if step == 4:
            tensors = {name: value.clone() for name, value in whole.tensors().items()}
    assert {name.split("/")[0] for name in tensors} == {"weights", "adam"}
    resumed = Trainer(NarrowNetwork(), settings, Classes(), 8, dtype)
    resumed.load(tensors, 5)
    for _ in range(3):
        train_step(resumed, batch)
    expected = whole.tensors()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.tensors().items())
    assert torch.equal(resumed.rate, whole.rate)


def test_in_bfloat16_the_weights_their_updates_the_last_layer_and_the_loss_are_float32(narrow_network):
    trainer = Trainer(narrow_network, Training(), Classes(), 10, torch.bfloat16)
    before = {name: value.clone() for name, value in trainer.form.state_dict().items()}
    loss = train_step(trainer, make_batch())
    assert loss.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in (*trainer.form.parameters(), *trainer.tensors().values()))
    exact = {name.removeprefix("network.") for name in set(before) - set(trainer.copies)}
    assert exact == {"dense0.number0", "dense0.bias", "dense2.weight", "dense2.bias"}
    weights = dict(trainer.form.named_parameters())
    for name, rounded in trainer.copies.items():
        assert torch.equal(rounded, weights[name].bfloat16()), name
    # an update far below the spacing of bfloat16 is not lost
    moved = [not torch.equal(weights[name], before[name]) for name in trainer.copies]
    assert all(moved)


def test_bfloat16_and_float32_lose_the_same_within_its_rounding(narrow_network):
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        trainer = Trainer(copy.deepcopy(narrow_network), Training(schedule="step"), Classes(), 20, dtype)
        losses.append([train_step(trainer, make_batch()).item() for _ in range(20)])
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert losses[0][-1] < 0.9 * losses[0][0]


def test_the_papers_network_takes_a_step_that_lowers_its_loss():
    torch.manual_seed(0)
    batch = torch.randn(2, 64, 64, 5), torch.rand(2, 1) * 0.1, torch.tensor([20, 40])
    settings = Training(schedule="step", learning_rate=1e-4)
    trainer = Trainer(build("inception", initialisation="he"), settings, Classes(), 10, torch.float32)
    losses = [train_step(trainer, batch).item() for _ in range(2)]
    assert losses[0] == pytest.approx(np.log(180), rel=1e-5)
    assert losses[1] < losses[0] - 0.02


def test_automatic_precision_is_bfloat16_where_there_are_instructions_for_it(monkeypatch, capsys):
    for supported in (True, False):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda found=supported: found)
        assert device.compute_dtype(CPU, "auto") == (torch.bfloat16 if supported else torch.float32)
        assert device.compute_dtype(CPU, "float32") == torch.float32
        assert device.compute_dtype(CPU, "bfloat16") == torch.bfloat16
    assert capsys.readouterr().err.count("which this device emulates") == 1
