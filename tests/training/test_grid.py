"""A training, its predictions and its model files follow the pixels and bands of the store."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from tests.fixtures.quick_training import task
from tests.fixtures.small_run import make_run

from sdss_photoz import training
from sdss_photoz.app.finished_run import load_ensemble
from sdss_photoz.config import Training
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.inputs.stretch import stretch
from sdss_photoz.networks import build
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid
from sdss_photoz.training import jobs
from sdss_photoz.training.data.load import load_examples
from sdss_photoz.training.data.order import Sequence
from sdss_photoz.training.model import Trained, architecture, load_models, save_model
from sdss_photoz.training.resources import float16_cube_bytes, memory_to_train, minutes_to_train

GRID = PixelGrid(29, 0.3, tuple("griz"))
SETTINGS = Training(epochs=1, batch=16, bins=20, device="cpu")
CPU, FIRST = torch.device("cpu"), Trained("images", 0, 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(galaxies, folds, store) of 40 galaxies whose cubes are parts of others."""
    folder = tmp_path_factory.mktemp("grid")
    galaxies, folds, whole = make_run(folder, 40)
    cubes, store = load_cubes(whole, np.arange(40))[:, :29, :29, 1:], folder / "griz.zarr"
    create_store(store, galaxies, 1, grid=GRID)
    write_shard(store, 0, cubes, np.ones((40, 4), np.uint16))
    return galaxies, folds, store


@pytest.fixture(scope="module")
def model(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "member-0.safetensors"
    jobs.train(*run, *task(SETTINGS, GRID), "images", 0, 0, path, path.with_suffix(".csv"))
    return path


def test_a_training_and_its_predictions_are_of_the_stores_cubes(run, model, tmp_path):
    galaxies, _, store = run
    jobs.predict(*run, *task(SETTINGS, GRID), "images", 0, [model], tmp_path / "pdfs.parquet")
    table = pd.read_parquet(tmp_path / "pdfs.parquet")
    test = galaxies.set_index("object_id").loc[table["object_id"]]
    network = load_models({FIRST: model}, architecture(*task(SETTINGS, GRID)))[FIRST].network
    cubes = stretch(torch.from_numpy(load_cubes(store, test["row"])), "asinh", torch.tensor(SDSS.noise[1:]))
    with torch.no_grad():
        expected = network(cubes, torch.tensor(test["ebv"].to_numpy(np.float32))[:, None]).softmax(1)
    np.testing.assert_allclose(np.stack(table["pdf"]), expected, rtol=1e-4, atol=1e-7)


def test_cubes_that_are_streamed_are_those_in_memory(run, tmp_path):
    galaxies, _, store = run
    rows = galaxies.sample(frac=1, random_state=1)
    kept, streamed = (
        load_examples(rows, store, *task(SETTINGS, GRID)[1:], CPU, residence=place, scratch=tmp_path)
        for place in ("device", "streamed")
    )
    index, turned = torch.arange(40), torch.arange(40) % 8
    for symmetry in (None, turned):
        first, second = (examples.batch(index, symmetry)[0] for examples in (kept, streamed))
        assert first.shape == (40, *GRID.shape)
        torch.testing.assert_close(first, second, rtol=2e-3, atol=2e-3)  # float16
    sequence = Sequence(40, 8, 0, 0, 0, True, streamed.cubes.chunks)
    for galaxies_of_batch, _, table, positions in streamed.cubes.batches(sequence, 0, 5):
        torch.testing.assert_close(table[positions].view(-1, *GRID.shape), _flux(streamed, galaxies_of_batch))
    assert kept.read(torch.stack([index[:3], turned[:3]]), channels=8)[0][..., 4:].abs().sum() == 0


def _flux(examples, galaxies):
    return examples.cubes.take(torch.from_numpy(galaxies))[0].view(-1, *GRID.shape)


def test_a_model_file_names_its_grid_unless_it_is_the_default_one(model, tmp_path):
    with safe_open(model, framework="pt") as file:
        assert json.loads(file.metadata()["sdss_photoz"])["grid"] == {"size": 29, "pixel_scale": 0.3, "bands": "griz"}
    assert "grid" not in architecture(*task(SETTINGS))
    trained = Trained("images", 0, 0)
    for other in (CUBE, GRID._replace(pixel_scale=0.31), GRID._replace(bands=tuple("ugri"))):
        with pytest.raises(UserError, match=r"for cubes of 29 pixels of 0\.3 arcsec in griz, but .* is expected"):
            load_models({trained: model}, architecture(*task(SETTINGS, other)))
    assert load_ensemble({trained: model}, GRID)[trained].head.label.grid.bins == 20
    with pytest.raises(UserError, match=r"29 pixels of 0\.3 arcsec in griz, but those of the run have 64 pixels"):
        load_ensemble({trained: model})


def test_a_store_of_another_grid_than_configured_is_refused(run, model, tmp_path):
    words = "another selection of galaxies, or other pixels or bands"
    with pytest.raises(UserError, match=words):
        jobs.train(*run, *task(SETTINGS), "images", 0, 0, tmp_path / "member-0.safetensors", tmp_path / "history.csv")
    with pytest.raises(UserError, match=words):
        jobs.predict(*run, *task(SETTINGS), "images", 0, [_default_model(tmp_path)], tmp_path / "pdfs.parquet")


def _default_model(folder):
    path = folder / "member-0.safetensors"
    about = {
        **architecture(*task(SETTINGS)),
        **Trained("images", 0, 0)._asdict(),
        "epoch": 0,
        "version": training.VERSION,
    }
    save_model(path, build("inception_small", 20, inputs=Inputs()).state_dict(), about)
    return path


def test_noise_of_other_bands_is_refused_and_never_broadcast():
    assert Inputs(GRID).noise == pytest.approx(SDSS.noise[1:])
    with pytest.raises(ValueError, match="1 bands, but the noise is that of 5"):
        stretch(torch.ones(2, 8, 8, 1), "asinh")


def test_larger_cubes_ask_for_more_memory_and_time():
    large = CUBE._replace(size=128)
    assert float16_cube_bytes(large) == 4 * float16_cube_bytes()
    for settings in (SETTINGS, Training(network="inception", device="cpu")):
        assert memory_to_train(10_000, settings, inputs=Inputs(large)) > 2 * memory_to_train(10_000, settings)
        assert minutes_to_train(100_000, settings, inputs=Inputs(large)) > minutes_to_train(100_000, settings)


def test_a_processor_is_asked_for_the_images_that_a_training_keeps_and_a_card_for_its_cubes():
    settings = Training(network="inception", device="cpu", residence="device")
    plain, cropped, pairs = (
        memory_to_train(100_000, settings, inputs=inputs)
        for inputs in (Inputs(), Inputs(size=32), Inputs(channels="pairs"))
    )
    assert plain - cropped > 0.7 * 100_000 * 4 * 64 * 64 * 5 / 1e6  # megabytes
    assert pairs - plain == pytest.approx(100_000 * 4 * 64 * 64 * 10 / 1e6, rel=0.01)
    pinned = Training(network="inception", device="cuda", residence="pinned")
    assert memory_to_train(100_000, pinned, inputs=Inputs(channels="pairs")) == memory_to_train(100_000, pinned)
