"""Local-linear regression on real photometry and on planes that it must find exactly."""

import numpy as np
import pytest
from tests.fixtures.synthetic_run import make_galaxies

from sdss_photoz.errors import UserError
from sdss_photoz.methods import local_linear


def _mgs(path):
    names = path.read_text().splitlines()[0].lstrip("#").split()
    columns = dict(zip(names, np.loadtxt(path, unpack=True), strict=False))  # a last column has no name
    return columns["zs"], np.column_stack([columns[name] for name in ("r", "u-g", "g-r", "r-i", "i-z")])


def test_local_linear_regression_reaches_the_known_score_on_real_galaxies(shared_data):
    train_z, train = _mgs(shared_data / "oracles/SDSS_MGS.train")
    z, features = _mgs(shared_data / "oracles/SDSS_MGS.test")
    dz = (local_linear.local_linear(train, train_z, features) - z) / (1 + z)
    sigma_mad, outliers = 1.4826 * np.median(abs(dz - np.median(dz))), np.mean(abs(dz) > 0.05)
    print(f"SDSS_MGS: sigma_MAD {sigma_mad:.5f}, bias {dz.mean():.5f}, outliers {outliers:.4f}")
    assert 0.011 < sigma_mad <= 0.0127
    assert abs(dz.mean()) < 0.001
    assert outliers < 0.008


def test_a_redshift_linear_in_the_features_is_found_exactly():
    random = np.random.default_rng(1)
    train, features = random.normal(size=(800, 5)), random.normal(size=(50, 5))
    slope = np.array([0.01, -0.02, 0.03, 0.005, 0.0])
    found = local_linear.local_linear(train, 0.1 + train @ slope, features)
    assert found == pytest.approx(0.1 + features @ slope, abs=1e-7)


def test_a_wrong_redshift_among_the_neighbours_is_clipped():
    random = np.random.default_rng(2)
    train = random.normal(size=(200, 5))
    z = 0.1 + 0.01 * train[:, 0]
    z[17] = 0.4
    found = local_linear.local_linear(train, z, train[:5], neighbours=100)
    assert found == pytest.approx(0.1 + 0.01 * train[:5, 0], abs=1e-6)


def test_features_are_standardised_so_that_units_do_not_matter():
    random = np.random.default_rng(3)
    train, features = random.normal(size=(500, 5)), random.normal(size=(40, 5))
    z = 0.1 + 0.05 * np.tanh(train[:, 0]) + random.normal(0, 0.01, 500)
    units = np.array([1, 10, 0.1, 1000, 5])
    assert local_linear.local_linear(train * units + 3, z, features * units + 3) == pytest.approx(
        local_linear.local_linear(train, z, features), abs=1e-9
    )


def test_a_galaxy_with_a_missing_magnitude_still_has_a_redshift():
    random = np.random.default_rng(4)
    train = random.normal(size=(300, 5))
    train[7, 1] = np.nan
    found = local_linear.local_linear(train, 0.1 + 0.01 * np.arange(300) / 300, np.array([[0, np.nan, 0, 0, 0]]))
    assert 0.09 < found[0] < 0.12


def test_too_few_training_galaxies_are_named():
    with pytest.raises(UserError, match="needs 12 training galaxies, but the fold has 3"):
        local_linear.local_linear(np.zeros((3, 5)), np.zeros(3), np.zeros((1, 5)))


def test_features_are_dereddened():
    table = make_galaxies(20)
    features = local_linear.beck_features(table)
    assert features[:, 0] == pytest.approx(table["model_mag_r"] - table["extinction_r"])
    u_g = table["model_mag_u"] - table["model_mag_g"] - (4.239 - 3.303) * table["ebv"]
    assert features[:, 1] == pytest.approx(u_g)
    with pytest.raises(UserError, match="model_mag_i"):
        local_linear.beck_features(table.drop(columns="model_mag_i"))


def test_features_follow_the_bands_of_the_cubes():
    galaxies = make_galaxies(30)
    whole = local_linear.beck_features(galaxies)
    np.testing.assert_array_equal(local_linear.beck_features(galaxies, tuple("griz")), whole[:, [0, 2, 3, 4]])
    gi = local_linear.beck_features(galaxies, ("g", "i"))
    np.testing.assert_allclose(gi[:, 1], whole[:, 2] + whole[:, 3])
    np.testing.assert_allclose(gi[:, 0], whole[:, 0] - whole[:, 3])  # i, the middle one of two
