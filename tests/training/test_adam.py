"""Adam and averages of the weights, in the plain and the aligned form."""

import copy

import numpy as np
import pytest
import torch
from tests.fixtures.synthetic_galaxies import NarrowNetwork
from tests.training.test_step import NoReading, make_batch

from sdss_photoz.config import Training
from sdss_photoz.targets.classes import Classes
from sdss_photoz.training.adam import BETAS, Adam
from sdss_photoz.training.averaging import newest_fraction
from sdss_photoz.training.step import Trainer, train_step

RECIPES = {
    "exponential": Training(averaging="exponential", averaging_share=0.3, schedule="step"),
    "last": Training(averaging="last", averaging_share=0.5, schedule="step"),
    "all": Training(averaging="last", averaging_share=0.5, label_width=0.1, crps_weight=10.0).model_copy(
        update={"bins": 7}  # the narrow network's
    ),
}
each_recipe = pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES)


@each_recipe
def test_a_recipe_in_the_aligned_form_is_that_of_the_plain_form_and_padding_stays_zero(narrow_network, settings):
    found = []
    for wide in (False, True):
        network = copy.deepcopy(narrow_network).double()
        network.wide = wide
        trainer = Trainer(network, settings, Classes(), 8, torch.float64)
        if wide:
            trainer = Trainer(network, settings, Classes(), 8, torch.float64, type(trainer.form)(network))
        losses = [train_step(trainer, make_batch(dtype=torch.float64)).item() for _ in range(8)]
        found.append((losses, copy.deepcopy(trainer.trained_network().state_dict())))
    (plain_losses, plain), (losses, aligned) = found
    assert losses == pytest.approx(plain_losses, abs=1e-9)
    assert all(torch.allclose(aligned[name], value, rtol=0, atol=1e-8) for name, value in plain.items())
    ones = {name: torch.ones(shape) for name, shape in trainer.form.shapes.items()}
    state = trainer.form.state_dict()
    assert all((state[name][real == 0] == 0).all() for name, real in trainer.form.pack(ones).items())


@each_recipe
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_recipe_that_is_stopped_and_resumed_gives_the_same_bits(narrow_network, settings, dtype):
    batch = make_batch()
    whole = Trainer(copy.deepcopy(narrow_network), settings, Classes(), 6, dtype)
    for step in range(6):
        train_step(whole, batch)
        if step == 3:
            tensors = {name: value.clone() for name, value in whole.tensors().items()}
    resumed = Trainer(NarrowNetwork(), settings, Classes(), 6, dtype)
    resumed.load(tensors, 4)
    for _ in range(2):
        train_step(resumed, batch)
    expected = whole.tensors()
    assert set(resumed.tensors()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in resumed.tensors().items())
    finished = whole.trained_network().state_dict()
    assert all(torch.equal(value, finished[name]) for name, value in resumed.trained_network().state_dict().items())


@each_recipe
def test_a_step_of_a_recipe_reads_no_value_from_the_device(narrow_network, settings):
    trainer = Trainer(narrow_network, settings, Classes(), 10, torch.bfloat16)
    train_step(trainer, make_batch())
    with NoReading():
        train_step(trainer, make_batch())


def _weights_of_each_step(network, settings, steps):
    trainer, found = Trainer(network, settings, Classes(), steps, torch.float32), []
    for _ in range(steps):
        train_step(trainer, make_batch())
        found.append(trainer.form.state_dict()["dense1.weight"].double().numpy().copy())
    return np.array(found), trainer.trained_network().state_dict()["dense1.weight"].numpy()


def test_the_average_of_the_last_steps_is_their_mean_and_is_what_is_saved(narrow_network):
    narrow_network.wide = False
    settings = Training(averaging="last", averaging_share=0.5)
    weights, saved = _weights_of_each_step(narrow_network, settings, 10)
    assert saved == pytest.approx(weights[5:].mean(0), rel=1e-5, abs=1e-7)
    assert saved != pytest.approx(weights[-1], rel=1e-5, abs=1e-7)


def test_the_exponential_average_weighs_steps_by_their_age_alone(narrow_network):
    narrow_network.wide = False
    settings = Training(averaging="exponential", averaging_share=0.25)
    weights, saved = _weights_of_each_step(narrow_network, settings, 12)
    weight = (1 - 1 / 3) ** np.arange(11, -1, -1.0)
    assert saved == pytest.approx(np.average(weights, axis=0, weights=weight), rel=1e-5, abs=1e-7)


def test_averaging_does_not_change_the_course_of_the_training(narrow_network):
    narrow_network.wide = False
    runs = [
        _weights_of_each_step(copy.deepcopy(narrow_network), Training(averaging=kind), 3)[0]
        for kind in ("none", "last", "exponential")
    ]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] == runs[2]).all()


def test_fractions_of_the_average_are_whole_at_first_and_spread_over_the_rest():
    for settings in RECIPES.values():
        fractions = newest_fraction(settings, 100)
        assert fractions[0] == 1
        assert ((fractions > 0) & (fractions <= 1)).all()


def test_adam_is_that_of_torch_to_the_bit_also_from_a_state_in_the_middle(narrow_network):
    theirs, rate = copy.deepcopy(narrow_network), torch.zeros((), dtype=torch.float64)
    ours = Adam(dict(narrow_network.named_parameters()), rate)
    reference = torch.optim.Adam(theirs.parameters(), lr=rate, betas=BETAS, fused=True)
    for step in range(6):
        rate.fill_(0.01 / (step + 1))
        for one, other in zip(narrow_network.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        ours.step()
        reference.step()
        if step == 2:
            remembered, ours = ours.moments, Adam(dict(narrow_network.named_parameters()), rate)
            ours.load(remembered, 3)
    for one, other in zip(narrow_network.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
