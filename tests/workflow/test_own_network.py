"""The page *Add a network* is followed to the letter, on the tiny run."""

import re

import yaml
from tests.conftest import ROOT
from tests.fixtures.workflow import Workflow
from tests.workflow.test_blast_radius import rules_to_run

from sdss_photoz.training.model import describe_model

PAGE = ROOT / "docs" / "networks.md"
TARGET = "results/tiny/training/images/fold-0/pdfs.parquet"


def test_the_pages_network_is_trained_and_trained_again_after_an_edit(tiny, tmp_path):
    """The configuration lies in another folder than Snakemake works in."""
    blocks = dict(re.findall(r"^```(python|yaml)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    settings, page = yaml.safe_load(tiny.configfile.read_text()), yaml.safe_load(blocks["yaml"])
    settings["training"] = {"epochs": 1, **page["training"]}
    module, configuration = tmp_path / "my_network.py", tmp_path / "my.yaml"
    module.write_text(blocks["python"])
    configuration.write_text(yaml.safe_dump(settings))
    run = Workflow(tiny.copy(tmp_path / "work").directory, configuration)
    run.run("--cores", "2", TARGET, check=True)
    model = describe_model(run.results / "training" / "images" / "fold-0" / "member-0.safetensors")
    assert model["network"] == "my_network:Network"
    assert model["options"] == {"width": 12}
    assert rules_to_run(run, targets=[TARGET]) == set()
    again = {"train_member", "predict_fold"}
    module.write_text(blocks["python"].replace("torch.relu", "torch.tanh"))
    assert rules_to_run(run, targets=[TARGET]) == again
    module.write_text(blocks["python"])
    assert rules_to_run(run, targets=[TARGET]) == set()
    settings["training"]["options"] = {"width": 13}
    configuration.write_text(yaml.safe_dump(settings))
    assert rules_to_run(run, targets=[TARGET]) == again
