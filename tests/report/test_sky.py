"""The map of the sample."""

import numpy as np
import pandas as pd

from sdss_photoz.report.sky import patches, sky, sky_table


def strips(centres, count=200, size=0.3):
    random = np.random.default_rng(1)
    ra = np.concatenate([ra + random.uniform(-size, size, count) for ra, _ in centres]) % 360
    dec = np.concatenate([dec + random.uniform(-size, size, count) for _, dec in centres])
    return pd.DataFrame({"object_id": np.arange(len(ra)), "ra": ra, "dec": dec})


def test_strips_far_apart_are_patches_also_across_ra_zero():
    table = strips([(0, 5), (20, 5), (180, 40)])
    found = patches(table["ra"], table["dec"])
    assert [len(set(part)) for part in np.split(found, 3)] == [1, 1, 1]
    assert len(set(found)) == 3


def test_few_small_patches_are_drawn_close_up_with_their_true_size():
    table = strips([(0, 60), (30, 5)])
    figure = sky(sky_table(table, pd.Series(np.arange(len(table)) % 3)))
    assert len(figure.axes) == 3
    east = np.concatenate([points.get_offsets()[:, 0] for points in figure.axes[1].collections])
    assert 0.28 < np.ptp(east) < 0.32  # 0.6 degrees of right ascension at declination 60


def test_a_wide_sample_is_drawn_on_the_map_alone():
    table = strips([(180, 30)], count=3000, size=25)
    assert len(sky(sky_table(table, pd.Series(np.full(3000, np.nan)))).axes) == 1
