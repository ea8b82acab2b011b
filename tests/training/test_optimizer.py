"""Muon on the convolutions, in the plain and the aligned form; averages of the weights; schedule-free."""

import copy

import numpy as np
import pytest
import torch
from synthetic_galaxies import NarrowNetwork
from test_step import NoReading, make_batch
from torch.nn import functional as F

from sdss_photoz.config import Training, check
from sdss_photoz.errors import UserError
from sdss_photoz.training.averaging import shares_of_newest
from sdss_photoz.training.optimizer import Optimizer, kernels, orthogonal
from sdss_photoz.training.step import Descent, learning_rate, train_step

RECIPES = {
    "muon": Training(optimizer="muon", schedule="step"),
    "exponential": Training(averaging="exponential", averaging_share=0.3, schedule="step"),
    "last": Training(averaging="last", averaging_share=0.5, schedule="step"),
    "free": Training(schedule="free"),
    "all": Training(
        optimizer="muon", averaging="last", averaging_share=0.5, label_width=0.1, crps_weight=10.0
    ).model_copy(update={"bins": 7}),  # the narrow network's
}
each_recipe = pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES)


def test_newton_schulz_brings_singular_values_near_one_and_keeps_the_directions():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 20, 90, generator=generator, dtype=torch.float64)
    for given in (matrices, matrices.mT):
        found = orthogonal(given)
        u, _, v = torch.linalg.svd(given, full_matrices=False)
        values = torch.linalg.svdvals(found)
        assert 0.6 < values.min() < values.max() < 1.3
        turned = u.mT @ found @ v.mT
        assert torch.allclose(turned, torch.diag_embed(turned.diagonal(dim1=1, dim2=2)), atol=1e-10)


def test_newton_schulz_leaves_rows_and_columns_of_zeros_and_the_rest_alike():
    matrix = torch.randn(1, 12, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = F.pad(matrix, (0, 2, 0, 4))
    found = orthogonal(padded)
    assert (found[:, 12:] == 0).all()
    assert (found[:, :, 30:] == 0).all()
    assert torch.allclose(found[:, :12, :30], orthogonal(matrix), atol=1e-12)
    assert (orthogonal(torch.zeros(1, 3, 5)) == 0).all()


def test_muon_on_a_convolution_is_torchs_muon_on_its_matrix(narrow_network):
    settings = Training(optimizer="muon", schedule="step", learning_rate=1e-3)
    narrow_network.wide = False
    descent = Descent(narrow_network, settings, 10, torch.float32)
    descent.optimizer.muon.arithmetic = torch.bfloat16  # torch's
    names = [kernel.parameter for kernel in kernels(descent.form)]
    weights = dict(descent.form.named_parameters())
    assert names == [name for name, value in weights.items() if value.ndim == 4]
    matrices = {name: torch.nn.Parameter(weights[name].detach().flatten(1).clone()) for name in names}
    reference = torch.optim.Muon(matrices.values(), lr=1e-3, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        train_step(descent, make_batch())
        for name, matrix in matrices.items():
            matrix.grad = weights[name].grad.flatten(1).clone()
        reference.step()
        for name, matrix in matrices.items():
            assert torch.allclose(weights[name].flatten(1), matrix, rtol=0, atol=1e-5), name  # bfloat16 rounds 2e-4


@each_recipe
def test_a_recipe_in_the_aligned_form_is_that_of_the_plain_form_and_padding_stays_zero(narrow_network, settings):
    found = []
    for wide in (False, True):
        network = copy.deepcopy(narrow_network).double()
        network.wide = wide
        descent = Descent(network, settings, 8, torch.float64)
        if wide:
            descent = Descent(network, settings, 8, torch.float64, type(descent.form)(network))
        losses = [train_step(descent, make_batch(dtype=torch.float64)).item() for _ in range(8)]
        found.append((losses, copy.deepcopy(descent.finish().state_dict())))
    (plain_losses, plain), (losses, aligned) = found
    assert losses == pytest.approx(plain_losses, abs=1e-9)
    assert all(torch.allclose(aligned[name], value, rtol=0, atol=1e-8) for name, value in plain.items())
    ones = {name: torch.ones(shape) for name, shape in descent.form.shapes.items()}
    state = descent.form.state_dict()
    assert all((state[name][real == 0] == 0).all() for name, real in descent.form.pack(ones).items())


@each_recipe
@pytest.mark.parametrize("arithmetic", [torch.float32, torch.bfloat16])
def test_a_recipe_that_is_put_down_and_taken_up_gives_the_same_bits(narrow_network, settings, arithmetic):
    batch = make_batch()
    through = Descent(copy.deepcopy(narrow_network), settings, 6, arithmetic)
    for step in range(6):
        train_step(through, batch)
        if step == 3:
            tensors = {name: value.clone() for name, value in through.tensors().items()}
    taken_up = Descent(NarrowNetwork(), settings, 6, arithmetic)
    taken_up.load(tensors, 4)
    for _ in range(2):
        train_step(taken_up, batch)
    expected = through.tensors()
    assert set(taken_up.tensors()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in taken_up.tensors().items())
    finished = through.finish().state_dict()
    assert all(torch.equal(value, finished[name]) for name, value in taken_up.finish().state_dict().items())


@each_recipe
def test_a_step_of_a_recipe_reads_no_value_from_the_device(narrow_network, settings):
    descent = Descent(narrow_network, settings, 10, torch.bfloat16)
    train_step(descent, make_batch())
    with NoReading():
        train_step(descent, make_batch())


def _weights_of_each_step(network, settings, steps):
    descent, found = Descent(network, settings, steps, torch.float32), []
    for _ in range(steps):
        train_step(descent, make_batch())
        found.append(descent.form.state_dict()["dense1.weight"].double().numpy().copy())
    return np.array(found), descent.finish().state_dict()["dense1.weight"].numpy()


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
    share = (1 - 1 / 3) ** np.arange(11, -1, -1.0)
    assert saved == pytest.approx(np.average(weights, axis=0, weights=share), rel=1e-5, abs=1e-7)


def test_averaging_does_not_change_the_course_of_the_training(narrow_network):
    narrow_network.wide = False
    runs = [
        _weights_of_each_step(copy.deepcopy(narrow_network), Training(averaging=kind), 3)[0]
        for kind in ("none", "last", "exponential")
    ]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] == runs[2]).all()


def test_schedule_free_is_the_published_recursion(narrow_network):
    narrow_network.wide = False
    narrow_network = narrow_network.double()
    settings, steps = Training(schedule="free", learning_rate=1e-2, warmup=0.5), 6
    reference = copy.deepcopy(narrow_network)
    z, x, v = ([p.detach().clone() for p in reference.parameters()] for _ in range(3))
    total = 0.0
    for value in v:
        value.zero_()
    batch = make_batch(dtype=torch.float64)
    for step in range(steps):
        with torch.no_grad():
            for parameter, a, b in zip(reference.parameters(), z, x, strict=True):
                parameter.copy_(0.1 * a + 0.9 * b)
        gradients = torch.autograd.grad(F.cross_entropy(reference(*batch[:2]), batch[2]), list(reference.parameters()))
        rate = min(1e-2, 1e-2 * (step + 0.5) / 3)
        total += rate**2
        for gradient, a, b, second in zip(gradients, z, x, v, strict=True):
            second.mul_(0.999).add_(0.001 * gradient**2)
            a.sub_(rate * gradient / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8))
            b.lerp_(a, rate**2 / total)
    descent = Descent(narrow_network, settings, steps, torch.float64)
    for _ in range(steps):
        train_step(descent, batch)
    for found, expected in zip(descent.finish().parameters(), x, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_schedule_free_with_another_average_or_batch_normalisation_is_refused():
    with pytest.raises(UserError, match=r"training.averaging is 'last', but .* set training.averaging to none"):
        check({"training": {"schedule": "free", "averaging": "last"}})
    with pytest.raises(
        UserError, match=r"training.batch_norm is true, but .* set training.schedule to one_cycle or step"
    ):
        check({"training": {"schedule": "free", "batch_norm": True}})


def test_shares_of_the_average_are_whole_at_first_and_spread_over_the_rest():
    rates = learning_rate(RECIPES["free"], torch.arange(100), 100)
    for settings in RECIPES.values():
        shares = shares_of_newest(settings, rates)
        assert shares[0] == 1
        assert ((shares > 0) & (shares <= 1)).all()


def test_adam_is_that_of_torch_to_the_bit_also_from_a_state_in_the_middle(narrow_network):
    theirs, rate = copy.deepcopy(narrow_network), torch.zeros((), dtype=torch.float64)
    ours = Optimizer(narrow_network, "adam", rate, torch.float32, 0.8)
    reference = torch.optim.Adam(theirs.parameters(), lr=rate, betas=(0.8, 0.999), fused=True)
    for step in range(6):
        rate.fill_(0.01 / (step + 1))
        for one, other in zip(narrow_network.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        ours.step()
        reference.step()
        if step == 2:
            remembered, ours = ours.moments(), Optimizer(narrow_network, "adam", rate, torch.float32, 0.8)
            ours.load(remembered, 3)
    for one, other in zip(narrow_network.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
