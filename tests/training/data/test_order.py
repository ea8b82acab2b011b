"""Order and symmetries follow from (seed, fold, member, epoch) alone."""

import numpy as np

from sdss_photoz.inputs.symmetry import SYMMETRIES
from sdss_photoz.training.data.order import Sequence, class_balanced, permutation, symmetries


def test_each_galaxy_sees_all_eight_symmetries_once_in_eight_epochs():
    for first in (0, 8, 16):
        seen = np.stack([symmetries(1, 2, 3, epoch, 500) for epoch in range(first, first + SYMMETRIES)])
        assert (np.sort(seen, axis=0) == np.arange(SYMMETRIES)[:, None]).all()


def test_an_epoch_uses_all_symmetries_about_equally():
    counts = np.bincount(symmetries(1, 0, 0, 5, 8000), minlength=SYMMETRIES)
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_each_epoch_visits_each_galaxy_once_whatever_the_batch():
    sequence = Sequence(count=50, batch=16, seed=1, fold=0, member=0)
    visited = np.concatenate([sequence.batch(step)[0] for step in range(sequence.steps(4))])
    for epoch in range(4):
        assert sorted(visited[50 * epoch : 50 * (epoch + 1)]) == list(range(50))


def test_batches_are_of_equal_size_and_carry_over_the_end_of_an_epoch():
    sequence = Sequence(count=50, batch=16, seed=1, fold=0, member=0)
    assert sequence.steps(1) == 4
    galaxies, _ = sequence.batch(3)
    assert len(galaxies) == 16
    assert (galaxies[:2] == permutation(1, 0, 0, 0, 50)[48:]).all()
    assert (galaxies[2:] == permutation(1, 0, 0, 1, 50)[:14]).all()


def test_a_batch_does_not_depend_on_the_batches_before():
    walked = Sequence(count=50, batch=16, seed=1, fold=0, member=0)
    for step in range(12):
        expected = walked.batch(step)
    fresh = Sequence(count=50, batch=16, seed=1, fold=0, member=0).batch(11)
    assert all((a == b).all() for a, b in zip(fresh, expected, strict=True))


def test_folds_members_seeds_and_epochs_have_orders_of_their_own():
    keys = [(1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)]
    orders = {permutation(*key, 100).tobytes() for key in keys}
    draws = {symmetries(*key, 100).tobytes() for key in keys}
    assert len(orders) == len(draws) == len(keys)


def test_the_order_is_the_same_on_every_machine():
    assert permutation(1, 0, 0, 0, 8).tolist() == [0, 5, 7, 4, 2, 6, 3, 1]
    assert symmetries(1, 0, 0, 0, 8).tolist() == [2, 5, 2, 4, 1, 4, 5, 2]


def test_class_balanced_batches_hold_all_strata_equally_and_take_the_galaxies_of_each_in_turn():
    strata = np.repeat([0, 1, 4, 7], [60, 30, 9, 1])
    order, repeats = class_balanced(1, 0, 0, 3, strata)
    assert len(order) == 100
    for start in range(0, 100, 4):
        assert sorted(strata[order[start : start + 4]]) == [0, 1, 4, 7]
    times = np.bincount(order, minlength=100)
    assert times[:60].max() == 1
    assert times[60:90].max() == 1
    assert set(times[90:99]) == {2, 3}
    assert times[99] == 25
    assert repeats[order == 99].tolist() == list(range(25))
    assert (
        order.tolist()
        == class_balanced(1, 0, 0, 3, strata)[0].tolist()
        != class_balanced(1, 0, 0, 4, strata)[0].tolist()
    )


def test_a_galaxy_that_comes_again_within_an_epoch_comes_under_another_symmetry():
    sequence = Sequence(8, 8, 1, 0, 0, strata=np.array([0] * 7 + [1]))
    galaxies, turns = sequence.batch(0)
    assert (galaxies == 7).sum() == 4
    assert len(set(turns[galaxies == 7])) == 4
    first = galaxies == galaxies[0]
    assert turns[first][0] == symmetries(1, 0, 0, 0, 8)[galaxies[0]]
