"""Every test galaxy gets a distribution from every member."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tests.fixtures.model_files import description
from tests.fixtures.quick_training import task

from sdss_photoz import files, training
from sdss_photoz.config import Training
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.stretch import stretch
from sdss_photoz.networks import build
from sdss_photoz.training import jobs
from sdss_photoz.training.model import save_model

SETTINGS = Training(device="cpu", initialisation="paper")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of two untrained members."""
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / f"member-{member}.safetensors" for member in (0, 1)]
    for member, path in enumerate(paths):
        network = build("inception_small", 180, "paper", seed=member)
        save_model(path, network.state_dict(), description(member=member))
    return paths


@pytest.fixture(scope="module")
def pdfs(small_run, models, tmp_path_factory):
    path = tmp_path_factory.mktemp("pdfs") / "pdfs.parquet"
    jobs.predict(*small_run, *task(SETTINGS), "images", 0, models[::-1], path)
    return path


def test_each_test_galaxy_has_a_row_per_member(small_run, pdfs):
    table = pd.read_parquet(pdfs)
    galaxies, folds, _ = small_run
    test = galaxies["object_id"][folds["role_0"] == "test"].tolist()
    assert table["object_id"].tolist() == test * 2
    assert table["member"].tolist() == [0] * len(test) + [1] * len(test)


def test_distributions_are_probabilities_of_the_bins_in_float32(pdfs):
    column = pq.read_table(pdfs)["pdf"].combine_chunks()
    assert column.type == pa.list_(pa.float32(), 180)
    values = column.values.to_numpy().reshape(-1, 180)
    assert (values >= 0).all()
    assert values.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_distributions_are_those_of_the_network_on_the_galaxys_own_cube(small_run, models, pdfs):
    table = pd.read_parquet(pdfs)
    galaxies, _, store = small_run
    galaxy = galaxies[galaxies["object_id"] == table["object_id"][5]].iloc[0]
    cube = stretch(torch.from_numpy(load_cubes(store, [int(galaxy["row"])])), "asinh")
    with torch.no_grad():
        logits = build("inception_small", 180, "paper", seed=0)(cube, torch.tensor([[galaxy["ebv"]]]).float())
    assert table["pdf"][5] == pytest.approx(logits.softmax(1)[0].numpy(), rel=1e-4, abs=1e-7)


def test_symmetry_averaging_gives_the_mean_of_the_probabilities_over_the_eight_symmetries(
    small_run, models, pdfs, tmp_path
):
    averaged = tmp_path / "averaged.parquet"
    jobs.predict(
        *small_run, *task(SETTINGS.model_copy(update={"symmetry_averaging": True})), "images", 0, models, averaged
    )
    table = pd.read_parquet(averaged)
    galaxies, _, store = small_run
    galaxy = galaxies[galaxies["object_id"] == table["object_id"][5]].iloc[0]
    cube = load_cubes(store, [int(galaxy["row"])])[0]
    images = np.stack([np.rot90(image, turns) for image in (cube, cube[:, ::-1]) for turns in range(4)])
    ebv = torch.full((8, 1), galaxy["ebv"], dtype=torch.float32)
    with torch.no_grad():
        logits = build("inception_small", 180, "paper", seed=0)(stretch(torch.from_numpy(images), "asinh"), ebv)
    assert table["pdf"][5] == pytest.approx(logits.softmax(1).mean(0).numpy(), rel=1e-4, abs=1e-7)
    assert table["pdf"][5] != pytest.approx(pd.read_parquet(pdfs)["pdf"][5], rel=1e-3)


def test_where_networks_learned_a_point_estimate_it_stands_beside_the_distributions(small_run, tmp_path):
    path, values = tmp_path / "member-0.safetensors", np.linspace(0.1, 0.3, 180)
    about = description(point=values.tolist())
    save_model(path, build("inception_small", 180, "paper").state_dict(), about)
    jobs.predict(*small_run, *task(SETTINGS), "images", 0, [path], tmp_path / "pdfs.parquet")
    table = pd.read_parquet(tmp_path / "pdfs.parquet")
    assert table["z_regressed"].to_numpy() == pytest.approx(np.stack(table["pdf"]) @ values, rel=1e-5)


def test_predictions_are_the_same_bytes_each_time(small_run, models, pdfs, tmp_path):
    jobs.predict(*small_run, *task(SETTINGS), "images", 0, models, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == pdfs.read_bytes()


def test_a_galaxy_without_any_frame_in_a_band_leaves_training_and_is_predicted(
    small_run, models, tmp_path, monkeypatch, capsys
):
    galaxies, folds, store = small_run
    depth = np.ones((120, 5), dtype=np.uint16)
    depth[[7, 3, 11], 2] = 0  # a test, a validation and a training galaxy lack the r band
    holed = tmp_path / "cubes.zarr"
    create_store(holed, galaxies, 1)
    write_shard(holed, 0, load_cubes(store, np.arange(120)), depth)
    seen = []
    monkeypatch.setattr(jobs, "train_member", lambda train, validation, *_: seen.extend([train, validation]))
    jobs.train(galaxies, folds, holed, *task(SETTINGS), "images", 0, 0, tmp_path / "m", tmp_path / "h")
    assert len(seen[0]) == 95
    assert len(seen[1]) == 11
    assert galaxies["object_id"][11] not in seen[0].object_id
    assert galaxies["object_id"][3] not in seen[1].object_id
    assert "1 train galaxies without any frame in a band left out" in capsys.readouterr().err
    jobs.predict(galaxies, folds, holed, *task(SETTINGS), "images", 0, models, tmp_path / "pdfs.parquet")
    assert galaxies["object_id"][7] in pd.read_parquet(tmp_path / "pdfs.parquet")["object_id"].tolist()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"bins": 90}, "with 180 bins"),
        ({"network": "inception"}, "network inception_small"),
        ({"stretch": "sqrt"}, "asinh"),
        ({"pooling": "max"}, "stretch asinh, but inception_small with 180 bins and stretch asinh, pooling max is"),
        ({"batch_norm": True}, "stretch asinh, but .*, batch_norm True is expected"),
    ],
)
def test_a_model_of_another_network_bin_grid_stretch_or_variant_is_refused(small_run, models, tmp_path, change, found):
    with pytest.raises(UserError, match=rf"member-0.safetensors holds .*{found}"):
        jobs.predict(
            *small_run, *task(SETTINGS.model_copy(update=change)), "images", 0, models, tmp_path / "pdfs.parquet"
        )


def test_the_network_of_another_fold_is_refused_for_it_may_have_seen_the_galaxies(small_run, models, tmp_path):
    """A copy of fold 1's model lies over fold 0's, a mistake of one line of shell."""
    path = tmp_path / "member-0.safetensors"
    save_model(tmp_path / "of-fold-1.safetensors", load_file(models[0]), description(fold=1))
    shutil.copy(models[0], path)
    jobs.predict(*small_run, *task(SETTINGS), "images", 0, [path], tmp_path / "pdfs.parquet")
    shutil.copy(tmp_path / "of-fold-1.safetensors", path)
    with pytest.raises(UserError) as refused:
        jobs.predict(*small_run, *task(SETTINGS), "images", 0, [path], tmp_path / "refused.parquet")
    assert str(refused.value) == (
        f"{path} holds the network of trial images, fold 1, member 0, but that of trial images, fold 0, member 0 is "
        "expected, which has not seen its test galaxies: put the file that this training wrote back, or train again."
    )
    assert not (tmp_path / "refused.parquet").exists()


NEXT = training.VERSION + 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"member": 1},
            "holds the network of trial images, fold 0, member 1, but that of trial images, fold 0, member 0",
        ),
        (
            {"trial": "more"},
            "holds the network of trial more, fold 0, member 0, but that of trial images, fold 0, member",
        ),
        (
            {"version": NEXT},
            f"was trained by version {NEXT} of the stage training, but this is version {NEXT - 1}: train",
        ),
        (
            {"fold": ..., "version": ...},
            "does not tell its fold, version, so nobody knows which galaxies trained it: put",
        ),
    ],
)
def test_a_model_of_another_training_is_refused(small_run, models, tmp_path, change, found):
    path = tmp_path / "member-0.safetensors"
    told = {key: value for key, value in description(**change).items() if value is not ...}
    save_model(path, load_file(models[0]), told)
    with pytest.raises(UserError, match=rf"^\S+member-0.safetensors {found}[^\n]*$"):
        jobs.predict(*small_run, *task(SETTINGS), "images", 0, [path], tmp_path / "pdfs.parquet")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_are_refused_and_not_converted(small_run, models, tmp_path, kind):
    path = tmp_path / "member-0.safetensors"
    save_model(path, {name: value.to(kind) for name, value in load_file(models[0]).items()}, description())
    name = str(kind).removeprefix("torch.")
    with pytest.raises(UserError, match=rf"^\S+member-0.safetensors holds \S+ as {name}, but .* float32: put [^\n]*$"):
        jobs.predict(*small_run, *task(SETTINGS), "images", 0, [path], tmp_path / "pdfs.parquet")


def test_a_model_from_before_trials_were_noted_is_taken_by_its_place_and_that_is_said(
    small_run, models, pdfs, tmp_path, capsys
):
    """Model files of finished runs tell fold, member and version, and no trial."""
    paths = [tmp_path / path.name for path in models]
    for member, path in enumerate(paths):
        told = description(member=member)
        told.pop("trial")
        save_model(path, load_file(models[member]), told)
    jobs.predict(*small_run, *task(SETTINGS), "images", 0, paths, tmp_path / "pdfs.parquet")
    stderr = capsys.readouterr().err
    assert f"{paths[0]} and 1 more do not tell their trial" in stderr
    assert stderr.count("do not tell their trial") == 1
    assert pq.read_table(tmp_path / "pdfs.parquet").equals(pq.read_table(pdfs))


def test_predictions_tell_which_model_files_made_them(models, pdfs):
    assert json.loads(pq.read_schema(pdfs).metadata[b"sdss_photoz"]) == {
        "trial": "images",
        "version": training.VERSION,
        "models": {f"fold_0_member_{member}": files.sha256(path) for member, path in enumerate(models)},
    }


def test_a_damaged_model_file_is_named(small_run, tmp_path):
    (tmp_path / "member-0.safetensors").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"member-0.safetensors is not a whole model file"):
        jobs.predict(
            *small_run, *task(SETTINGS), "images", 0, [tmp_path / "member-0.safetensors"], tmp_path / "pdfs.parquet"
        )


def test_a_fold_without_test_galaxies_is_refused(small_run, models, tmp_path):
    galaxies, folds, store = small_run
    none = folds.assign(role_0="train")
    with pytest.raises(UserError, match="fold 0 has no test galaxies"):
        jobs.predict(galaxies, none, store, *task(SETTINGS), "images", 0, models, tmp_path / "pdfs.parquet")


def test_cubes_of_another_selection_are_refused(small_run, models, tmp_path):
    galaxies, folds, store = small_run
    moved = galaxies.assign(dec=0.001)
    with pytest.raises(UserError, match="made for another selection of galaxies"):
        jobs.predict(moved, folds, store, *task(SETTINGS), "images", 0, models, tmp_path / "pdfs.parquet")
    with pytest.raises(UserError, match="made for another selection of galaxies"):
        jobs.train(moved, folds, store, *task(SETTINGS), "images", 0, 0, tmp_path / "m", tmp_path / "h")
