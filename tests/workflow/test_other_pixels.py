"""A run of other pixels and fewer bands goes through the same chain, and needs no other line of its configuration."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT
from tests.fixtures.workflow import Workflow

from sdss_photoz import config
from sdss_photoz.cubes.store import grid_of, open_store
from sdss_photoz.surveys import PixelGrid

CUBES = {"size": 45, "pixel_scale": 0.3, "bands": "griz"}


@pytest.mark.slow
def test_a_run_without_u_on_smaller_pixels_ends_in_a_report(tmp_path):
    values = yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text())
    values |= {"run": "griz", "cubes": CUBES, "evaluation": {"bootstrap": 50, "controls": True}}
    path = tmp_path / "griz.yaml"
    path.write_text(yaml.safe_dump(values))
    Workflow(tmp_path / "work", path).run("--cores", "2", check=True)
    results = tmp_path / "work" / "results" / "griz"
    store = open_store(results / "cubes.zarr")
    assert grid_of(store) == config.load(path).cubes.grid == PixelGrid(45, 0.3, tuple("griz"))
    assert np.isfinite(store["flux"][:]).mean() > 0.9
    frames = pd.concat(pd.read_parquet(file) for file in (results / "archive" / "frames").iterdir())
    assert set(frames["band"]) == set("griz"), "frames in u are not needed"
    metrics = json.loads((results / "evaluation" / "images" / "metrics.json").read_text())
    assert metrics["headline"]["scores"]["local_linear"]["sigma_mad"]["value"] < 0.05
    page = (results / "report" / "index.html").read_text()
    assert "colour image from the i, r and g bands (13.5&Prime; wide" in " ".join(page.split())
