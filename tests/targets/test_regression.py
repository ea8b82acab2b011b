"""The regression's loss, unit, distributions and point estimates."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from sdss_photoz.scores import pdfs
from sdss_photoz.scores.grid import Grid
from sdss_photoz.targets.label import Label
from sdss_photoz.targets.regression import Regression

GRID = Grid(0.0, 10.0, 200)
LABEL = Label("mass", GRID, "value")
RANDOM = np.random.default_rng(7)
VALUES = RANDOM.normal(5.0, 1.5, 400)


def _outputs(head, points):
    """What a network returns for point estimates (n,)."""
    return torch.from_numpy((np.asarray(points) - head.mean) / head.deviation)[:, None]


def test_a_linear_network_ends_at_the_least_squares_solution():
    x = np.c_[RANDOM.normal(size=(400, 3)), np.ones(400)]
    y = x @ [0.5, -1.0, 2.0, 30.0] + RANDOM.normal(0, 0.3, 400)
    head = Regression(Label("mass", Grid(0, 60, 100), "value")).fitted(y)
    weights = torch.zeros(4, 1, dtype=torch.float64, requires_grad=True)
    features, labels = torch.from_numpy(x), head.encode(y).double()
    optimizer = torch.optim.LBFGS([weights], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = head.loss(features @ weights, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    solution, squares, *_ = np.linalg.lstsq(x, y, rcond=None)
    found = features @ weights.detach()
    assert head.point(found).numpy() == pytest.approx(x @ solution, abs=1e-4)
    loss = head.mean_score(head.score(found, labels).item(), 400)
    assert loss == pytest.approx(np.sqrt(squares[0] / 400), rel=1e-5)
    assert head.loss(found, labels).item() * head.unit == pytest.approx(loss, rel=1e-6)


def test_the_mean_absolute_error_is_in_the_unit_of_the_label():
    head = Regression(LABEL, "mae").fitted(VALUES)
    total = head.score(_outputs(head, VALUES + 0.25), head.encode(VALUES)).item()
    assert head.mean_score(total, 400) == pytest.approx(0.25, rel=1e-5)
    middle = np.median(VALUES)
    assert head.prior(head.encode(VALUES).numpy()) == pytest.approx(np.abs(VALUES - middle).mean(), rel=1e-5)


def test_the_root_of_the_mean_square_has_a_finite_gradient_at_0():
    head = Regression(LABEL).fitted(VALUES)
    labels = head.encode(VALUES)
    outputs = labels[:, None].clone().requires_grad_()
    head.loss(outputs, labels).backward()
    assert (outputs.grad == 0).all()


def test_distributions_of_residuals_are_calibrated():
    residuals = RANDOM.gamma(2.0, 0.2, 4000) - 0.4  # skewed
    points = RANDOM.uniform(2, 8, 4000)
    head = Regression(LABEL).fitted(VALUES).learned(points[:2000], (points + residuals)[:2000])
    pdf = head.distribution(_outputs(head, points[2000:])).numpy()
    assert pdf.sum(1) == pytest.approx(1, abs=1e-14)
    assert kstest(pdfs.pit(pdf, (points + residuals)[2000:], GRID), "uniform").pvalue > 0.01
    mean = points[2000:] + residuals[:2000].mean()
    assert pdf @ GRID.centres() == pytest.approx(mean, abs=0.01)


def test_the_cumulative_distribution_at_the_edges_is_that_of_point_and_quantiles():
    residuals = np.array([-0.3, 0.1, 0.1, 0.1, 0.8])
    head = Regression(LABEL).fitted(VALUES).learned(np.zeros(5), residuals)
    quantiles = np.quantile(residuals, np.linspace(0, 1, 201))
    cdf = np.cumsum(head.distribution(_outputs(head, [5.02])).numpy()[0])
    expected = [np.mean(quantiles <= edge - 5.02) for edge in GRID.edges()[1:]]
    assert cdf == pytest.approx(expected, abs=1.01 / 201)


@pytest.mark.parametrize("source", ["dropout", "members"])
def test_a_pass_and_a_member_have_all_probability_in_the_bin_of_their_point(source):
    head, points = Regression(LABEL, source=source).fitted(VALUES), np.array([-3.0, 0.0, 0.04, 5.01, 10.0, 12.0])
    pdf = head.distribution(_outputs(head, points)).numpy()
    assert pdf.argmax(1).tolist() == GRID.bin_of(points).tolist()
    assert set(pdf.ravel()) == {0.0, 1.0}
    assert (head.passes, head.learns) == ((100 if source == "dropout" else 1), False)
