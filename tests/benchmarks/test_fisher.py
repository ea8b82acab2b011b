"""The Fisher matrices of the floor are those of rendered galaxies, and fits scatter as they say."""

import numpy as np
import pytest
from benchmarks.floor import fisher, profile_fits

from sdss_photoz.embedded import camera
from sdss_photoz.surveys import SDSS


@pytest.fixture(scope="module")
def cutouts():
    return profile_fits.draw_cutouts(8, seed=5)


@pytest.fixture(scope="module")
def prior(cutouts):
    """A wide one: it holds what the pixels do not."""
    truth = np.array([cutout.truth for cutout in cutouts])
    return truth.mean(axis=0), np.diag([1, 1, 1, 1, 1, 3, 0.5, 0.5, 0.1, 0.2]) ** 2.0


def errors(information, spread):
    return np.sqrt(np.diagonal(np.linalg.inv(information + np.linalg.inv(spread)), axis1=-2, axis2=-1))


def test_interpolated_derivatives_give_the_errors_of_rendered_ones_at_any_angle_place_and_shear(cutouts, prior):
    interpolated = fisher.fisher_matrices(
        np.array([cutout.truth for cutout in cutouts]), fisher.Nights.of([cutout.now for cutout in cutouts])
    )
    ratio = []
    for cutout, information in zip(cutouts, interpolated, strict=True):
        theta = np.concatenate([cutout.truth, [0, 0, cutout.angle]])
        light = profile_fits.light(cutout, theta)
        variance = [
            fisher.pixel_variance(cutout.now[b]) + camera.photon_variance(cutout.now[b]) * np.maximum(image, 0)
            for b, image in zip(SDSS.band_names, light, strict=True)
        ]
        slopes = (profile_fits.derivatives(cutout, theta) / np.sqrt(variance)).reshape(len(theta), -1)
        everything = np.linalg.inv(slopes @ slopes.T + 1e-9 * np.eye(len(theta)))  # place and angle fitted as well
        rendered = np.linalg.inv(everything[: profile_fits.FREE, : profile_fits.FREE])
        ratio.append(errors(information, prior[1]) / errors(rendered, prior[1]))
    print("interpolated over rendered errors:", np.median(ratio, axis=0).round(3), np.ptp(ratio, axis=0).round(3))
    assert np.median(ratio, axis=0) == pytest.approx(1, abs=0.05)  # two by two, between nodes, cut along the axes
    assert np.all(np.abs(np.log(ratio)) < 0.25)


def test_fits_to_rendered_cutouts_scatter_as_predicted(cutouts, prior):
    pulls = profile_fits.pulls(cutouts[:6], *prior, seed=5)
    print("scatter over error:", np.sqrt((pulls**2).mean(axis=0)).round(2))
    assert np.sqrt((pulls[:, :5] ** 2).mean()) == pytest.approx(1, abs=0.4)  # of fluxes, correlated
    assert np.abs(pulls).max() < 5
