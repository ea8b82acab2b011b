"""The mixture's loss, distribution and point estimate are those of its normal distributions."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from sdss_photoz.errors import UserError
from sdss_photoz.scores import pdfs
from sdss_photoz.scores.grid import Grid
from sdss_photoz.targets.label import Label
from sdss_photoz.targets.mixture import FLOOR, Mixture, Normals

GRID = Grid(-3.0, 5.0, 160)
VALUES = np.random.default_rng(2).normal(1.0, 0.4, 500)


def _random(seed, components=3, count=4):
    """Random mixtures, and values for them, float64."""
    generator = torch.Generator().manual_seed(seed)
    logits, means, widths, values = (
        torch.randn(count, *shape, dtype=torch.float64, generator=generator) for shape in [(components,)] * 3 + [()]
    )
    return Normals(logits.log_softmax(1), means, widths.exp() * 0.5), values


def _head(loss="nll", components=3, grid=GRID):
    return Mixture(Label("mass", grid, "value"), components, loss).fitted(VALUES)


@pytest.mark.parametrize("seed", range(3))
def test_the_crps_is_the_integral_of_the_squared_difference_of_cumulative_distributions(seed):
    normals, values = _random(seed)
    found = normals.crps(values)
    for row, y in enumerate(values.tolist()):
        weights, means, widths = (part[row].numpy() for part in (normals.weights, normals.means, normals.widths))

        def square(x, above, mixture=(weights, means, widths)):
            return (mixture[0] @ norm.cdf(x, mixture[1], mixture[2]) - above) ** 2

        expected = quad(square, -40, y, (0,), limit=500)[0] + quad(square, y, 40, (1,), limit=500)[0]
        assert found[row].item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_the_negative_log_likelihood_is_that_of_a_density_whose_integral_is_1(seed):
    normals, values = _random(seed)
    for row, y in enumerate(values.tolist()):
        log_weights, means, widths = (part[row].numpy() for part in normals)
        whole = quad(lambda x, row=row: np.exp(-_nll(normals, row, x)), -40, 40, limit=500)[0]
        assert whole == pytest.approx(1, abs=1e-8)
        expected = -logsumexp(log_weights + norm.logpdf(y, means, widths))
        assert _nll(normals, row, y) == pytest.approx(expected, rel=1e-12)


def _nll(normals, row, x):
    one = Normals(*(part[row : row + 1] for part in normals))
    return one.negative_log_likelihood(torch.tensor([x], dtype=torch.float64)).item()


@pytest.mark.parametrize("loss", ["nll", "crps"])
def test_gradients_of_the_losses_are_those_of_finite_differences(loss):
    head, generator = _head(loss), torch.Generator().manual_seed(5)
    outputs = torch.randn(4, head.outputs, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randn(4, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda out: head.loss(out, labels), outputs)


@pytest.mark.parametrize("values", [VALUES, np.r_[np.full(499, 1.0), 2.0]])
def test_components_differ_at_the_start_also_where_labels_are_tied(values):
    head = Mixture(Label("mass", GRID, "value"), 5).fitted(values)
    normals = head.normals(torch.zeros(1, 15))
    assert (normals.means.diff(dim=1) > 0.009).all()
    outputs = torch.zeros(3, 15, requires_grad=True)
    head.loss(outputs, head.encode(values[-3:])).backward()
    assert len(outputs.grad.sum(0)[:5].unique()) == 5


def test_the_mixture_of_one_component_at_the_start_is_the_normal_distribution_of_the_labels():
    head = _head(components=1)
    label = np.array([1.3])
    expected = -norm.logpdf(1.3, np.median(VALUES), VALUES.std())
    assert head.score(torch.zeros(1, 3), head.encode(label)).item() == pytest.approx(expected, rel=1e-6)


def test_distributions_sum_to_1_and_their_means_are_the_point_estimates():
    head = _head()
    outputs = 0.5 * torch.randn(50, head.outputs, generator=torch.Generator().manual_seed(1))
    pdf = head.distribution(outputs).numpy()
    assert pdf.sum(1) == pytest.approx(1, abs=1e-14)
    assert (pdf >= 0).all()
    assert head.point(outputs).dtype == torch.float64
    assert pdf @ GRID.centres() == pytest.approx(head.point(outputs).numpy(), abs=GRID.step / 10)


def test_what_lies_beyond_the_grid_counts_in_the_first_and_the_last_bin():
    head = _head(grid=Grid(0.9, 1.1, 4))
    outputs = torch.randn(6, head.outputs, generator=torch.Generator().manual_seed(1))
    normals, pdf = head.normals(outputs.double()), head.distribution(outputs)
    for row, (weights, means, widths) in enumerate(zip(normals.weights, normals.means, normals.widths, strict=True)):
        edges = (np.array([[0.95], [1.0], [1.05]]) - VALUES.mean()) / VALUES.std()
        inner = norm.cdf(edges, means.numpy(), widths.numpy()) @ weights.numpy()
        assert pdf[row].numpy() == pytest.approx(np.diff(np.r_[0, inner, 1]), abs=1e-12)


@pytest.mark.parametrize("loss", ["nll", "crps"])
def test_scores_are_in_the_unit_of_the_label(loss):
    head, outputs = _head(loss), torch.randn(5, 9, generator=torch.Generator().manual_seed(4))
    y = np.array([0.2, 0.9, 1.0, 1.4, 2.0])
    pdf = head.distribution(outputs).numpy()
    density = pdf[np.arange(5), GRID.bin_of(y)] / GRID.step
    expected = -np.log(density).sum() if loss == "nll" else pdfs.crps(pdf, y, GRID).sum()
    assert head.score(outputs, head.encode(y)).item() == pytest.approx(expected, rel=0.02)
    assert head.mean_score(3.0, 2) == 1.5


def test_the_prior_of_the_crps_is_half_the_mean_distance_of_two_labels():
    head = _head("crps")
    expected = np.abs(VALUES[:, None] - VALUES).mean() / 2
    assert head.prior(head.encode(VALUES).numpy()) == pytest.approx(expected, rel=1e-6)


def test_the_prior_of_the_likelihood_is_near_the_entropy_of_the_labels():
    head = _head()
    entropy = norm(scale=VALUES.std()).entropy()
    assert head.prior(head.encode(VALUES).numpy()) == pytest.approx(entropy, abs=0.1)


def test_the_loss_is_computed_in_float32_also_within_autocast_and_of_bfloat16_outputs():
    for loss in ("nll", "crps"):
        head, outputs = _head(loss), torch.randn(8, 9, generator=torch.Generator().manual_seed(3))
        labels = head.encode(VALUES[:8])
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(head.loss(outputs, labels), head.loss(outputs.clone(), labels))
            within = head.loss(outputs, labels)
        assert within.dtype == torch.float32
        assert within == head.loss(outputs, labels)
        assert head.loss(outputs.bfloat16(), labels).dtype == torch.float32


def test_widths_never_fall_below_the_floor_and_their_weight_there_is_counted():
    head, outputs = _head(), torch.zeros(2, 9)
    outputs[:, 6:] = torch.tensor([-1e4, 0.0, 0.0])
    assert head.normals(outputs).widths.min() == pytest.approx(FLOOR)
    assert head.at_floor(outputs).item() == pytest.approx(2 / 3)


def test_constant_labels_are_refused():
    with pytest.raises(UserError, match=r"target\.column is mass, which is 1 for all training galaxies"):
        Mixture(Label("mass", GRID, "value")).fitted(np.ones(9))
