"""The map of the sample."""

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.report.sections.sky import patches, sky, sky_table


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


def test_the_map_has_right_ascension_to_the_left_and_each_galaxy_in_the_colour_of_its_fold():
    random = np.random.default_rng(5)
    ra, dec = (359.9 + random.uniform(0, 0.4, 60)) % 360, 40 + random.uniform(0, 0.4, 60)
    galaxies = pd.DataFrame({"object_id": np.arange(60), "ra": ra, "dec": dec})
    fold = pd.Series(np.where(np.arange(60) < 5, np.nan, np.arange(60) % 3))
    table = sky_table(galaxies, fold)
    assert table["object_id"].tolist() == galaxies["object_id"].tolist()
    east = ((ra + 180) % 360 - ra_middle(ra)) * np.cos(np.radians((dec.min() + dec.max()) / 2))
    assert table["east"].to_numpy() == pytest.approx(east, abs=1e-9)
    assert table["north"].to_numpy() == pytest.approx(dec - (dec.min() + dec.max()) / 2, abs=1e-9)
    whole, patch = sky(table).axes
    for axis, columns in ((whole, ["ra", "dec"]), (patch, ["east", "north"])):
        left, right = axis.get_xlim()
        assert left > right  # East to the left
        for points in axis.collections:
            number = points.get_label()
            of_fold = table["fold"].isna() if number == "none" else table["fold"].eq(int(number)).fillna(False)
            assert np.asarray(points.get_offsets()) == pytest.approx(
                table.loc[of_fold.to_numpy(bool), columns].to_numpy()
            )
        assert sum(len(points.get_offsets()) for points in axis.collections) == 60
    assert whole.get_xlabel() == "right ascension (deg)"
    assert patch.get_xlabel() == "East (deg)"


def ra_middle(ra):
    turned = (ra + 180) % 360
    return (turned.min() + turned.max()) / 2
