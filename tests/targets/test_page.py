"""The page *Add a target* is followed: each of its configurations trains and predicts."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT
from tests.fixtures.quick_training import QUICK

from sdss_photoz import config
from sdss_photoz.config.target import LOSSES, OF_METHOD
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.report.sections import training
from sdss_photoz.targets.head import METHODS, head_of
from sdss_photoz.training import jobs

PAGE = (ROOT / "docs" / "targets.md").read_text()
BLOCKS = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]


@pytest.mark.parametrize(("block", "bins", "point"), list(zip(BLOCKS, [80, 180, 2], [True, True, False], strict=True)))
def test_a_configuration_of_the_page_trains_and_predicts(small_run, tmp_path, block, bins, point):
    galaxies, *rest = small_run
    galaxies = galaxies.assign(model_mag_r=16 + 10 * galaxies["z_spec"], is_red=np.arange(len(galaxies)) % 2)
    (tmp_path / "own.sql").write_text("SELECT objID, CASE WHEN 1 = 1 THEN 1 ELSE 0 END AS is_red FROM PhotoObjAll")
    query = {"archive": {"query": str(tmp_path / "own.sql")}} if "is_red" in str(block) else {}
    found = config.check({**block, **query, "training": QUICK.model_copy(update={"epochs": 1}).model_dump()})
    (trial,) = block["trials"]
    settings = found.trial_training(trial)
    task = (
        settings,
        Inputs.of(found.trial_inputs(trial), found.cubes.grid),
        head_of(found.trial_target(trial), settings),
    )
    model = tmp_path / "member-0.safetensors"
    jobs.train(galaxies, *rest, *task, trial, 0, 0, model, tmp_path / "history.csv")
    jobs.predict(galaxies, *rest, *task, trial, 0, [model], tmp_path / "pdfs.parquet")
    table = pd.read_parquet(tmp_path / "pdfs.parquet")
    pdf = np.stack(table["pdf"])
    assert pdf.shape == (12, bins)
    assert pdf.sum(1) == pytest.approx(1, abs=1e-5)
    assert ("point" in table) == point


def test_the_page_names_what_the_code_has():
    for word in (*METHODS, *sum(LOSSES.values(), ()), *OF_METHOD):
        assert f"`{word}`" in PAGE or f"`target.{word}`" in PAGE
    assert {loss for losses in LOSSES.values() for loss in losses} == set(training.LOSSES)
    for path in re.findall(r"`(src/[\w/]+\.py|tests/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).exists()
