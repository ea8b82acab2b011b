"""A refused job leaves what it was to replace, and stays to be done."""

import os
import signal
import subprocess
import time

import pytest

from sdss_photoz import files

LONG = ("training", "evaluation")


def contents(workflow, *stages):
    """Every file of these stages, hidden ones too, by its path."""
    found = [path for stage in stages for path in (workflow.results / stage).rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in found if path.parent.name != ".scratch"}


def planned(workflow, config=()):
    """How many jobs of each rule the next run would do."""
    done = workflow.run("-n", "--quiet", "rules", check=True, config=config)
    counts = (line.split() for line in done.stdout.splitlines() + done.stderr.splitlines())
    found = {words[0]: int(words[1]) for words in counts if len(words) == 2 and words[1].isdigit()}
    return {rule: count for rule, count in found.items() if rule not in ("total", "all")}


def test_a_refused_evaluation_leaves_the_three_files_and_stays_to_be_done(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "work")
    pdfs = workflow.results / "training" / "images" / "fold-0" / "pdfs.parquet"
    good = pdfs.read_bytes()
    pdfs.write_bytes(good[:20_000])
    before = contents(workflow, "evaluation")
    assert {path.name for path in before} == {"photoz.parquet", "photoz.hdf5", "metrics.json"}
    done = workflow.run("--cores", "1")
    assert done.returncode == 1
    assert f"evaluate_trial: {pdfs.relative_to(workflow.directory)} cannot be read (" in done.stderr
    assert "Traceback" not in done.stderr
    assert "put back results/tiny/evaluation/images/metrics.json" in done.stderr
    assert contents(workflow, "evaluation") == before
    assert planned(workflow) == {"evaluate_trial": 1, "report": 1}
    pdfs.unlink()  # as the sentence says
    workflow.run("--cores", "1", check=True)
    assert pdfs.read_bytes() == good
    assert contents(workflow, "evaluation") == before
    assert planned(workflow) == {}


def test_a_refused_training_leaves_the_networks_and_stays_to_be_done(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "work")
    before = contents(workflow, *LONG)
    config = ["training={batch: 8000}"]  # more than there are galaxies
    done = workflow.run("--cores", "1", "--keep-going", config=config)
    assert done.returncode == 1
    assert "fewer than training.batch, 8000" in done.stderr
    assert contents(workflow, *LONG) == before
    assert planned(workflow, config) == {"train_member": 2, "predict_fold": 2, "evaluate_trial": 1, "report": 1}


def test_a_job_of_any_stage_that_was_refused_stays_to_be_done(tiny, tmp_path):
    """Snakemake takes note of a failed job as if it were done, and the report, which stands, misses nothing."""
    workflow = tiny.copy(tmp_path / "work")
    (workflow.results / "archive" / "frames" / "chunk-0.parquet").write_bytes(b"damaged")
    assert workflow.run("--cores", "1", "--keep-going").returncode == 1
    assert not (workflow.results / "cubes" / "quality-0.parquet").exists()
    assert planned(workflow).items() >= {"make_cubes": 1, "draw_context": 1, "report": 1}.items()


@pytest.mark.slow
def test_a_run_that_was_killed_after_a_refused_job_finds_that_job_to_be_done(tiny, tmp_path):
    workflow = tiny.copy(tmp_path / "work")
    config = ["training={batch: 8000}"]
    log = workflow.results / "logs" / "train_member" / "images-0-0.log"
    log.unlink()
    process = subprocess.Popen(
        workflow.command("--cores", "1", "--keep-going", config=config),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not (log.exists() and "fewer than" in log.read_text()):
        time.sleep(0.05)
    assert process.poll() is None  # the other fold's training is still to be refused
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    workflow.run("--unlock", check=True)
    assert planned(workflow, config)["train_member"] == 2


@pytest.mark.parametrize("links", [True, False], ids=["links", "no-links"])
def test_a_file_is_kept_whoever_removes_or_replaces_it(tmp_path, monkeypatch, links):
    def none(*_):
        raise OSError

    if not links:
        monkeypatch.setattr(os, "link", none)
    path = tmp_path / "table.csv"
    files.back_up(path)
    assert not files.restore(path)
    path.write_text("good")
    files.back_up(path)
    path.unlink()
    files.back_up(path)  # of a run that was killed
    assert files.restore(path)
    assert path.read_text() == "good"
    files.back_up(path)
    files.write_text(path, "better")
    assert not files.restore(path)
    assert path.read_text() == "better"
    assert list(tmp_path.iterdir()) == [path]
