"""The losses: soft labels and CRPS, against closed forms and the evaluation's own CRPS."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sdss_photoz.scores import pdfs
from sdss_photoz.scores.grid import Grid
from sdss_photoz.targets.classes import Classes, Crps, soft_labels
from sdss_photoz.targets.label import Label

CPU = torch.device("cpu")


def _scores(bins=180, count=50):
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(count, bins, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, bins, (count,), generator=generator)


def test_the_default_loss_is_the_cross_entropy_of_hard_bins():
    logits, labels = _scores()
    assert torch.equal(Classes().loss(logits, labels), F.cross_entropy(logits, labels))


def test_soft_labels_sum_to_one_and_are_a_gaussian_of_the_width_in_redshift():
    targets = soft_labels(Grid(), 0.005).double()
    assert targets.sum(1).numpy() == pytest.approx(1, abs=1e-6)
    centres = torch.from_numpy(Grid().centres())
    inside = slice(20, 160)
    mean = targets @ centres
    assert mean[inside].numpy() == pytest.approx(centres[inside].numpy(), abs=1e-7)
    width = (targets @ centres**2 - mean**2)[inside].sqrt()
    assert width.numpy() == pytest.approx(0.005, rel=1e-3)


def test_a_vanishing_width_gives_hard_bins_and_a_wide_one_another_loss():
    logits, labels = _scores()
    hard = F.cross_entropy(logits, labels)
    assert Classes(label_width=1e-5).loss(logits, labels) == pytest.approx(hard.item(), rel=1e-6)
    wide = Classes(label_width=0.01).loss(logits, labels)
    by_hand = -(soft_labels(Grid(), 0.01)[labels] * logits.log_softmax(1)).sum(1).mean()
    assert wide.item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert wide.item() != pytest.approx(hard.item(), rel=1e-3)


@pytest.mark.parametrize("bins", [7, 180])
def test_the_crps_term_is_the_crps_of_the_evaluation_at_the_bins_centres(bins):
    crps = Crps(Grid(bins=bins), CPU)
    logits, labels = _scores(bins)
    probabilities = logits.softmax(1)
    expected = pdfs.crps(probabilities.numpy(), Grid(bins=bins).centres()[labels.numpy()])
    assert crps(probabilities, labels).numpy() == pytest.approx(expected, rel=1e-12)
    single = crps(probabilities.float(), labels)
    assert single.dtype == torch.float32
    assert single.numpy() == pytest.approx(expected, rel=1e-4)
    certain = torch.eye(bins, dtype=torch.float64)
    assert crps(certain, torch.arange(bins)).numpy() == pytest.approx(np.full(bins, 0.4 / bins / 12))


def test_the_crps_term_is_added_with_its_weight_and_its_gradient_is_right():
    logits, labels = _scores(bins=12, count=4)
    loss = Classes(Label(grid=Grid(bins=12)), crps_weight=30.0).loss
    mean = pdfs.crps(logits.softmax(1).numpy(), Grid(bins=12).centres()[labels.numpy()]).mean()
    assert loss(logits, labels).item() == pytest.approx(F.cross_entropy(logits, labels).item() + 30 * mean, rel=1e-12)
    assert torch.autograd.gradcheck(lambda scores: loss(scores, labels), logits.requires_grad_())
