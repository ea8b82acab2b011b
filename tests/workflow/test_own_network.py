"""The page *Add a network* is followed to the letter, on the tiny run."""

import json
import re

import yaml
from tests.conftest import ROOT
from tests.fixtures.workflow import Workflow, asked
from tests.workflow.test_blast_radius import rules_to_run

from sdss_photoz import import_path
from sdss_photoz.config import load
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.targets.classes import Classes
from sdss_photoz.training.model import describe_model
from sdss_photoz.training.rehearsal import rehearse
from sdss_photoz.training.resources import (
    DEFAULT_MEMORY,
    Cost,
    count_galaxies,
    memory_to_predict,
    memory_to_train,
    minutes_to_train,
)

PAGE = ROOT / "docs" / "networks.md"
TARGET = "results/tiny/training/images/fold-0/pdfs.parquet"


def assert_jobs_ask_for_what_was_measured(asked_for, run, config, cost):
    galaxies, settings, cost = (
        count_galaxies(run.results / "sample" / "galaxies.parquet"),
        config.training,
        Cost(**cost),
    )
    trained = asked_for["train_member", "trial=images, fold=0, member=0"]
    assert trained["mem_mb"] == memory_to_train(galaxies, settings, cost=cost) < memory_to_train(galaxies, settings)
    assert trained["runtime"] == minutes_to_train(galaxies, settings, cost=cost)
    memory = memory_to_predict(galaxies, settings, members=1, folds=2, cost=cost)
    assert asked_for["predict_fold", "trial=images, fold=0"]["mem_mb"] == memory


def test_the_pages_network_is_trained_and_trained_again_after_an_edit(tiny, tmp_path, monkeypatch):
    """The configuration lies in another folder than Snakemake works in."""
    monkeypatch.setenv(import_path.VARIABLE, "")
    found = re.findall(r"^```(python|yaml)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (source,), (page, groups) = ([text for language, text in found if language == kind] for kind in ("python", "yaml"))
    settings = yaml.safe_load(tiny.configfile.read_text())
    settings["training"] = {"epochs": 1, **yaml.safe_load(page)["training"]}
    module, configuration = tmp_path / "my_network.py", tmp_path / "my.yaml"
    module.write_text(source)
    configuration.write_text(yaml.safe_dump(settings))
    run = Workflow(tiny.copy(tmp_path / "work").directory, configuration)
    found = asked(run, tmp_path / "without_messages", "--cores", "2", TARGET)
    model = describe_model(run.results / "training" / "images" / "fold-0" / "member-0.safetensors")
    assert model["network"] == "my_network:Network"
    assert model["options"] == {"width": 12}
    assert rules_to_run(run, targets=[TARGET]) == set()
    (measured,) = (run.results / "training" / "networks").glob("my_network.Network-*.json")
    assert found["measure_network", f"network={measured.stem}"]["mem_mb"] == DEFAULT_MEMORY
    assert_jobs_ask_for_what_was_measured(found, run, load(configuration), json.loads(measured.read_text())["cost"])
    written = measured.read_text()
    measured.write_text(written)  # its times are others whenever it is measured
    assert rules_to_run(run, targets=[TARGET]) == set()
    measured.unlink()
    assert rules_to_run(run, targets=[TARGET]) == set()
    again = {"measure_network", "train_member", "predict_fold"}
    module.write_text(source.replace("torch.relu", "torch.tanh"))
    assert rules_to_run(run, targets=[TARGET]) == again
    module.write_text(source)
    assert rules_to_run(run, targets=[TARGET]) == set()
    settings["training"]["options"] = {"width": 13}
    configuration.write_text(yaml.safe_dump(settings))
    assert rules_to_run(run, targets=[TARGET]) == again
    settings["training"] |= {"options": {"width": 12}, **yaml.safe_load(groups)["training"]}
    configuration.write_text(yaml.safe_dump(settings))
    assert rules_to_run(run, targets=[TARGET]) == again
    config = load(configuration)
    rehearse(config.training, Inputs.of(config.trial_inputs("images"), config.cubes.grid), Classes())
