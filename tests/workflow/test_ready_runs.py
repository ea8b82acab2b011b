"""The ready configurations: what a user of the real survey would run."""

import re
import shlex
import shutil
import subprocess
import time
from collections import Counter

import pandas as pd
import pytest
import yaml
from tests.conftest import ROOT
from tests.fixtures.workflow import Workflow

from sdss_photoz import config
from sdss_photoz.app.costs import Resources
from sdss_photoz.app.plan import plan
from sdss_photoz.config import document
from sdss_photoz.sample.chunks import shard_shape

READY = sorted((ROOT / "config").glob("*.yaml"))
TILE, DR12 = (ROOT / "config" / f"sdss-{name}.yaml" for name in ("tile", "dr12"))


def dry_run(path, directory):
    """Jobs by rule of a dry run in an empty directory."""
    start = time.monotonic()
    done = Workflow(directory, path).run("-n", "--quiet", "rules", check=True)
    print(f"the dry run of {path.name} took {time.monotonic() - start:.1f} s")
    table = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return {rule: int(count) for rule, count in table}


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_run_stands_alone_and_names_its_schema_and_its_command(path):
    settings, text = config.load(path), path.read_text()
    assert text.startswith("# yaml-language-server: $schema=../config.schema.json\n")
    lines = [line.lstrip("# ") for line in text.splitlines() if re.match(r"# +(snakemake|sdss-photoz) ", line)]
    commands = [shlex.split(line) for line in lines]
    assert {words[0] for words in commands} == {"snakemake", "sdss-photoz"}
    for words in commands:
        assert words[words.index("--configfile") + 1] == str(path.relative_to(ROOT))
    assert settings.run == path.stem.replace("-", "_")
    assert settings.sas == config.SAS or settings.archive.service == "embedded"


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_dry_run_shows_every_job_of_a_ready_run(path, tmp_path):
    settings, jobs = config.load(path), dry_run(path, tmp_path)
    folds = Counter({name: len(trial.fold_numbers) for name, trial in settings.trials.items()})
    assert jobs["predict_fold"] == folds.total()
    assert jobs["train_member"] == sum(folds[name] * trial.members for name, trial in settings.trials.items())
    assert jobs["download_frames"] == jobs["make_cubes"] == settings.sample.chunks
    assert jobs["plan_frames"] == jobs["query_galaxies"] == jobs["query_fields"] == 1
    assert "measure_network" not in jobs
    assert ("build_embedded_archive" in jobs) == (settings.archive.service == "embedded")


def test_the_papers_run_trains_its_network_for_120_000_steps_on_each_part_of_the_sample():
    settings = config.load(DR12)
    sizes = {}
    for name in ("p80", "p50", "p20"):
        folds, training = settings.trials[name].folds, settings.trial_training(name)
        share = folds.train_fraction or 1 - 1 / folds.count
        sizes[name] = share * 516_525
        steps = sizes[name] * (1 - folds.validation_fraction) * training.epochs / training.batch
        assert steps == pytest.approx(120_000, rel=0.02), name
        assert training.network == "inception"
        assert settings.trials[name].members == 6
    assert sizes == pytest.approx({"p80": 400_000, "p50": 250_000, "p20": 100_000}, rel=0.04)
    assert settings.trials["p2"].folds.train_fraction * 516_525 == pytest.approx(10_000, rel=0.04)


def test_no_chunk_of_the_papers_run_is_empty_whatever_the_cuts_leave():
    chunks = config.load(DR12).sample.chunks
    for galaxies in range(450_000, 550_000, 97):  # the archive gives 516,525 or so, which is known after the query
        shard_shape(galaxies, chunks)


def test_the_tile_is_some_300_galaxies_and_one_to_two_gigabytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = config.load(TILE)
    total = plan(settings, Resources(cores=2, gpus=0, connections=4, mb_per_second=0.25, tflops=1.0))["total"]
    assert 250 <= total["galaxies"] <= 350
    assert 1e9 <= total["bytes_to_fetch"] <= 2e9
    assert total["wall_hours"] < 1
    assert total["bytes_to_fetch"] < settings.archive.consent_bytes
    south = settings.region.dec[0]
    assert settings.archive.service == "skyserver"  # no account
    assert south > 2  # Stripe 82, with its many visits, lies on the equator


@pytest.mark.slow
def test_the_tiles_settings_end_in_a_report_with_simulated_galaxies_and_negative_controls(tmp_path):
    values = yaml.safe_load(TILE.read_text())
    values["archive"] = {}
    values["training"]["epochs"] = 2  # what is learned is not looked at
    values["embedded"] = {"fields": 2, "galaxies_per_field": 70, "visits": 2}
    values["trials"]["images"]["members"], values["trials"]["images"]["folds"]["count"] = 1, 2
    values["trials"]["masked"] = {"members": 1, "folds": {"count": 2}, "control": "target_removed"}
    for trial in values["trials"].values():
        trial["tested_folds"] = 1
    values["evaluation"]["controls"] = True
    path = tmp_path / "tile.yaml"
    path.write_text(yaml.safe_dump(values))
    workflow = Workflow(tmp_path / "work", path)
    workflow.run("--cores", "2", check=True)
    report = tmp_path / "work" / "results" / "sdss_tile" / "report"
    assert (report / "index.html").stat().st_size > 100_000
    controls = pd.read_csv(report / "tables" / "controls.csv")
    assert controls["control"].tolist() == ["forest", "target_removed", "network"]
    controls = controls[controls["control"] != "network"]
    assert (controls["difference"].abs() < 5 * controls["prior_error"]).all()


def test_the_large_sky_has_100_000_galaxies_at_least_100_in_a_field_and_the_default_runs_population():
    settings = config.load(ROOT / "config" / "embedded-large.yaml")
    kept = 5065 / 5250  # of the default sky's galaxies, by its sample/counts.csv
    assert settings.embedded.fields * settings.embedded.galaxies_per_field * kept > 100_000
    assert settings.embedded.galaxies_per_field >= 100
    assert settings.embedded == config.Embedded(fields=settings.embedded.fields)
    shard_shape(101_000, settings.sample.chunks)


def test_two_cores_without_a_gpu_get_the_same_large_sky():
    large, small = (config.load(ROOT / "config" / f"embedded-large{kind}.yaml") for kind in ("", "-cpu"))
    for block in ("embedded", "sample", "archive", "cubes", "evaluation"):
        assert getattr(small, block) == getattr(large, block)
    assert small.trials["images"].folds == large.trials["images"].folds
    assert small.trials["images"].fold_numbers == [0]


def test_editors_accept_the_ready_runs():
    jsonschema = pytest.importorskip("jsonschema")
    for path in READY:
        jsonschema.validate(yaml.safe_load(path.read_text()), document.json_schema())


def test_the_installed_command_of_a_header_answers(tmp_path):
    program = shutil.which("sdss-photoz")
    words = [program] if program else ["python", "-m", "sdss_photoz.app.cli"]
    done = subprocess.run([*words, "plan", "--configfile", str(DR12)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "help@sdss.org" in done.stdout
    assert "1,000,000" in done.stdout
