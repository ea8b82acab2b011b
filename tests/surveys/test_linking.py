"""Friends of friends on the sphere, against every separation by astropy."""

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from sdss_photoz.surveys.sphere import linked, pairs_within


def by_hand(ra, dec, radius):
    """Groups as sets of indices, from the full table of separations."""
    sky = SkyCoord(ra * units.deg, dec * units.deg)
    near = sky[:, None].separation(sky[None, :]).to_value("arcsec") <= radius
    for _ in range(len(ra)):
        near = near | (near.astype(int) @ near.astype(int) > 0)
    return {frozenset(np.flatnonzero(row)) for row in near}


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.999, 40.0), (10.0, 89.9995), (200.0, -89.999)])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 25), radius=st.sampled_from([2.0, 25.0]))
def test_groups_are_the_chains_of_near_positions(ra, dec, seed, n, radius):
    rng = np.random.default_rng(seed)
    size = 3 * radius / 3600
    dec = np.clip(dec + rng.uniform(-size, size, n), -90, 90)
    ra = (ra + rng.uniform(-size, size, n) / max(np.cos(np.radians(dec[0])), 1e-3)) % 360
    label = linked(ra, dec, radius)
    assert {frozenset(np.flatnonzero(label == one)) for one in label} == by_hand(ra, dec, radius)


def test_what_has_no_position_is_linked_to_nothing():
    label = linked([10.0, np.nan, 10.0, np.nan], [0.0, np.nan, 0.0, 5.0], 2.0)
    assert label[0] == label[2]
    assert len(set(label)) == 3


def test_no_position_gives_no_group():
    assert len(linked([], [], 25.0)) == 0
    assert pairs_within([1.0], [2.0], 25.0).shape == (0, 2)
