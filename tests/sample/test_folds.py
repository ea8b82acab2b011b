"""Folds follow from a hash: nothing leaks between training, validation and test."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdss_photoz.app.costs import box_area
from sdss_photoz.archive.query import build_query
from sdss_photoz.config import Folds, Region
from sdss_photoz.errors import UserError
from sdss_photoz.sample.folds import SKY_CELLS, assign_folds, hash_uniform, in_region
from sdss_photoz.surveys.sphere import linked, pairs_within


def galaxies(n, seed=0, clustered=0.3, size=20.0):
    """Galaxies on a patch of the sky through RA 0, some of them within 25 arcsec of another."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(-size, size, n), rng.uniform(-10, 10, n)
    near = np.flatnonzero(rng.random(n) < clustered)[: n // 2]
    host = rng.integers(0, n, len(near))
    ra[near], dec[near] = (
        ra[host] + rng.uniform(-0.006, 0.006, len(near)),
        dec[host] + rng.uniform(-0.006, 0.006, len(near)),
    )
    return pd.DataFrame({"object_id": rng.permutation(10 * n)[:n] + 10**18, "ra": ra % 360, "dec": dec})


def roles(table, k):
    return table[f"role_{k}"].to_numpy()


@pytest.mark.parametrize("by", ["galaxy", "group", "sky"])
def test_every_galaxy_is_tested_once_and_never_by_a_network_that_saw_it(by):
    table = assign_folds(galaxies(3000), Folds(count=4, by=by), {})
    tested = sum((roles(table, k) == "test").astype(int) for k in range(4))
    assert (tested == 1).all()
    for k in range(4):
        assert ((roles(table, k) == "test") == (table.fold == k)).all()
        assert set(roles(table, k)) == {"test", "train", "validation"}


def masked(n=3000):
    """Galaxies of which a part has ebv below 0.1, and some have none."""
    ebv = np.random.default_rng(5).uniform(0, 0.2, n)
    ebv[::50] = np.nan
    return galaxies(n).assign(ebv=ebv, row=range(n), chunk=0)


def test_galaxies_that_do_not_fulfil_a_trials_condition_take_no_part_and_the_others_keep_their_roles():
    sample, folds = masked(), Folds(count=3, repeats=2)
    with_all, without = (assign_folds(sample, folds, {}, where) for where in (None, "ebv < 0.1"))
    inside = (sample["ebv"] < 0.1).to_numpy()
    assert 0.4 < inside.mean() < 0.6
    assert without[["object_id", "fold", "group"]].equals(with_all[["object_id", "fold", "group"]])
    for k in range(6):
        assert (roles(without, k)[~inside] == "unused").all()
        assert (roles(without, k)[inside] == roles(with_all, k)[inside]).all()


def test_a_fraction_of_a_trial_with_a_condition_is_one_of_its_galaxies():
    sample = masked(20_000)
    table = assign_folds(sample, Folds(count=2, by="galaxy", train_fraction=0.3), {}, "ebv < 0.1")
    learns = np.isin(roles(table, 0), ["train", "validation"])
    assert learns.sum() / (sample["ebv"] < 0.1).sum() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("ebv > 1", r"trials\.a\.where is 'ebv > 1', which none of 300 galaxies fulfils, and 6 lack a value"),
        ("ebv < 0.001", r"has no \w+ galaxies among [1-9]: .*, or loosen trials\.a\.where\."),
        ("row < 5", "names row, but that is no column"),
    ],
)
def test_a_trials_condition_that_leaves_too_few_is_refused_by_its_key(where, expected):
    with pytest.raises(UserError, match=expected):
        assign_folds(masked(300), Folds(), {}, where, "trials.a.where")


@pytest.mark.parametrize("by", ["group", "sky"])
def test_neighbours_within_25_arcsec_share_every_role(by):
    sample = galaxies(4000, clustered=0.6)
    first, second = pairs_within(sample.ra, sample.dec, 25.0).T
    assert len(first) > 300
    folds = Folds(count=3, by=by, train_fraction=0.5, validation_fraction=0.3, repeats=2)
    table = assign_folds(sample, folds, {})
    for column in ["fold", "group", *(f"role_{k}" for k in range(6))]:
        values = table[column].to_numpy()
        assert (values[first] == values[second]).all()


def test_a_group_is_named_by_its_smallest_object():
    sample = galaxies(500, clustered=0.6)
    table = assign_folds(sample, Folds(count=2), {})
    label = linked(sample.ra, sample.dec, 25.0)
    smallest = sample.object_id.groupby(label).transform("min")
    assert (table.group == smallest).all()
    assert smallest.nunique() < len(sample)


def test_cells_of_the_sky_are_never_divided_and_groups_on_their_borders_stay_together():
    from astropy import units

    sample = galaxies(4000, clustered=0.5)
    table = assign_folds(sample, Folds(count=3, by="sky"), {})
    assert (table.groupby("group")["fold"].nunique() == 1).all()
    cells = SKY_CELLS.lonlat_to_healpix(sample.ra.to_numpy() * units.deg, sample.dec.to_numpy() * units.deg)
    alone = np.bincount(linked(sample.ra, sample.dec, 25.0))[linked(sample.ra, sample.dec, 25.0)] == 1
    assert (table.group.to_numpy()[alone] == cells[alone]).all()
    assert 2.5 < SKY_CELLS.pixel_resolution.to_value("deg") < 4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), by=st.sampled_from(["galaxy", "group", "sky"]))
def test_the_order_of_rows_does_not_matter(seed, by):
    sample = galaxies(400, seed % 97)
    order = np.random.default_rng(seed).permutation(len(sample))
    folds = Folds(count=2, by=by, seed=seed, repeats=2, validation_fraction=0.3)
    try:
        table = assign_folds(sample, folds, {})
    except UserError:
        return  # a draw that left a part without galaxies
    shuffled = assign_folds(sample.iloc[order].reset_index(drop=True), folds, {})
    pd.testing.assert_frame_equal(table.iloc[order].reset_index(drop=True), shuffled)


@pytest.mark.parametrize("by", ["galaxy", "group", "sky"])
def test_adding_galaxies_elsewhere_moves_no_other(by):
    sample = galaxies(2000)
    more = galaxies(500, seed=5)
    more["object_id"] += 10**17
    more["dec"] += 40
    folds = Folds(count=3, by=by, train_fraction=0.5, validation_fraction=0.3)
    alone = assign_folds(sample, folds, {})
    together = assign_folds(pd.concat([more, sample], ignore_index=True), folds, {})
    pd.testing.assert_frame_equal(alone, together.tail(len(sample)).reset_index(drop=True))


@pytest.mark.parametrize(("fraction", "count"), [(0.8, 5), (0.5, 5), (0.2, 5), (0.02, 5), (0.8, 10)])
def test_training_takes_the_stated_share_of_the_sample(fraction, count):
    sample = galaxies(30_000, clustered=0.05)
    table = assign_folds(sample, Folds(count=count, train_fraction=fraction), {})
    for k in range(count):
        trained = np.isin(roles(table, k), ["train", "validation"]).mean()
        assert trained == pytest.approx(fraction, abs=5 * np.sqrt(fraction / len(sample)) + 0.004)
        validated = (roles(table, k) == "validation").sum() / np.isin(roles(table, k), ["train", "validation"]).sum()
        assert validated == pytest.approx(0.1, abs=5 * np.sqrt(0.1 / (fraction * len(sample))))


def test_repeats_draw_independent_training_parts_for_the_same_test_galaxies():
    table = assign_folds(galaxies(20_000, clustered=0.05), Folds(count=2, train_fraction=0.1, repeats=3), {})
    for fold in range(2):
        parts = [roles(table, fold + 2 * repeat) for repeat in range(3)]
        assert all(((part == "test") == (table.fold == fold)).all() for part in parts)
        drawn = [np.isin(part, ["train", "validation"]) for part in parts]
        both = (drawn[0] & drawn[1]).sum() / drawn[0].sum()
        assert both == pytest.approx(0.2, abs=0.04)  # 10 % of the sample out of the half outside the fold


def test_regions_limit_training_and_test():
    sample = galaxies(5000, clustered=0.1)
    regions = {"stripe": Region(ra=(350.0, 10.0), dec=(-1.5, 1.5))}
    inside = (np.abs((sample.ra + 180) % 360 - 180) <= 10) & (sample.dec.abs() <= 1.5)
    folds = Folds(count=2, train_in="stripe", test_in="not stripe")
    table = assign_folds(sample, folds, regions)
    for k in range(2):
        assert inside[np.isin(roles(table, k), ["train", "validation"])].all()
        assert not inside[roles(table, k) == "test"].any()
        assert (table.fold[roles(table, k) == "test"] == k).all()
    fraction = assign_folds(sample, Folds(count=2, train_in="not stripe", train_fraction=0.2), regions)
    assert np.isin(roles(fraction, 0), ["train", "validation"]).mean() == pytest.approx(0.2, abs=0.03)


def test_another_seed_deals_other_folds():
    sample = galaxies(2000)
    one, other = (assign_folds(sample, Folds(count=2, seed=seed), {}).fold for seed in (0, 1))
    assert 0.4 < (one == other).mean() < 0.6


def test_draws_are_uniform_independent_and_the_same_on_every_machine():
    ids = np.arange(20_000, dtype=np.int64) + 1237648720693755904
    one, other = hash_uniform(ids, 3, "fold"), hash_uniform(ids, 3, "train 0")
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.03
    assert np.abs(np.histogram(one, 20, (0, 1))[0] / 1000 - 1).max() < 0.15
    alone = hash_uniform(np.array([1237648720693755904]), 0, "fold")[0]
    assert alone == hash_uniform(np.array([5, 1237648720693755904]), 0, "fold")[1]
    assert alone == 0.5478042324270312  # or all folds change


@pytest.mark.parametrize(
    ("n", "folds", "sentence"),
    [
        (3, {"count": 5}, r"fold \d of 5 .* has no test galaxies .*folds\.count"),
        (40, {"count": 2, "validation_fraction": 0.001}, r"has no validation galaxies .*folds\.validation_fraction"),
        (300, {"count": 2, "by": "sky", "validation_fraction": 0.01}, r"folds\.by: sky.*no validation galaxies"),
        (200, {"count": 2, "train_fraction": 0.001}, r"has no (train|validation) galaxies .*folds\.train_fraction"),
        (200, {"count": 2, "train_fraction": 0.7}, r"folds\.train_fraction is 0\.7, but only 0\.5"),
        (200, {"count": 2, "test_in": "empty"}, r"has no test galaxies .*folds\.test_in"),
        (200, {"count": 2, "train_in": "empty"}, r"has no train galaxies .*folds\.train_in"),
    ],
)
def test_a_fold_without_galaxies_is_one_sentence_that_names_the_key(n, folds, sentence):
    regions = {"empty": Region(ra=(100.0, 110.0))}
    with pytest.raises(UserError, match=sentence):
        assign_folds(galaxies(n, clustered=0), Folds(**folds), regions)


REGIONS = {
    "a box": {"ra": [150, 160], "dec": [-5, 5]},
    "through 0": {"ra": [350, 10]},
    "written below 0": {"ra": [-50, 60]},
    "from below 0 to 0": {"ra": [-50, 0], "dec": [0, 90]},
    "all of it below 0": {"ra": [-60.5, -50.25]},
    "to 360": {"ra": [330, 360]},
    "most of the circle": {"ra": [-200, 10]},
    "the whole circle from below 0": {"ra": [-180, 180], "dec": [10, 20]},
    "more decimals than the query": {"ra": [12.34567891, 12.34567999], "dec": [-90, 90]},
}


@pytest.mark.parametrize("box", REGIONS.values(), ids=REGIONS)
def test_a_region_is_one_box_in_the_query_the_folds_and_the_plan(box):
    """Positions all over the sky, on the bounds, and a hair (1e-7 degrees) to both sides of them."""
    region = Region(**box)
    bounds = np.array([*region.ra, *(round(bound, 6) for bound in region.ra)])
    hairs = bounds[:, np.newaxis] + np.array([-1e-7, 0, 1e-7])
    ra = np.concatenate([hairs.ravel(), np.random.default_rng(5).uniform(-360, 360, 100_000)]) % 360
    dec = np.concatenate([np.full(hairs.size, np.mean(region.dec)), np.degrees(np.arcsin(np.linspace(-1, 1, 100_000)))])
    sky = pd.DataFrame({"ra": ra, "dec": dec})
    condition = build_query("galaxies", region).sql.removeprefix(build_query("galaxies").sql)
    with duckdb.connect() as connection:
        asked = (
            connection.execute(f"SELECT (TRUE {condition}) AS inside FROM sky po").fetchdf()["inside"].to_numpy(bool)
        )
    assert np.array_equal(in_region(sky, "box", {"box": region}), asked)
    assert np.array_equal(in_region(sky, "not box", {"box": region}), ~asked)
    fraction = asked[hairs.size :].mean()
    assert box_area(region) / box_area(Region()) == pytest.approx(fraction, abs=0.004)


@pytest.mark.parametrize(("ra", "expected"), [([-50, 60], [310, 60]), ([-180, 180], [0, 360]), ([350, 10], [350, 10])])
def test_a_box_written_below_zero_is_the_same_box_from_zero(ra, expected):
    box = Region(ra=ra)
    assert box.from_zero()["ra"] == expected
    around = np.linspace(0, 359.9, 721)
    assert (Region(**box.from_zero()).contains(around, 0 * around) == box.contains(around, 0 * around)).all()
