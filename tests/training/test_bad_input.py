"""Errors that a user can fix are one sentence in a script's log and on the terminal, without a traceback."""

import resource
import runpy
from types import SimpleNamespace

import pytest
import torch
from tests.fixtures.model_files import description

from sdss_photoz.networks import build
from sdss_photoz.training import fit, inference
from sdss_photoz.training.model import save_model

FULL = [
    "CUDA out of memory.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
]
TRAINING = {"epochs": 1, "batch": 16, "device": "cpu"}


class Wildcards(SimpleNamespace):
    """Names that are attributes and keys, as Snakemake's are."""

    __getitem__ = SimpleNamespace.__getattribute__


@pytest.fixture
def run_script(root, small_run, tmp_path, monkeypatch, capsys):
    """A function that runs a script on the small run as Snakemake does, and returns its error message."""
    monkeypatch.chdir(tmp_path)

    def run(rule, tables=lambda galaxies, folds: (galaxies, folds), models=(), **training):
        galaxies, folds = tables(*(table.copy() for table in small_run[:2]))
        galaxies.to_parquet("galaxies.parquet")
        folds.to_parquet("folds.parquet")
        job = SimpleNamespace(
            rule=rule,
            config={"training": TRAINING | training},
            wildcards=Wildcards(trial="images", fold="0", member="0"),
            input=SimpleNamespace(
                galaxies="galaxies.parquet", folds="folds.parquet", store=small_run[2] / "zarr.json", models=models
            ),
            output=SimpleNamespace(model="member-0.safetensors", history="history.csv", pdfs="pdfs.parquet"),
            log=["script.log"],
        )
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(root / "workflow" / "scripts" / f"{rule}.py"), {"snakemake": job})
        assert stopped.value.code == 1
        log = (tmp_path / "script.log").read_text()
        assert capsys.readouterr().err == log
        assert "Traceback" not in log
        assert not list(tmp_path.glob("member-*"))
        assert not list(tmp_path.glob("pdfs*"))
        (sentence,) = (line for line in log.splitlines() if line.startswith(f"{rule}: "))
        assert sentence == log.splitlines()[-1]
        return sentence

    return run


def _roles(replace, by):
    return lambda galaxies, folds: (galaxies, folds.assign(role_0=folds["role_0"].replace(replace, by)))


def test_fewer_galaxies_than_a_batch(run_script):
    message = run_script("train_member", batch=128)
    assert "has 96 training galaxies, fewer than training.batch, 128: lower training.batch to at most 96." in message


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_fold_without_galaxies(run_script, role):
    message = run_script("train_member", _roles(role, "unused"))
    assert f"images, fold 0, member 0 has no {role} galaxies with a frame in every band: widen the sample" in message


def test_labels_outside_the_bins(run_script):
    def tables(galaxies, folds):
        return galaxies.assign(z_spec=galaxies["z_spec"].where(~galaxies["row"].isin([4, 5]), 0.41)), folds

    message = run_script("train_member", tables)
    assert "2 of 96 redshifts are outside the bins' range 0..0.4 (the first is 0.41): " in message
    assert "training.outside_bins to clip" in message


@pytest.mark.parametrize("message", FULL)
def test_a_full_gpu_in_training(run_script, monkeypatch, message):
    def full(*_):
        raise RuntimeError(message)

    monkeypatch.setattr(fit, "train_step", full)
    message = run_script("train_member")
    assert "the GPU's memory is full with cubes device and training.batch 16: " in message
    assert message.endswith("which frees 8,847,360 bytes, or lower training.batch from 16 to 8.")


def test_a_full_scratch_disk(run_script):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))  # the disk of this process
    try:
        message = run_script("train_member", residence="streamed", scratch="scratch")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "scratch has no room for the float16 copy of the cubes (File too large): free some space, or set " in message


def _model(folder, built=None, described=None):
    """A model file as the run expects it, but for some settings."""
    path = folder / "models" / "member-0.safetensors"
    save_model(path, build("inception_small", **(built or {})).state_dict(), description(**(described or {})))
    return path


@pytest.mark.parametrize(
    ("built", "described", "found"),
    [
        ({"outputs": 90}, {"bins": 90}, "holds network inception_small with 90 bins and stretch asinh, but "),
        ({}, {"network": "inception"}, "holds network inception with 180 bins and stretch asinh, but inception_small "),
        ({}, {"stretch": "sqrt"}, "holds network inception_small with 180 bins and stretch sqrt, but inception_small "),
        ({"outputs": 90}, {}, "holds weights of other layers than inception_small has in this version"),
    ],
)
def test_a_model_of_another_network_or_bin_grid(run_script, tmp_path, built, described, found):
    path = _model(tmp_path, built, described)
    assert f"{path} {found}" in run_script("predict_fold", models=[path])


def test_a_damaged_model(run_script, tmp_path):
    path = _model(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is not a whole model file" in run_script("predict_fold", models=[path])


def test_a_full_gpu_in_prediction(run_script, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(inference, "outputs_of", full)
    message = run_script("predict_fold", models=[_model(tmp_path)])
    assert message.endswith("the GPU's memory is full: free it of other programs, or set training.device to cpu.")
