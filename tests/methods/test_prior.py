"""The prior is the median of the training redshifts, for every galaxy."""

import numpy as np
from tests.fixtures.synthetic_run import make_galaxies

from sdss_photoz.config import Evaluation
from sdss_photoz.methods import prior


def test_every_galaxy_has_the_median_of_the_training_redshifts():
    features = prior.features(make_galaxies(20).set_index("object_id"), [], None)
    train, test = features[:5], features[5:]
    found = prior.estimate(train, np.array([0.3, 0.1, 0.2, 0.11, 0.05]), test, Evaluation())
    assert found["z_phot_prior"].tolist() == [0.11] * 15
