"""Another task than the redshift, from catalogue to report, with a user's own files: network, query and a few lines."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from tests.conftest import ROOT
from tests.fixtures.workflow import Workflow

QUERY = """\
SELECT za.specObjID, za.bestObjID, za.sciencePrimary, za.z, za.zErr, po.objID, po.ra, po.dec,
  zi.e_bv_sfd, (po.petroMag_r - po.extinction_r) AS dered_petro_r,
  po.modelMag_u, po.modelMag_g, po.modelMag_r, po.modelMag_i, po.modelMag_z,
  po.extinction_u, po.extinction_g, po.extinction_r, po.extinction_i, po.extinction_z,
  zx.lgm_tot_p50, CASE WHEN po.modelMag_g - po.modelMag_r > 0.9 THEN 1 ELSE 0 END AS is_red
FROM SpecObjAll za
  JOIN PhotoObjAll po ON (po.objID = za.bestObjID)
  JOIN galSpecInfo zi ON (zi.specObjID = za.specObjID)
  JOIN galSpecExtra zx ON (zx.specObjID = za.specObjID)
WHERE za.class = 'GALAXY' AND za.zWarning = 0 AND za.z > 0 AND po.clean = 1
  AND (po.petroMag_r - po.extinction_r) <= 17.8
"""
CONFIGURATION = """\
run: mine
archive: {query: mass.sql}
cubes: {bands: griz}
inputs: {numbers: []}
training: {network: "my_network:Network", epochs: 1}
trials:
  images: {where: lgm_tot_p50 > 0, target: {column: lgm_tot_p50, low: 7, high: 12.5}}
  red: {target: {column: is_red, kind: yes_no}, members: 1, folds: {count: 2}}
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The user's folder, after the run."""
    folder = tmp_path_factory.mktemp("mine")
    page = (ROOT / "docs" / "networks.md").read_text()
    (folder / "my_network.py").write_text(re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1])
    (folder / "mass.sql").write_text(QUERY)
    (folder / "my.yaml").write_text(CONFIGURATION)
    Workflow(folder).run(folder / "my.yaml", "--cores", "2", check=True)  # over tests/tiny.yaml
    return folder


@pytest.mark.slow
def test_stellar_masses_reach_the_report_from_a_users_own_files(mine):
    results = mine / "results" / "mine"
    scores = json.loads((results / "evaluation/images/metrics.json").read_text())
    photoz = pd.read_parquet(results / "evaluation/images/photoz.parquet")
    assert (scores["kind"], scores["column"]) == ("value", "lgm_tot_p50")
    scored = photoz[photoz["has_frames"]]
    residual = scored["predicted"] - scored["true"]
    found = scores["headline"]["scores"]
    assert found["network"]["rmse"]["value"] == pytest.approx(np.sqrt(np.mean(residual**2)))
    assert found["network"]["sigma_mad"]["value"] == pytest.approx(
        stats.median_abs_deviation(residual, scale=1 / 1.4826)
    )
    assert found["local_linear"]["sigma_mad"]["value"] < 0.5 * np.std(scored["true"]), "the catalogue's own scatter"
    page = (results / "report/index.html").read_text()
    for words in (f"<td>{found['network']['rmse']['value']:.4f} ± ", "RMSE", "<code>lgm_tot_p50</code>"):
        assert words in page
    figures = {path.stem for path in (results / "report/figures").glob("images-*.png")}
    assert {"images-true_predicted", "images-residual_histogram", "images-residuals", "images-pit"} <= figures


@pytest.mark.slow
def test_galaxies_without_a_mass_take_no_part(mine):
    results = mine / "results" / "mine"
    photoz = pd.read_parquet(results / "evaluation/images/photoz.parquet")
    sample = pd.read_parquet(results / "sample/galaxies.parquet").set_index("object_id")["lgm_tot_p50"]
    assert sample.isna().any(), "the archive's -9999"
    assert photoz["true"].between(7, 12.5).all()
    assert set(photoz["object_id"]) == set(sample.dropna().index)


@pytest.mark.slow
def test_yes_and_no_reach_the_report_of_the_same_run(mine):
    results = mine / "results" / "mine"
    scores = json.loads((results / "evaluation/red/metrics.json").read_text())
    photoz = pd.read_parquet(results / "evaluation/red/photoz.parquet")
    scored = photoz[photoz["has_frames"]]
    assert set(scored["true"]) == {0, 1}
    found = scores["headline"]["scores"]
    assert found["network"]["auc"]["value"] == pytest.approx(roc_auc_score(scored["true"], scored["predicted"]))
    assert found["local_linear"]["auc"]["value"] > 0.9, "a colour is told by magnitudes"
    figures = {path.stem for path in (results / "report/figures").glob("red-*.png")}
    assert figures == {"red-roc", "red-completeness_purity", "red-reliability", "red-training"}


@pytest.mark.slow
def test_the_networks_of_the_run_predict_masses_of_other_positions(mine):
    results = mine / "results" / "mine"
    sample = pd.read_parquet(results / "sample/galaxies.parquet")[:20]
    sample[["object_id", "ra", "dec", "ebv"]].to_csv(mine / "results" / "positions.csv", index=False)
    words = [
        "predict",
        "--trial",
        "images",
        results,
        mine / "results" / "positions.csv",
        "--frames",
        results / "archive" / "sas",
    ]
    words += ["--out", mine / "results" / "masses.parquet", "--device", "cpu", "--threads", "2"]
    command = [sys.executable, "-m", "sdss_photoz.app.cli", *map(str, words)]
    done = subprocess.run(command, cwd=mine, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{mine}"},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " 20 predictions;" in done.stdout
    found = pd.read_parquet(mine / "results" / "masses.parquet").set_index("object_id")
    evaluated = pd.read_parquet(results / "evaluation/images/photoz.parquet").set_index("object_id")
    for object_id in found.index.intersection(evaluated.index):
        own = found.loc[object_id, f"predicted_fold_{evaluated.loc[object_id, 'fold']}_member_0"]
        assert own == pytest.approx(evaluated.loc[object_id, "predicted"], abs=1e-5)


@pytest.mark.slow
def test_it_takes_one_python_file_one_query_and_few_lines(mine):
    own = sorted(path.name for path in mine.iterdir() if path.is_file() and not path.name.startswith("."))
    assert own == ["mass.sql", "my.yaml", "my_network.py"]
    assert len((mine / "my.yaml").read_text().splitlines()) <= 10
