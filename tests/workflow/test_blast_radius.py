"""A change of one key reruns exactly the stages that use it and those after; *how* keys rerun nothing."""

import multiprocessing
import os
import re
import sys
import tempfile
from importlib import import_module

import pytest
import snakemake.cli
from tests.conftest import ROOT

from sdss_photoz import config
from sdss_photoz.config import document

REPORT = {"report"}
EVALUATION = {"evaluate_trial"} | REPORT
PREDICTION = {"predict_fold"} | EVALUATION
TRAINING = {"train_member"} | PREDICTION
FOLDS = {"assign_folds"} | TRAINING
FRAMES = {"plan_frames", "download_frames", "draw_context"}  # what published cubes do without
CUBES = {"create_store", "make_cubes"} | FRAMES
SAMPLE = {"select_galaxies"} | CUBES | FOLDS
PUBLISHED = {"read_published", "compare_labels"} | SAMPLE - FRAMES
ARCHIVE = {"query_galaxies", "query_fields"} | SAMPLE
SKY = {"build_embedded_archive"} | ARCHIVE
FIELDS = {"query_fields", "make_cubes"} | FRAMES | TRAINING
NOTHING = set()

# key: (another value than that of the tiny run, the rules that must run again)
RADIUS = {
    "archive.service": ("skyserver", ARCHIVE),
    "archive.release": (13, SKY),
    "archive.window_flist": ("/nowhere/window_flist.fits", FIELDS),
    "archive.query": (str(ROOT / "tests" / "fixtures" / "own_galaxies.sql"), {"query_galaxies"} | SAMPLE),
    "archive.casjobs": ("https://casjobs.nowhere", NOTHING),
    "archive.login": ("https://login.nowhere", NOTHING),
    "archive.skyserver": ("https://skyserver.nowhere", NOTHING),
    "archive.sas": ("file:///nowhere", NOTHING),
    "archive.mirror": ("/nowhere", NOTHING),
    "archive.missing_fraction": (0.5, NOTHING),
    "archive.connections": (2, NOTHING),
    "archive.on_head_node": (True, NOTHING),
    "archive.queries_per_minute": (3.0, NOTHING),
    "archive.poll_seconds": (3.0, NOTHING),
    "archive.query_hours": (3.0, NOTHING),
    "archive.timeout_seconds": (3.0, NOTHING),
    "archive.patience_minutes": (3.0, NOTHING),
    "archive.consent_bytes": (3, NOTHING),
    "archive.help_desk_told": (True, NOTHING),
    "frames.keep": (False, NOTHING),
    "frames.scratch_gb": (3.0, NOTHING),
    "embedded.seed": (1, SKY),
    "embedded.fields": (3, SKY),
    "embedded.galaxies_per_field": (71, SKY),
    "embedded.visits": (3, SKY),
    "sample.r_max": (17.5, SAMPLE),
    "sample.z_min": (0.1, SAMPLE),
    "sample.z_max": (0.3, SAMPLE),
    "sample.where": ("ebv < 0.1", SAMPLE),
    "sample.match_radius": (3.0, SAMPLE),
    "sample.chunks": (3, SAMPLE),
    "cubes.published": ("/nowhere/sdss.npz", REPORT),  # while cubes.source is frames the page alone has it
    "cubes.size": (72, CUBES | TRAINING),
    "cubes.pixel_scale": (0.3, CUBES | TRAINING),
    "cubes.bands": ("griz", CUBES | TRAINING),
    "cubes.stack": ("mean", {"make_cubes"} | TRAINING),
    "cubes.overlap_rows": ("trim", {"make_cubes"} | TRAINING),
    "cubes.memory_gb": (2.0, NOTHING),
    "cubes.precision": ("bits10", {"create_store", "make_cubes"} | TRAINING),
    "inputs.bands": ("griz", TRAINING),
    "inputs.size": (60, TRAINING),
    "inputs.rebin": (2, TRAINING),
    "inputs.stretch": ("sqrt", TRAINING),
    "inputs.numbers": (["ebv", "psf_fwhm_r"], TRAINING),
    "inputs.missing": ("mean", TRAINING),
    "inputs.augmentation.symmetries": (False, TRAINING),
    "inputs.augmentation.rotation": (True, TRAINING),
    "inputs.augmentation.shift": (2.0, TRAINING),
    "inputs.augmentation.zoom": (1.2, TRAINING),
    "inputs.augmentation.noise": (0.5, TRAINING),
    "target.column": ("model_mag_r", TRAINING),
    "target.low": (-0.1, TRAINING),
    "target.high": (0.5, TRAINING),
    "target.bins": (90, TRAINING),
    "target.kind": ("value", TRAINING),
    "target.method": ("mixture", TRAINING),
    "training.network": ("inception", TRAINING),
    "training.bins": (90, TRAINING),
    "training.pooling": ("max", TRAINING),
    "training.activation": ("prelu", TRAINING),
    "training.batch_norm": (True, TRAINING),
    "training.dropout": (0.2, TRAINING),
    "training.epochs": (3, TRAINING),
    "training.batch": (16, TRAINING),
    "training.sampling": ("balanced", TRAINING),
    "training.learning_rate": (0.5, TRAINING),
    "training.schedule": ("step", TRAINING),
    "training.warmup": (0.3, TRAINING),
    "training.weight_decay": (0.1, TRAINING),
    "training.groups": ({"conv0": {"rate": 0.5}}, TRAINING),
    "training.groups.images.rate": (0.5, TRAINING),
    "training.groups.images.weight_decay": (0.1, TRAINING),
    "training.groups.images.frozen": (True, TRAINING),
    "training.averaging": ("last", TRAINING),
    "training.averaging_share": (0.2, TRAINING),
    "training.label_width": (0.01, TRAINING),
    "training.crps_weight": (30.0, TRAINING),
    "training.initialisation": ("paper", TRAINING),
    "training.stretch": ("sqrt", TRAINING),
    "training.augment": (False, TRAINING),
    "training.seed": (5, TRAINING),
    "training.symmetry_averaging": (True, PREDICTION),
    "training.regressed_point": (True, TRAINING),
    "training.cpu_threads": (2, TRAINING),
    "training.outside_bins": ("clip", TRAINING),
    "training.precision": ("bfloat16", TRAINING),
    "training.device": ("cpu", NOTHING),
    "training.residence": ("pinned", NOTHING),
    "training.scratch": ("/nowhere", NOTHING),
    "training.deterministic": (True, NOTHING),
    "training.checkpoint_minutes": (1.0, NOTHING),
    "trials.images.members": (2, TRAINING),
    "trials.images.training": ({"epochs": 3}, TRAINING),
    "trials.images.inputs": ({"bands": "ugri"}, TRAINING),
    "trials.images.target": ({"bins": 90}, TRAINING),
    "trials.images.where": ("ebv < 0.1", FOLDS),
    "trials.images.tested_folds": (1, EVALUATION),
    "trials.images.control": ("shuffled_labels", TRAINING),
    "trials.images.folds.count": (3, FOLDS),
    "trials.images.folds.by": ("galaxy", FOLDS),
    "trials.images.folds.group_radius": (20.0, FOLDS),
    "trials.images.folds.validation_fraction": (0.2, FOLDS),
    "trials.images.folds.train_fraction": (0.3, FOLDS),
    "trials.images.folds.repeats": (2, FOLDS),
    "trials.images.folds.seed": (3, FOLDS),
    "evaluation.bootstrap": (60, EVALUATION),
    "evaluation.bootstrap_nside": (32, EVALUATION),
    "evaluation.neighbours": (30, EVALUATION),
    "evaluation.outlier": (0.06, EVALUATION),
    "evaluation.controls": (True, EVALUATION),
    "evaluation.seed": (8, EVALUATION),
    "report.title": ("Another title", REPORT),
    "report.examples": (2, REPORT),
}
RAISED = {
    "archive": ARCHIVE - {"build_embedded_archive"},
    "embedded": SKY,
    "sample": SAMPLE,
    "cubes": {"create_store", "make_cubes"} | TRAINING,
    "training": TRAINING,
    "evaluation": EVALUATION,
    "report": REPORT | {"draw_context"},
}
ELSEWHERE = {"run", "regions", "cubes.source"}  # another folder; only through the keys below; needs a file
ELSEWHERE |= {"training.options"}  # of a network of one's own: test_own_network.py
ELSEWHERE |= {"inputs.channels"}  # of another network than that of the tiny run: below
METHOD_KEYS = {  # beside the method that each concerns
    "target.components": "{method: mixture, components: 3}",
    "target.loss": "{method: regression, loss: mae}",
    "target.distribution": "{method: regression, distribution: members}",
    "target.draws": "{method: regression, distribution: dropout, draws: 20}",
}
REGION_KEYS = {"archive.region": ARCHIVE, "trials.images.folds.train_in": FOLDS, "trials.images.folds.test_in": FOLDS}


def keys():
    """Every key of the models, with the tiny run's trial in place of NAME."""
    for key, *_ in document.rows(config.Config):
        if not key.startswith("regions.") and key != "trials":
            yield key.replace("NAME", "images")


IMPORTED = multiprocessing.get_context("forkserver")  # most of a dry run's time is for imports
IMPORTED.set_forkserver_preload(["snakemake.cli", "sdss_photoz.config"])


def rules_to_run(workflow, *settings, targets=(), raised=None):
    """The rules that a dry run would execute, the VERSION of a stage raised where one is named."""
    _, _, _, *words = workflow.command("-n", *targets, "--quiet", "rules", config=settings)
    with tempfile.NamedTemporaryFile() as file:
        process = IMPORTED.Process(target=snakemake_into, args=(file.name, words, raised))
        process.start()
        process.join()
        said = file.read().decode()
    assert process.exitcode == 0, said
    return set(re.findall(r"^(\w+)\s+\d+$", said, flags=re.MULTILINE)) - {"all", "total"}


def snakemake_into(path, words, raised):
    """Run Snakemake; what it prints goes into a file."""
    if raised:
        import_module(f"sdss_photoz.{raised}").VERSION += 1
    with open(path, "wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    snakemake.cli.main(words)


def setting(key, value):
    """One key as `--config` takes it."""
    block, *rest = key.split(".")
    for part in reversed(rest):
        value = {part: value}
    return f"{block}={value}"


def test_every_key_has_a_row():
    assert set(keys()) == set(RADIUS) | ELSEWHERE | set(REGION_KEYS) | set(METHOD_KEYS)


@pytest.mark.parametrize("key", [key for key, (_, rules) in RADIUS.items() if rules])
def test_a_changed_key_reruns_the_stages_that_use_it_and_those_after(tiny, key):
    value, expected = RADIUS[key]
    assert rules_to_run(tiny, setting(key, value)) == expected


def test_all_keys_that_change_no_result_changed_at_once_rerun_nothing(tiny):
    blocks = {}
    for key in (key for key, (_, rules) in RADIUS.items() if not rules):
        block, name = key.rsplit(".", 1)
        blocks.setdefault(block, []).append(f"{name}: {RADIUS[key][0]}")
    assert sum(map(len, blocks.values())) == sum(kind == "how" for _, kind, *_ in document.rows(config.Config))
    settings = [f"{block}={{{', '.join(keys)}}}" for block, keys in blocks.items()]
    assert rules_to_run(tiny, *settings) == NOTHING


@pytest.mark.parametrize("key", METHOD_KEYS)
def test_a_key_of_a_method_to_predict_reruns_training_and_the_stages_after(tiny, key):
    more = ["training={dropout: 0.1}"] * (key == "target.draws")
    assert rules_to_run(tiny, f"target={METHOD_KEYS[key]}", *more) == TRAINING


@pytest.mark.parametrize("key", sorted(REGION_KEYS))
def test_a_region_that_is_named_reruns_the_stages_that_use_it(tiny, key):
    assert rules_to_run(tiny, "regions={s82: {dec: [-2, 2]}}", setting(key, "s82")) == REGION_KEYS[key]


def test_a_region_that_no_trial_names_reruns_the_report_that_prints_it(tiny):
    assert rules_to_run(tiny, "regions={s82: {dec: [-2, 2]}}") == REPORT


@pytest.mark.parametrize("stage", RAISED)
def test_a_raised_version_reruns_its_stage_and_those_after(tiny, stage):
    assert rules_to_run(tiny, raised=stage) == RAISED[stage]


def test_channels_are_among_the_parameters_of_their_trial_alone():
    trials = {"bands": {}, "colours": {"inputs": {"channels": ["g-r", "r"]}}}
    found = config.check({"training": {"network": "inception"}, "trials": trials})
    tasks = [found.trial_task(trial) for trial in trials]
    assert tasks == [{}, {"inputs": {"channels": ["g-r", "r"]}}]  # which the params of training and evaluation hold


def test_a_key_given_its_default_reruns_nothing(tiny):
    assert rules_to_run(tiny, f"training={{batch: {config.Training().batch}}}") == NOTHING
