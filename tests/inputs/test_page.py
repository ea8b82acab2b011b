"""The page *Add an input* is followed: its configurations train and predict, and its file is a kind of channels."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT
from tests.fixtures.quick_training import QUICK

from sdss_photoz import config
from sdss_photoz.config.inputs import Augmentation, Inputs, kinds_of_channels
from sdss_photoz.inputs import inputs
from sdss_photoz.targets.head import head_of
from sdss_photoz.training import jobs
from sdss_photoz.training.model import describe_model

PAGE = (ROOT / "docs" / "inputs.md").read_text()
BLOCKS = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
SHAPES = {"middle": (30, 30, 4), "differences": (64, 64, 4), "colours": (64, 64, 5), "moved": (64, 64, 5)}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: next(iter(block["trials"])))
def test_a_configuration_of_the_page_trains_and_predicts(small_run, tmp_path, block):
    galaxies, *rest = small_run
    random = np.random.default_rng(1)
    columns = ("psf_fwhm_r", "model_mag_g", "model_mag_r")
    galaxies = galaxies.assign(**{name: random.normal(18, 1, len(galaxies)) for name in columns})
    (trial,) = block["trials"]
    settings = {**QUICK.model_dump(), "epochs": 1, **block["trials"][trial].get("training", {})}
    found = config.check({**block, "training": settings})
    settings = found.trial_training(trial)
    read = inputs.Inputs.of(found.trial_inputs(trial), found.cubes.grid)
    assert read.shape == SHAPES[trial]
    task = settings, read, head_of(found.trial_target(trial), settings)
    model = tmp_path / "member-0.safetensors"
    jobs.train(galaxies, *rest, *task, trial, 0, 0, model, tmp_path / "history.csv")
    jobs.predict(galaxies, *rest, *task, trial, 0, [model], tmp_path / "pdfs.parquet")
    assert np.stack(pd.read_parquet(tmp_path / "pdfs.parquet")["pdf"]).sum(1) == pytest.approx(1, abs=1e-5)
    scaled = {"colours": {"psf_fwhm_r", "model_mag_g - model_mag_r"}}.get(trial, set())
    assert set(describe_model(model).get("scaling", {})) == scaled


def test_the_file_of_the_page_is_a_kind_of_channels(tmp_path):
    (text,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    package = tmp_path / "sdss_photoz"
    shutil.copytree(ROOT / "src" / "sdss_photoz", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "inputs" / "channels" / "brightness.py").write_text(text)
    program = """
import numpy as np, torch
from sdss_photoz import config
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build

values = {"inputs": {"channels": "brightness"}, "training": {"network": "inception"}}
found = config.check(values)
inputs = Inputs.of(found.trial_inputs("images"), found.cubes.grid)
flux = np.random.default_rng(0).normal(size=(2, 64, 64, 5)).astype(np.float32)
images = inputs.images(torch.from_numpy(flux))
expected = np.arcsinh(flux / np.array(inputs.noise, np.float32)).mean(-1, keepdims=True)
assert np.allclose(images.numpy(), expected, atol=1e-5)
logits = build("inception", 180, inputs=inputs)(images, torch.zeros(2, 1))
print(inputs.channel_names, tuple(logits.shape))
"""
    found = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (found.stdout.strip(), found.returncode) == ("('brightness',) (2, 180)", 0), found.stderr


def test_the_page_names_what_the_code_has():
    keys = {*Inputs.model_fields, *Augmentation.model_fields} - {"augmentation"}
    for word in (*keys, *kinds_of_channels()):
        assert f"`{word}`" in PAGE or f"`inputs.{word}`" in PAGE or f"{word}:" in PAGE, word
    for path in re.findall(r"`(src/[\w/]+\.py|tests/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).exists()
