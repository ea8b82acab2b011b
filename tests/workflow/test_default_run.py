"""The default run learns, and a run's scores are told with their errors."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.conftest import ROOT
from tests.fixtures.workflow import Workflow


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The default run on four of its fields, as far as its first network."""
    workflow = Workflow(tmp_path_factory.mktemp("default"), ROOT / "config.yaml")
    history, sky = "results/default/training/images/fold-0/member-0.history.csv", "embedded={fields: 4, visits: 1}"
    workflow.run("--cores", "2", history, config=[sky], check=True)
    return workflow.directory / "results" / "default"


@pytest.mark.slow
def test_a_network_ends_half_a_nat_below_the_entropy_of_the_training_redshifts(default):
    galaxies = pd.read_parquet(default / "sample" / "galaxies.parquet").set_index("object_id")
    folds = pd.read_parquet(default / "sample" / "folds-images.parquet").set_index("object_id")
    z = galaxies["z_spec"][folds.index[folds["role_0"] == "train"]]
    share = np.histogram(z, bins=180, range=(0, 0.4))[0] / len(z)
    entropy = -np.sum(share[share > 0] * np.log(share[share > 0]))
    history = pd.read_csv(default / "training" / "images" / "fold-0" / "member-0.history.csv")
    lowest = history["validation_loss"].min()
    print(f"validation loss {lowest:.3f}, entropy {entropy:.3f}")
    assert lowest < entropy - 0.5
    assert history["validation_loss"].iloc[-1] < entropy - 0.5


def test_scores_of_network_and_baseline_stand_side_by_side_with_errors(tiny):
    scores = json.loads((tiny.results / "evaluation" / "images" / "metrics.json").read_text())["headline"]["scores"]
    page = (tiny.results / "report" / "index.html").read_text()
    for method in ("network", "local_linear"):
        value, error = scores[method]["sigma_mad"]["value"], scores[method]["sigma_mad"]["error"]
        assert 0.005 < value < 0.1
        assert 0 < error < 0.5 * value
        assert f"{value:.5f} ± {error:.5f}" in page
