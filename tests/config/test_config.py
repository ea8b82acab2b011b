"""The configuration is checked before anything is built, in one sentence that names the key."""

import json
import subprocess
import sys

import jsonschema
import pytest
import yaml

from sdss_photoz import config
from sdss_photoz.config import document
from sdss_photoz.errors import UserError
from sdss_photoz.scores.grid import Grid
from sdss_photoz.surveys import CUBE, PixelGrid

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
    ({"sample": {"where": "zspec < 0.1"}}, ["sample.where", "names zspec", "did you mean z_spec"]),
    ({"trials": {"a": {"where": "z_spec = 0.1"}}}, ["trials.a.where is 'z_spec = 0.1'", "is no expression"]),
    ({"trials": {"a": {"where": "chunk == 0"}}}, ["trials.a.where", "names chunk"]),
    ({"sample": {"where": "mass >"}, "archive": {"query": "own.sql"}}, ["sample.where", "is no expression"]),
    ({"sample": {"where": True}}, ["sample.where", "True", "string"]),
    ({"sample": {"z_min": 0.4}}, ["sample.z_min is 0.4", "below sample.z_max"]),
    ({"sample": {"z_max": 11}}, ["sample.z_max", "11"]),
    ({"sample": {"z_max": 0.7}}, ["sample.z_max is 0.7", "bins of trial images end at 0.4", "training.outside_bins"]),
    (
        {"sample": {"z_max": 0.7}, "trials": {"a": {"training": {"outside_bins": "clip"}}, "b": {}}},
        ["bins of trial b end at 0.4"],
    ),
    ({"evaluation": {"bootstrap_nside": 100}}, ["evaluation.bootstrap_nside", "100", "power of two"]),
    ({"trials": {}}, ["trials", "at least 1"]),
    ({"trials": {"a b": {}}}, ["trials", "'a b'", "letters"]),
    ({"trials": {"a": {"members": 0}}}, ["trials.a.members", "0"]),
    ({"trials": {"a": {"folds": {"cnt": 2}}}}, ["trials.a.folds.cnt", "'count'"]),
    ({"trials": {"a": {"tested_folds": 4}}}, ["trials.a", "tested_folds", "4", "3 folds"]),
    ({"trials": {"a": {"training": {"epohcs": 2}}}}, ["trials.a.training.epohcs", "'epochs'"]),
    ({"trials": {"a": {"folds": {"train_in": "not s82"}}}}, ["trials.a.folds.train_in", "'not s82'", "regions"]),
    ({"cubes": {"size": 7}}, ["cubes.size", "7", "8"]),
    ({"cubes": {"size": 20}}, ["cubes.size is 20", "inception_small", "the trial images", "27 pixels"]),
    ({"cubes": {"pixel_scale": 0.6}}, ["cubes.pixel_scale", "0.6", "0.59"]),
    ({"cubes": {"bands": "gx"}}, ["cubes.bands is 'gx'", "ugriz", "'x' is none"]),
    ({"cubes": {"bands": "ggr"}}, ["cubes.bands is 'ggr'", "each at most once and in this order"]),
    ({"cubes": {"bands": ["r", "g"]}}, ["cubes.bands is ['r', 'g']", "in this order"]),
    ({"cubes": {"bands": ""}}, ["cubes.bands is ''", "bands of ugriz"]),
    ({"cubes": {"bands": 3}}, ["cubes.bands is 3", "bands of ugriz"]),
    (
        {"cubes": {"source": "published", "published": "sdss.npz", "bands": "griz"}},
        ["cubes.source is 'published'", "64 pixels of 0.396 arcsec in ugriz", "64 pixels of 0.396 arcsec in griz"],
    ),
    ({"training": {"optimizer": "adam"}}, ["training.optimizer was removed, ", "delete it"]),
    ({"trials": {"a": {"training": {"optimizer": "muon"}}}}, ["trials.a.training.optimizer was removed, ", "delete"]),
    ({"training": {"schedule": "free"}}, ["training.schedule is 'free', which was removed, ", "delete it"]),
    (
        {"trials": {"a": {"training": {"schedule": "free"}}}},
        ["trials.a.training.schedule", "removed"],
    ),
    ({"regions": {"s82": {"ra": [0]}}}, ["regions.s82.ra"]),
    (
        {"regions": {"a": {"ra": [45000, 46800]}}},
        ["regions.a.ra", "45000", "degrees, -360 to 360", "12:30:00", "187.5"],
    ),
    ({"regions": {"a": {"dec": [5400, 7200]}}}, ["regions.a.dec", "5400", "degrees, -90 to 90", "1:30:00", "is 1.5"]),
    ({"regions": {"a": {"dec": [100, 120]}}}, ["regions.a.dec", "100", "degrees, -90 to 90"]),
    ({"regions": {"a": {"dec": [10, -10]}}}, ["regions.a.dec", "the first below the last"]),
    ({"regions": {"a": {"dec": [10, 10]}}}, ["regions.a.dec", "the first below the last"]),
    ({"regions": {"a": {"dec": [float("nan"), 10]}}}, ["regions.a.dec", "degrees, -90 to 90"]),
    ({"regions": {"a": {"ra": [0, float("inf")]}}}, ["regions.a.ra", "degrees, -360 to 360"]),
    ({"regions": {"a": {"ra": [350, 370]}}}, ["regions.a.ra", "degrees, -360 to 360"]),
    ({"regions": {"a": {"ra": [-200, 200]}}}, ["regions.a.ra", "at most 360"]),
    ({"regions": {"a": {"ra": [10, 10]}}}, ["regions.a.ra", "wider than 0"]),
    ({"regions": {"a": {"ra": ["10", "20"]}}}, ["regions.a.ra", "'10'", "valid number"]),
    ({"regions": {"a": {"ra": [True, 20]}}}, ["regions.a.ra", "True", "valid number"]),
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
    assert json.loads((root / "config.schema.json").read_text()) == document.json_schema(), "run `make docs`"
    assert (root / "docs" / "config.md").read_text() == document.documentation(), "run `make docs`"


def test_every_key_is_what_or_how_and_says_what_it_means():
    for key, kind, _, meaning in document.rows(config.Config):
        assert kind in ("what", "how"), key
        assert len(meaning) > 10, key


def test_a_how_key_and_a_key_at_its_default_are_absent_from_the_parameters():
    training = config.Training(device="cpu", checkpoint_minutes=1.0, epochs=config.Training().epochs, batch=16)
    assert training.params() == {"batch": 16}


def test_a_trial_overrides_the_training_block_and_nothing_else():
    settings = config.check({"training": {"epochs": 3}, "trials": {"a": {"training": {"batch": 16}}}})
    assert settings.trial_training("a") == config.Training(epochs=3, batch=16)


LOST = {
    "a block": ("run: y3\ntraining: {epochs: 3}\ntraining: {batch: 64}\n", "training stands twice, in lines 2 and 3"),
    "a key": ("training:\n  epochs: 3\n  batch: 64\n  epochs: 5\n", "training.epochs stands twice, in lines 2 and 4"),
    "a key in a list": ("a:\n- {b: 1, b: 2}\n", "a.b stands twice, in lines 2 and 2"),
    "hours": (
        "regions: {tile: {ra: [12:30:00, 13:00:00]}}\n",
        "regions.tile.ra in line 1 is 12:30:00, which YAML reads as 45000: write degrees, for right ascension -360 to "
        "360 (12:30:00 is 187.5)",
    ),
    "hours and minutes, whose number is on the sky": (
        "regions:\n  tile:\n    ra: [1:30, 2:30]\n",
        "regions.tile.ra in line 3 is 1:30, which YAML reads as 90",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), LOST.values(), ids=LOST)
def test_what_yaml_would_lose_or_alter_in_silence_is_refused_by_line(tmp_path, text, sentence):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as refusal:
        config.load(tmp_path / "c.yaml")
    assert f"{tmp_path / 'c.yaml'}: {sentence}" in str(refusal.value)


def test_keys_of_other_blocks_aliases_and_times_in_quotes_are_nothing_of_the_kind(tmp_path):
    text = "report: {title: '12:30:00'}\ntrials:\n  a: &t {members: 1, training: {epochs: 1}}\n  b: *t\n"
    (tmp_path / "c.yaml").write_text(text)
    found = config.load(tmp_path / "c.yaml")
    assert (found.report.title, found.trials["b"].members) == ("12:30:00", 1)
    (tmp_path / "c.yaml").write_text("&all a: *all\n" if False else "a: &x [*x]\n")
    with pytest.raises(UserError, match="a is not a key"):
        config.load(tmp_path / "c.yaml")


def test_snakemake_refuses_a_repeated_block_in_each_of_its_files(tmp_path, root):
    (tmp_path / "first.yaml").write_text("run: y3\n")
    (tmp_path / "second.yaml").write_text(LOST["a block"][0])
    words = ["-n", "--configfile", tmp_path / "first.yaml", tmp_path / "second.yaml"]
    run = subprocess.run(
        [sys.executable, "-m", "snakemake", *map(str, words)], capture_output=True, text=True, cwd=root
    )
    assert run.returncode == 1
    assert f"{tmp_path / 'second.yaml'}: training stands twice, in lines 2 and 3" in run.stderr
    assert "Traceback" not in run.stderr


def test_bands_are_the_same_as_a_string_and_as_a_list():
    given = [config.check({"cubes": {"bands": bands}}).cubes for bands in ("griz", ["g", "r", "i", "z"])]
    assert given[0] == given[1]
    assert given[0].grid == PixelGrid(64, 0.396, ("g", "r", "i", "z"))
    assert given[0].params() == {"bands": "griz"}
    assert config.Cubes().grid == CUBE


def test_redshifts_beyond_the_bins_are_allowed_where_every_trial_clips_them():
    values = {"sample": {"z_max": 2.0}, "trials": {"a": {"training": {"outside_bins": "clip"}}}}
    assert config.check(values).sample.z_max == 2


def test_a_target_of_other_bins_or_range_is_that_of_the_trial_and_two_that_differ_are_refused():
    values = {"sample": {"z_max": 1.0}, "target": {"high": 1.0}, "trials": {"a": {}, "b": {"target": {"bins": 50}}}}
    found = config.check(values)
    assert Grid(*found.trial_target("a").model_dump(include={"low", "high", "bins"}).values()) == Grid(0, 1, 180)
    assert found.trial_target("b").bins == 50
    with pytest.raises(UserError, match=r"target\.bins is 50 and training\.bins 90 in trial b: give one"):
        config.check({**values, "training": {"bins": 90}})


def test_a_negative_control_that_predicts_no_redshift_is_refused():
    trials = {"a": {"control": "shuffled_labels", "target": {"column": "model_mag_r", "low": 10, "high": 22}}}
    with pytest.raises(UserError, match=r"trials\.a\.control is 'shuffled_labels', but the trial predicts model_mag_r"):
        config.check({"trials": trials})
    trials["a"]["target"]["kind"] = "redshift"
    config.check({"trials": trials})


@pytest.mark.parametrize(
    ("target", "training", "found"),
    [
        ({"components": 3}, {}, r"target\.components is 3, but it has no meaning where target\.method is classes"),
        ({"loss": "rmse"}, {}, r"target\.loss is 'rmse', but it has no meaning where target\.method is classes"),
        ({"method": "mixture", "loss": "mae"}, {}, r"target\.loss is 'mae', .* whose losses are nll and crps: give"),
        ({"method": "regression", "components": 3}, {}, r"target\.components is 3, .* target\.method is regression"),
        ({"method": "mixture", "distribution": "members"}, {}, r"target\.distribution is 'members', .* is mixture"),
        ({"method": "regression", "draws": 9}, {}, r"target\.draws is 9, .* target\.distribution is residuals"),
        ({"method": "regression", "distribution": "dropout"}, {}, r"dropout in trial images, but training\.dropout is"),
        ({"method": "mixture"}, {"label_width": 0.01}, r"training\.label_width is 0\.01 in .* classes alone, and"),
        ({"method": "regression"}, {"crps_weight": 1.0}, r"training\.crps_weight is 1\.0 in trial images, but it"),
        ({"method": "mixture"}, {"regressed_point": True}, r"training\.regressed_point is True in trial images, but"),
        ({"kind": "yes_no", "high": 1.0}, {}, r"target\.high is 1\.0, but it has no .* target\.kind is yes_no"),
        ({"kind": "yes_no", "bins": 4}, {}, r"target\.bins is 4, but it has no meaning where target\.kind is yes_no"),
        ({"kind": "yes_no", "method": "mixture"}, {}, r"target\.method is 'mixture', .* target\.kind is yes_no"),
        ({"column": "model_mag_rr"}, {}, r"target\.column is 'model_mag_rr' in trial .* \(is it model_mag_r\?\)"),
        ({"column": "subclass"}, {}, r"target\.column is 'subclass' in trial images, .* no such column of numbers"),
    ],
)
def test_targets_that_cannot_be_learned_are_refused_when_the_configuration_is_read(target, training, found):
    with pytest.raises(UserError, match=found):
        config.check({"target": target, "training": training})


def test_the_bins_of_yes_and_no_are_centred_on_0_and_1():
    found = config.check({"target": {"column": "n_neighbors", "kind": "yes_no"}}).trial_target("images")
    assert Grid(found.low, found.high, found.bins).centres().tolist() == [0, 1]


def test_a_column_of_an_own_query_is_known_when_it_is_answered(tmp_path):
    (tmp_path / "own.sql").write_text("SELECT objID FROM SpecPhotoAll")
    values = {"archive": {"query": str(tmp_path / "own.sql")}, "target": {"column": "log_mass"}}
    assert config.check(values).trial_target("images").kind == "value"


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ({"bands": "gx"}, r"inputs\.bands is 'gx', but must be bands of ugriz"),
        ({"bands": "ug"}, r"inputs\.bands is 'ug' in trial images, but the cubes have no u"),
        ({"size": 66}, r"inputs\.size is 66 in trial images, but the cubes have 64 pixels"),
        ({"size": 33}, r"inputs\.size is 33 .* smaller number that is even too"),
        ({"size": 60, "rebin": 7}, r"inputs\.rebin is 7 in trial images, but 60 pixels are no multiple"),
        ({"rebin": 4}, r"inputs\.size / rebin, is 16, but inception_small, .* needs 27 pixels"),
        ({"numbers": ["ebv", "ebv"]}, r"inputs\.numbers is .* each at most once"),
        ({"numbers": ["albedo"]}, r"inputs\.numbers is 'albedo', which names albedo, but that is no column"),
        ({"numbers": ["ebv +"]}, r"inputs\.numbers is 'ebv \+', which is no expression"),
        ({"numbers": ["z_spec"]}, r"inputs\.numbers names z_spec in trial images, but z_spec is what .* predict"),
        ({"channels": "rgb"}, r"inputs\.channels is 'rgb', but must be bands, lupton, pairs, or a list"),
        ({"channels": ["r-q"]}, r"inputs\.channels is .*r-q.* must be a list of bands of ugriz"),
        ({"channels": ["u-g"]}, r"inputs\.channels is \['u-g'\] in trial images, which takes u, but .* are griz"),
        ({"channels": "lupton", "bands": "gr"}, r"inputs\.channels is 'lupton' in trial images, which takes i"),
        ({"channels": "lupton", "stretch": "sqrt"}, r"'lupton' in trial images, which has a stretch of its own"),
        ({"channels": "pairs"}, r"inputs\.channels is 'pairs' .* inception_small .* needs the bands themselves"),
        ({"augmentation": {"zoom": 0.5}}, r"inputs\.augmentation\.zoom is 0\.5, but must be greater"),
        ({"augmentation": {"rotate": True}}, r"inputs\.augmentation\.rotate is not a key"),
    ],
)
def test_inputs_that_the_cubes_lack_are_refused_in_a_sentence(inputs, found):
    with pytest.raises(UserError, match=found):
        config.check({"cubes": {"bands": "griz"}, "inputs": inputs})
