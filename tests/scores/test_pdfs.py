"""Distributions against independent references: numerical integration, a Gaussian's closed form, qp."""

from itertools import pairwise

import numpy as np
import pytest
import qp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erf
from tests.fixtures.synthetic_run import gaussian_pdfs

from sdss_photoz.scores import pdfs
from sdss_photoz.scores.grid import Grid

EDGES = Grid().edges()


def random_pdf(seed, bins=180):
    """From nearly flat to a few occupied bins, with exact zeros at the ends and in the middle."""
    random = np.random.default_rng(seed)
    pdf = random.dirichlet(np.full(bins, 10 ** random.uniform(-2, 1)))
    pdf[random.uniform(size=bins) < random.uniform(0, 0.9)] = 0
    pdf[random.integers(bins)] += 0.01
    return pdf / pdf.sum()


def integral(function, z, bins):
    """Integral over [0, 0.4], each stretch in which the integrand is smooth on its own."""
    points = np.unique([*Grid(bins=bins).edges(), *([z] if 0 < z < 0.4 else [])])
    return sum(quad(function, a, b, epsabs=1e-15, epsrel=1e-12)[0] for a, b in pairwise(points))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), z=st.one_of(st.floats(0, 0.4), st.sampled_from([0.0, 0.4, EDGES[45], EDGES[90]])))
def test_crps_equals_numerical_integration_of_the_piecewise_linear_cdf(seed, z):
    pdf = random_pdf(seed, 60)
    heights = np.concatenate([[0], np.cumsum(pdf)])

    def integrand(x):
        return (np.interp(x, Grid(bins=60).edges(), heights) - (x >= z)) ** 2

    assert pdfs.crps(pdf[None], [z])[0] == pytest.approx(integral(integrand, z, 60), abs=2e-13)


@given(seed=st.integers(0, 10**6), z=st.floats(0, 0.4))
def test_pit_equals_numerical_integration_of_the_density(seed, z):
    pdf = random_pdf(seed)
    edges = Grid().edges()
    overlap = np.clip(np.minimum(edges[1:], z) - edges[:-1], 0, None) / np.diff(edges)
    assert pdfs.pit(pdf[None], [z])[0] == pytest.approx(np.sum(pdf * overlap), abs=1e-13)


def test_crps_of_a_redshift_outside_the_range_grows_with_its_distance():
    pdf = random_pdf(1)[None]
    assert pdfs.crps(pdf, [0.45])[0] == pytest.approx(pdfs.crps(pdf, [0.4])[0] + 0.05)
    assert pdfs.crps(pdf, [-0.01])[0] == pytest.approx(pdfs.crps(pdf, [0.0])[0] + 0.01)


def test_crps_of_a_gaussian_equals_its_closed_form():
    mean, sigma = np.linspace(0.1, 0.3, 50), 0.02
    z = mean + np.linspace(-3, 3, 50) * sigma
    pdf = gaussian_pdfs(mean, sigma, 1000)
    x = (z - mean) / sigma
    closed = sigma * (
        x * erf(x / np.sqrt(2)) + 2 * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi)
    )  # Gneiting et al. 2005, equation 5
    # what is left is the second order of a bin's width: step^2 / (12 sigma)
    assert pdfs.crps(pdf, z) == pytest.approx(closed, abs=1.1 * (0.4 / 1000) ** 2 / 12 / sigma)


def test_pit_quantiles_and_crps_agree_with_qp():
    random = np.random.default_rng(5)
    pdf = np.stack([random_pdf(seed) for seed in range(200)])
    z = random.uniform(0, 0.4, 200)
    reference = qp.Ensemble(qp.hist, data={"bins": EDGES, "pdfs": pdf})
    assert pdfs.pit(pdf, z) == pytest.approx(reference.cdf(z[:, None])[:, 0], abs=1e-12)
    solid = pdf + 1e-6  # where F is flat, a quantile is any point of the flat stretch
    reference = qp.Ensemble(qp.hist, data={"bins": EDGES, "pdfs": solid})
    for probability in (0.05, 0.16, 0.84, 0.95):
        assert pdfs.quantile(solid, probability) == pytest.approx(reference.ppf(probability)[:, 0], abs=1e-9)


def test_widths_of_a_gaussian_are_its_central_intervals():
    pdf = gaussian_pdfs([0.1, 0.2], 0.02, 1000)
    assert pdfs.width(pdf, 0.68) == pytest.approx(2 * 0.9944579 * 0.02, rel=2e-4)
    assert pdfs.width(pdf, 0.90) == pytest.approx(2 * 1.6448536 * 0.02, rel=2e-4)


def test_quantile_of_a_single_occupied_bin_lies_in_that_bin():
    pdf = np.zeros((1, 180))
    pdf[0, 17] = 1
    assert pdfs.quantile(pdf, 0.25)[0] == pytest.approx((17.25) * 0.4 / 180)
    assert pdfs.width(pdf, 0.68)[0] == pytest.approx(0.68 * 0.4 / 180)


def test_calibrated_pdfs_of_width_0007_give_a_flat_pit():
    random = np.random.default_rng(20181)
    mean = random.uniform(0.05, 0.3, 300_000)
    z = random.normal(mean, 0.007)
    counts = np.concatenate(
        [pdfs.pit(gaussian_pdfs(m, 0.007), s) for m, s in zip(np.split(mean, 10), np.split(z, 10), strict=True)]
    )
    counts = np.histogram(counts, bins=20, range=(0, 1))[0]
    worst = np.abs(counts / counts.mean() - 1).max()
    print(f"PIT of calibrated distributions: largest deviation from flat {worst:.1%} in 20 bins")
    assert worst < 0.04


def test_z_phot_uses_bin_centres():
    pdf = np.zeros((1, 180))
    pdf[0, 45] = 1  # from 0.1 to 0.1022
    assert pdfs.point_estimate(pdf)[0] == pytest.approx(0.1 + 0.5 * 0.4 / 180, abs=1e-15)
    z = np.linspace(0.1, 0.3, 100)
    assert pdfs.point_estimate(gaussian_pdfs(z, 0.01)) == pytest.approx(z, abs=1e-9)


def test_average_of_members_is_taken_in_double_precision():
    members = np.random.default_rng(1).dirichlet(np.ones(180), (6, 50)).astype(np.float32)
    mean = pdfs.average(members)
    assert mean.dtype == np.float64
    assert mean.sum(axis=1) == pytest.approx(1, abs=1e-15)
    assert mean == pytest.approx(members.astype(np.float64).mean(axis=0), rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.1])
def test_probabilities_that_are_none_are_refused(bad):
    pdf = np.full((2, 180), 1 / 180)
    pdf[1, 3] = bad
    with pytest.raises(ValueError, match="distribution"):
        pdfs.pit(pdf, [0.1, 0.1])


def test_a_regressed_point_estimate_learns_what_each_bin_stands_for_and_keeps_the_centres_of_empty_bins():
    random = np.random.default_rng(1)
    z = random.uniform(0.05, 0.25, 4000)
    seen = gaussian_pdfs(z + random.normal(0, 0.01, len(z)), 0.01)
    shifted = z * 1.1 + 0.004  # of which the network knows nothing
    train, test = slice(0, 2000), slice(2000, None)
    values = pdfs.regressed_values(seen[train], shifted[train])
    assert values[170:] == pytest.approx(Grid().centres()[170:], abs=1e-3)
    before, after = (pdfs.point_estimate(seen[test], v) - shifted[test] for v in (None, values))
    assert abs(before.mean()) > 0.015
    assert abs(after.mean()) < 0.001
    assert after.std() < 1.15 * 0.011
    assert pdfs.regressed_values(seen[train], z[train] * 0 + seen[train] @ Grid().centres()) == pytest.approx(
        Grid().centres(), abs=1e-9
    )
