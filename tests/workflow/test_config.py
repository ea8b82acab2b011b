"""The configuration is checked before anything is built, in one sentence that names the key."""

import json
import subprocess
import sys

import jsonschema
import pytest
import yaml

from sdss_photoz import config
from sdss_photoz.errors import UserError

BAD = [
    ({"traning": {}}, ["traning", "'training'"]),
    ({"training": {"epohcs": 3}}, ["training.epohcs", "'epochs'"]),
    ({"training": {"epochs": "3"}}, ["training.epochs", "'3'", "integer"]),
    ({"training": {"epochs": 0}}, ["training.epochs", "0", "greater than or equal to 1"]),
    ({"training": {"learning_rate": float("nan")}}, ["training.learning_rate", "nan"]),
    ({"training": {"network": "resnet"}}, ["training.network", "'resnet'", "inception"]),
    ({"archive": {"service": "casjob"}}, ["archive.service", "'casjob'", "'embedded'"]),
    ({"run": "../elsewhere"}, ["run", "'../elsewhere'", "letters"]),
    ({"run": 7}, ["run", "7", "string"]),
    ({"sample": None}, ["sample", "None"]),
    ({"sample": {"chunks": 0}}, ["sample.chunks", "0"]),
    ({"sample": {"chunks": 2.5}}, ["sample.chunks", "2.5", "integer"]),
    ({"evaluation": {"bootstrap_nside": 100}}, ["evaluation.bootstrap_nside", "100", "power of two"]),
    ({"trials": {}}, ["trials", "at least 1"]),
    ({"trials": {"a b": {}}}, ["trials", "'a b'", "letters"]),
    ({"trials": {"a": {"members": 0}}}, ["trials.a.members", "0"]),
    ({"trials": {"a": {"folds": {"cnt": 2}}}}, ["trials.a.folds.cnt", "'count'"]),
    ({"trials": {"a": {"tested_folds": 4}}}, ["trials.a", "tested_folds", "4", "3 folds"]),
    ({"trials": {"a": {"training": {"epohcs": 2}}}}, ["trials.a.training.epohcs", "'epochs'"]),
    ({"trials": {"a": {"folds": {"train_in": "not s82"}}}}, ["trials.a.folds.train_in", "'not s82'", "regions"]),
    ({"regions": {"s82": {"ra": [0]}}}, ["regions.s82.ra"]),
    ([], ["list", "mapping"]),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[str(values) for values, _ in BAD])
def test_a_wrong_key_or_value_is_one_sentence_that_names_it(values, words):
    with pytest.raises(UserError) as caught:
        config.check(values)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_snakemake_refuses_a_wrong_key_before_the_dag_without_a_traceback(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--config", "training={epohcs: 3}"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "training.epohcs is not a key of the configuration: did you mean 'epochs'?" in run.stderr
    assert "Traceback" not in run.stderr


def test_shipped_yaml_files_are_valid_and_name_the_schema_in_their_first_line(root):
    schema = json.loads((root / "config.schema.json").read_text())
    files = [root / "config.yaml", root / "tests" / "tiny.yaml", *sorted((root / "config").glob("*.yaml"))]
    for path in files:
        first = path.read_text().splitlines()[0]
        prefix, _, place = first.partition("$schema=")
        assert prefix == "# yaml-language-server: ", path
        assert (path.parent / place).resolve() == root / "config.schema.json", path
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
        config.load(path)


def test_schema_and_documentation_are_those_of_the_models(root):
    assert json.loads((root / "config.schema.json").read_text()) == config.json_schema(), "run `make docs`"
    assert (root / "docs" / "config.md").read_text() == config.documentation(), "run `make docs`"


def test_every_key_is_what_or_how_and_says_what_it_means():
    for key, kind, _, meaning in config._rows(config.Config):
        assert kind in ("what", "how"), key
        assert len(meaning) > 10, key


def test_a_how_key_and_a_key_at_its_default_are_absent_from_the_parameters():
    training = config.Training(device="cpu", checkpoint_minutes=1.0, epochs=config.Training().epochs, batch=16)
    assert training.params() == {"batch": 16}


def test_a_trial_overrides_the_training_block_and_nothing_else():
    settings = config.check({"training": {"epochs": 3}, "trials": {"a": {"training": {"batch": 16}}}})
    assert settings.trial_training("a") == config.Training(epochs=3, batch=16)
