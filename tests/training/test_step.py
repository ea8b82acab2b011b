"""One step, and the learning rate's course."""

import numpy as np
import pytest
import torch

from sdss_photoz.config import Training
from sdss_photoz.training.networks import build
from sdss_photoz.training.step import adam, learning_rate, train_step


def test_the_papers_rate_is_divided_by_five_half_way():
    settings = Training(schedule="step", learning_rate=1e-4)
    rates = [learning_rate(settings, step, 1000) for step in range(1000)]
    assert rates[:500] == [1e-4] * 500
    assert rates[500:] == [pytest.approx(2e-5)] * 500


def test_one_cycle_climbs_to_the_rate_and_falls_to_zero():
    settings = Training(schedule="one_cycle", learning_rate=1e-3, warmup=0.25)
    rates = np.array([learning_rate(settings, step, 1000) for step in range(1000)])
    assert abs(rates.argmax() - 250) <= 1
    assert rates.max() == pytest.approx(1e-3, rel=0.01)
    assert (np.diff(rates[:249]) > 0).all()
    assert (np.diff(rates[251:]) < 0).all()
    assert 0 < rates[-1] < 2e-6


def test_one_cycle_without_warm_up_starts_at_the_rate():
    settings = Training(schedule="one_cycle", learning_rate=1e-3, warmup=0.0)
    assert learning_rate(settings, 0, 1000) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("arithmetic", [torch.float32, torch.bfloat16])
def test_the_papers_network_takes_a_step_that_lowers_its_loss(arithmetic):
    torch.manual_seed(0)
    network = build("inception", initialisation="he")
    batch = torch.randn(2, 64, 64, 5), torch.rand(2) * 0.1, torch.tensor([20, 40])
    optimizer = adam(network)
    losses = [train_step(network, optimizer, batch, 1e-4, arithmetic).item() for _ in range(2)]
    assert losses[0] == pytest.approx(np.log(180), rel=1e-5)
    assert losses[1] < losses[0] - 0.02
