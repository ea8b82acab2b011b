"""The posterior distribution of redshift in the simulated population restates how the population is drawn."""

import numpy as np
from benchmarks.floor import fisher, posterior
from scipy.stats import kstest

from sdss_photoz.embedded import population
from sdss_photoz.scores import pdfs
from sdss_photoz.surveys import SDSS


def drawn(number, seed):
    galaxies = population.draw_galaxies(number, np.random.default_rng(seed))
    magnitudes = galaxies[[f"mag_{band}" for band in SDSS.band_names]].to_numpy()
    theta = fisher.parameters(galaxies, 10 ** (0.4 * (22.5 - magnitudes)))
    colours = np.column_stack([magnitudes[:, 2], -np.diff(magnitudes, axis=1)])
    return galaxies["z_true"].to_numpy(), colours, theta[:, [5, 6, 7, 9]]


def test_redshifts_are_spread_as_their_posteriors_say():
    z, colours, shapes = drawn(3000, 8)
    scores = []
    for shapes_count in (True, False):
        densities, scale = posterior.redshift_densities(colours, shapes, shapes_count)
        assert np.isfinite(scale).all()
        found = kstest(pdfs.pit(densities, z), "uniform")
        scores.append(pdfs.crps(densities, z).mean())
        print(f"shapes {shapes_count}: KS {found.statistic:.4f}, CRPS {scores[-1]:.5f}")
        assert found.pvalue > 1e-3
    assert scores[0] < 0.97 * scores[1]  # sizes and bulges tell of redshift


def test_what_the_population_does_not_hold_has_no_weight():
    _, colours, shapes = drawn(10, 9)
    colours[:, 0] = population.FAINTEST_TARGET + 0.01
    assert np.all(posterior.redshift_densities(colours, shapes)[1] == -np.inf)
