"""A negative control holds all but what should tell the redshift."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest
from tests.fixtures.model_files import description
from tests.fixtures.quick_training import task
from tests.fixtures.synthetic_galaxies import draw_population, render

from sdss_photoz.config import Training
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build
from sdss_photoz.surveys import CUBE, SDSS
from sdss_photoz.training import jobs
from sdss_photoz.training.data.float16 import float16_copy
from sdss_photoz.training.data.load import load_examples
from sdss_photoz.training.data.negative_controls import without_targets
from sdss_photoz.training.model import save_model

SETTINGS = Training(device="cpu")
DISC = CUBE.from_centre() <= CUBE.size / 2 * CUBE.pixel_scale


@pytest.fixture(scope="module")
def galaxies():
    """(galaxy, y, x, band) of galaxies, and the same number of stamps of empty sky."""
    cubes = render(draw_population(60, seed=3), seed=3).numpy()
    empty = (np.random.default_rng(0).standard_normal(cubes.shape) * SDSS.noise).astype(np.float32)
    return cubes, empty


@pytest.mark.parametrize("where", ["disc", "around"])
def test_without_its_galaxy_a_cube_is_a_piece_of_empty_sky(galaxies, where):
    cubes, empty = galaxies
    pixels = DISC if where == "disc" else ~DISC & (np.arange(64) < 32)[:, None]  # the other half has the same numbers
    left = without_targets(cubes, np.arange(60))[:, pixels]
    sky = (without_targets(empty, np.arange(100, 160)) if where == "disc" else empty)[:, pixels]  # untouched around it
    for band in range(5):
        assert kstest(left[..., band].ravel(), sky[..., band].ravel()).statistic < 0.015, "ugriz"[band]
    assert kstest(cubes[:, pixels, 2].ravel(), sky[..., 2].ravel()).statistic > 0.025


def test_the_width_of_the_noise_in_the_disc_is_that_around_it_whatever_the_galaxy(galaxies):
    cubes, _ = galaxies
    faint, bright = (without_targets(cubes * factor, np.arange(60)) for factor in (0.01, 100))
    for band in range(5):
        assert bright[:, DISC, band].std() == pytest.approx(1e4 * faint[:, DISC, band].std(), rel=1e-3)
        assert faint[:, DISC, band].std() == pytest.approx(faint[:, ~DISC, band].std(), rel=0.02)


def test_the_noise_follows_from_the_object_id_alone(galaxies):
    cubes, _ = galaxies
    names = np.arange(60) + 1_237_648_720_000_000_000
    together, alone = without_targets(cubes, names), without_targets(cubes[[7]], names[[7]])
    assert np.array_equal(together[7], alone[0])
    assert not np.array_equal(together[7][DISC], without_targets(cubes[[7]], names[[8]])[0][DISC])


def test_neighbours_stay_with_a_negative_twin_and_uncovered_pixels_stay_nan():
    cubes = (np.random.default_rng(1).standard_normal((1, 64, 64, 5)) * 0.01).astype(np.float32)
    cubes[0, 3, 10] = 50
    cubes[0, :, 60:, 2] = np.nan
    (left,) = without_targets(cubes, np.array([5]))
    assert left[3, 10] == pytest.approx(50 / np.sqrt(2), rel=0.01)
    assert left[60, 53] == pytest.approx(-50 / np.sqrt(2), rel=0.01)
    assert np.isnan(left[:, 60:, 2]).all()
    assert np.isnan(left[:, :4, 2]).all()
    assert np.isfinite(left[:, 4:60]).all()
    assert np.isfinite(left[:, 60:, 1]).all()
    assert np.isnan(without_targets(cubes * np.nan, np.array([5]))).all()


def test_training_and_prediction_read_cubes_without_their_galaxies(small_run, tmp_path, monkeypatch):
    galaxies, folds, store = small_run
    emptied = tmp_path / "cubes.zarr"
    create_store(emptied, galaxies, 1)
    cubes = without_targets(load_cubes(store, galaxies["row"], uncovered=np.nan), galaxies["object_id"].to_numpy())
    write_shard(emptied, 0, cubes, np.ones((120, 5), np.uint16))
    seen = []
    monkeypatch.setattr(jobs, "train_member", lambda train, validation, *_: seen.append((train, validation)))
    for place, control in ((store, "target_removed"), (emptied, "none"), (store, "none")):
        jobs.train(
            galaxies, folds, place, *task(SETTINGS), "images", 0, 0, tmp_path / "m", tmp_path / "h", control=control
        )
    control, expected, ordinary = ([examples.digest for examples in pair] for pair in seen)
    assert control == expected
    assert not set(control) & set(ordinary)

    model = tmp_path / "member-0.safetensors"
    network = build("inception_small", 180, "he", seed=0)
    save_model(model, network.state_dict(), description())
    jobs.predict(
        galaxies, folds, store, *task(SETTINGS), "images", 0, [model], tmp_path / "control.parquet", "target_removed"
    )
    jobs.predict(galaxies, folds, emptied, *task(SETTINGS), "images", 0, [model], tmp_path / "expected.parquet")
    assert (tmp_path / "control.parquet").read_bytes() == (tmp_path / "expected.parquet").read_bytes()


def test_the_copy_for_a_gpu_has_one_without_galaxies_beside_it(small_run, tmp_path):
    galaxies, _, store = small_run
    ordinary, before = float16_copy(store, tmp_path)
    left, after = float16_copy(store, tmp_path, without_target=True)
    expected = without_targets(load_cubes(store, galaxies["row"], uncovered=np.nan), galaxies["object_id"].to_numpy())
    assert np.array_equal(left, expected.reshape(left.shape).astype(np.float16))
    assert before != after
    assert np.array_equal(float16_copy(store, tmp_path)[0], ordinary)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    examples = load_examples(
        galaxies,
        store,
        Inputs(stretch="none"),
        task()[2],
        torch.device("cpu"),
        residence="streamed",
        scratch=tmp_path,
        without_target=True,
    )
    assert torch.equal(examples.batch(torch.tensor([9]))[0][0], torch.from_numpy(left[9]).view(64, 64, 5).float())


def test_labels_are_shuffled_over_training_and_validation_the_same_for_all_members(small_run, tmp_path, monkeypatch):
    galaxies, folds, store = small_run
    galaxies = galaxies.assign(z_spec=np.linspace(0.01, 0.35, 120))
    folds = pd.concat([folds, folds["role_0"].rename("role_1")], axis=1)
    seen = {}

    def note(train, validation, settings, trial, fold, member, *_):
        seen[fold, member] = np.concatenate([train.values, validation.values])

    monkeypatch.setattr(jobs, "train_member", note)
    for fold, member in ((0, 0), (0, 1), (1, 0)):
        paths = tmp_path / "m", tmp_path / "h"
        jobs.train(galaxies, folds, store, *task(SETTINGS), "s", fold, member, *paths, control="shuffled_labels")
    own = np.concatenate([galaxies["z_spec"][folds["role_0"] == role] for role in ("train", "validation")])
    assert np.array_equal(np.sort(seen[0, 0]), np.sort(own))
    assert np.mean(seen[0, 0] == own) < 0.1
    assert abs(np.corrcoef(seen[0, 0], own)[0, 1]) < 0.25
    assert np.array_equal(seen[0, 0], seen[0, 1])
    assert not np.array_equal(seen[0, 0], seen[1, 0])
