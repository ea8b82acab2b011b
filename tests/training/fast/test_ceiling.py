"""Floating-point operations of a network, and the speed of matrix products."""

import pytest
import torch

from sdss_photoz.config import Training
from sdss_photoz.networks import build, names, variant
from sdss_photoz.targets.classes import Classes
from sdss_photoz.training.fast.ceiling import flop_per_galaxy, matmul_ceiling
from sdss_photoz.training.resources import COSTS
from sdss_photoz.training.step import Trainer


def test_the_papers_network_takes_four_and_a_half_gflop_a_galaxy_and_stays_as_it_is():
    network = build("inception")
    forward = 2 * 0.76e9
    into_the_image = 2 * 64 * 64 * 64 * 5 * 25  # the one gradient that a step does not need
    assert flop_per_galaxy(network) == pytest.approx(3 * forward - into_the_image, rel=0.01)
    assert all(parameter.grad is None and parameter.device.type == "cpu" for parameter in network.parameters())


@pytest.mark.parametrize("name", names())
def test_the_operations_of_a_network_are_those_by_which_jobs_ask_for_time(name):
    assert flop_per_galaxy(build(name)) == pytest.approx(COSTS[name].training_flop, rel=0.02)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("averaging", ["none", "exponential"])
def test_operations_are_the_same_in_a_training_and_counting_them_changes_no_network(name, averaging):
    settings = Training(network=name, averaging=averaging, batch_norm=True, dropout=0.3, pooling="max")
    network = build(name, variant=variant(settings))
    before, counted = {key: value.clone() for key, value in network.state_dict().items()}, flop_per_galaxy(network)
    trainer = Trainer(network, settings, Classes(), 10, torch.bfloat16)
    assert flop_per_galaxy(trainer.network) == counted
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_ceiling_is_that_of_a_processor():
    assert 1e8 < matmul_ceiling(torch.device("cpu"), torch.float32) < 1e14
