"""What enters a network: labels, batches of cubes, the right galaxies."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from tests.fixtures.quick_training import task
from tests.fixtures.synthetic_galaxies import draw_population, render

from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.stretch import stretch
from sdss_photoz.targets.classes import entropy
from sdss_photoz.targets.label import Label
from sdss_photoz.training.data.examples import gather
from sdss_photoz.training.data.load import has_all_bands, load_examples, select

CPU = torch.device("cpu")


def _galaxies(count):
    rows = np.arange(count)
    return pd.DataFrame({"object_id": 1000 + rows, "row": rows, "z_spec": 0.1, "ebv": 0.03})


def test_a_redshift_falls_into_the_bin_between_whose_edges_it_lies():
    z = np.random.default_rng(0).uniform(0, 0.4, 1000)
    k = Label().bin_of(z)
    assert (k * 0.4 / 180 <= z).all()
    assert (z < (k + 1) * 0.4 / 180).all()


def test_the_highest_redshift_of_the_sample_falls_into_the_last_bin():
    assert Label().bin_of([0.0, 0.4]).tolist() == [0, 179]


@pytest.mark.parametrize("z", [-0.001, 0.41])
def test_a_redshift_outside_the_bins_is_refused(z):
    with pytest.raises(UserError, match=r"1 of 2 redshifts are outside the bins' range 0..0.4"):
        Label().of(pd.DataFrame({"z_spec": [0.1, z]}))


@pytest.mark.parametrize("outside", ["refuse", "clip"])
def test_a_galaxy_without_a_redshift_is_refused_by_name(outside):
    galaxies = pd.DataFrame({"object_id": [7, 8], "z_spec": [0.1, math.nan]})
    with pytest.raises(UserError, match="no network can use object_id 8, whose z_spec is not a number"):
        Label(outside=outside).of(galaxies)


def test_redshifts_outside_the_bins_count_in_the_outermost_where_they_are_clipped(capsys):
    clipped = Label(outside="clip")
    z = clipped.of(pd.DataFrame({"z_spec": [-0.001, 0.1, 0.41, 7.0]}))
    assert clipped.bin_of(z).tolist() == [0, 45, 179, 179]
    assert "3 of 4 redshifts are outside the bins' range 0..0.4" in capsys.readouterr().err


def test_entropy_of_equally_filled_bins_is_the_logarithm_of_their_number():
    assert entropy(np.repeat(np.arange(20), 7)) == pytest.approx(math.log(20))


def test_a_batch_holds_the_galaxies_cubes_turned_and_stretched():
    cubes = render(draw_population(6), seed=1).numpy()
    examples = gather(_galaxies(6), [cubes], *task()[1:], CPU)
    batch, ebv, labels = examples.batch(torch.tensor([4, 2]), torch.tensor([1, 4]))
    expected = stretch(torch.from_numpy(cubes), "asinh")
    assert torch.equal(batch[0], torch.rot90(expected[4], 1, (0, 1)))
    assert torch.equal(batch[1], expected[2].flip(1))
    assert ebv[:, 0].tolist() == pytest.approx([0.03, 0.03])
    assert labels.tolist() == [45, 45]


def test_a_cube_with_an_infinite_pixel_is_named_by_its_object():
    cubes = np.zeros((3, 64, 64, 5), np.float32)
    cubes[1, 5, 6, 2] = np.inf
    with pytest.raises(UserError, match="object_id 1001, whose pixels are infinite"):
        gather(_galaxies(3), [cubes], *task()[1:], CPU)


def test_a_galaxy_without_reddening_is_named_by_its_object():
    galaxies = _galaxies(3)
    galaxies.loc[2, "ebv"] = np.nan
    with pytest.raises(UserError, match=r"object_id 1002, whose E\(B-V\) is not a number"):
        gather(galaxies, [np.zeros((3, 64, 64, 5), np.float32)], *task()[1:], CPU)


def test_other_pixels_redshifts_or_reddening_change_the_digest():
    cubes = np.zeros((3, 64, 64, 5), np.float32)
    digests = {gather(_galaxies(3), [cubes], *task()[1:], CPU).digest}
    for column in ("object_id", "z_spec", "ebv"):
        galaxies = _galaxies(3)
        galaxies.loc[0, column] = galaxies.loc[0, column] * 2
        digests.add(gather(galaxies, [cubes], *task()[1:], CPU).digest)
    changed = cubes.copy()
    changed[2, 63, 63, 4] = 1e-6
    digests.add(gather(_galaxies(3), [changed], *task()[1:], CPU).digest)
    assert len(digests) == 5


def test_galaxies_play_the_roles_that_their_fold_gives_them(small_run):
    galaxies, folds, store = small_run
    shuffled = galaxies.sample(frac=1, random_state=1)
    chosen = select(shuffled, folds, 0, "validation")
    assert chosen["row"].tolist() == list(range(3, 120, 10))
    assert load_examples(chosen, store, *task()[1:], CPU).object_id.tolist() == chosen["object_id"].tolist()
    with pytest.raises(UserError, match=r"no column role_4, only role_0"):
        select(galaxies, folds, 4, "train")


def test_a_cube_is_complete_with_a_frame_in_every_band(small_run, tmp_path):
    assert has_all_bands(small_run[2]).all()
    depth = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [9, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=np.uint16)
    create_store(tmp_path / "cubes.zarr", _galaxies(4).assign(ra=0.0, dec=0.0), 1)
    write_shard(tmp_path / "cubes.zarr", 0, np.zeros((4, 64, 64, 5), np.float32), depth)
    assert has_all_bands(tmp_path / "cubes.zarr").tolist() == [True, False, True, False]
