"""The default run, as a newcomer makes it."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.workflow.conftest import ROOT, Workflow


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The finished default run."""
    workflow = Workflow(tmp_path_factory.mktemp("default"), ROOT / "config.yaml")
    workflow.run("--cores", "2", check=True)
    return workflow.directory / "results" / "default"


@pytest.mark.slow
def test_every_network_ends_half_a_nat_below_the_entropy_of_the_training_redshifts(default):
    galaxies = pd.read_parquet(default / "sample" / "galaxies.parquet").set_index("object_id")
    folds = pd.read_parquet(default / "sample" / "folds-images.parquet").set_index("object_id")
    histories = sorted((default / "training").rglob("*.history.csv"))
    assert len(histories) == 6
    for path in histories:
        fold = path.parent.name.removeprefix("fold-")
        z = galaxies["z_spec"][folds.index[folds[f"role_{fold}"] == "train"]]
        share = np.histogram(z, bins=180, range=(0, 0.4))[0] / len(z)
        entropy = -np.sum(share[share > 0] * np.log(share[share > 0]))
        history = pd.read_csv(path)
        kept = history.loc[history["validation_loss"].idxmin()]
        print(f"{path.parent.name} {path.stem}: validation loss {kept.validation_loss:.3f}, entropy {entropy:.3f}")
        assert kept["validation_loss"] < entropy - 0.5
        assert history["validation_loss"].iloc[-1] < entropy - 0.5


@pytest.mark.slow
def test_scores_of_network_and_baseline_stand_side_by_side_with_errors(default):
    scores = json.loads((default / "evaluation" / "images" / "metrics.json").read_text())["headline"]["scores"]
    page = (default / "report" / "index.html").read_text()
    for method in ("network", "local_linear"):
        value, error = scores[method]["sigma_mad"]["value"], scores[method]["sigma_mad"]["error"]
        assert 0.005 < value < 0.03
        assert 0 < error < 0.2 * value
        assert f"{value:.5f} ± {error:.5f}" in page
