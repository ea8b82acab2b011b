"""Runs on a real cluster of three nodes."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pytest
from filelock import FileLock
from tests.conftest import ROOT, skip
from tests.workflow import cluster

PATIENCE = ["--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "2", "--slurm-status-command", "squeue"]
PATIENCE += ["--seconds-between-status-checks", "2"]
ONE_AT_A_TIME = FileLock(Path(tempfile.gettempdir()) / "sdss-photoz-tests-slurm.lock")  # may be taken twice by one test


@contextmanager
def slurm(need_program):
    """The cluster's folder, while it is up."""
    need_program(*cluster.PROGRAMS)
    if os.geteuid() != 0:
        skip("a Slurm cluster on this machine needs root")
    with ONE_AT_A_TIME:
        if others := cluster.strangers():
            skip(f"another Slurm runs on this machine and is left alone: {', '.join(others)}")
        folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        with cluster.slurm(folder):
            yield folder
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_cluster_comes_up_as_soon_as_another_went_down_and_leaves_a_munged_of_somebody_else_alone(
    need_program, tmp_path
):
    need_program(*cluster.PROGRAMS)
    with ONE_AT_A_TIME, tempfile.TemporaryDirectory() as place, cluster.munge(Path(place)):
        theirs = munges()
        assert len(theirs) == 1
        for _ in range(3):
            with slurm(need_program):
                assert len(munges()) == 2
                assert cluster.strangers()  # what another user's tests would see
            assert munges() == theirs
            assert not cluster.strangers()


def munges():
    return {process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "munged"}


@pytest.mark.slow
def test_the_slurm_profile_takes_the_tiny_run_through_a_cluster(root, need_program, tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("Snakefile", "workflow", "profiles", "src", "slurm", "envs", "tests/tiny.yaml"):
        source, target = root / name, checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    with slurm(need_program) as folder:
        command = ["snakemake", "--profile", "slurm", "--configfile", "tests/tiny.yaml", *PATIENCE]
        run = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for(lambda: list(checkout.glob("results/tiny/plans/*.yaml")), run)
        planned = (checkout / "tests" / "tiny.yaml").read_text()
        (checkout / "tests" / "tiny.yaml").write_text(planned.replace("epochs: 2", "epochs: 1"))  # while jobs wait
        said, _ = run.communicate()
        jobs = (folder / "slurmctld.log").read_text()
    assert run.returncode == 0, said
    histories = list(checkout.glob("results/tiny/training/images/fold-*/member-0.history.csv"))
    assert [len(pd.read_csv(path)) for path in histories] == [2, 2]
    assert (checkout / "results" / "tiny" / "report" / "index.html").stat().st_size > 100_000
    places = re.findall(r"in (\w+) on (\w+)", jobs)
    places += [(partition, node) for node, partition in re.findall(r"NodeList=(\w+) .*Partition=(\w+)", jobs)]
    assert len(places) == 12, (
        jobs
    )  # the archive, frames and cubes of two chunks, wide images, four on a GPU, scores, report
    assert [node for partition, node in places if partition == "gpu"] == ["g1"] * 4  # two trained, two predicted
    nodes = {node for partition, node in places if partition == "cpu"}
    assert nodes
    assert nodes <= {"c1", "c2"}


HELD = """
import time
from pathlib import Path

from sdss_photoz.training import fit

HELD, go = Path({held!r}), fit._Run.go


def held_after_its_first_epoch(run, stop):
    def held_until_sigterm():
        if run.state.history and not HELD.exists():
            HELD.touch()
            while not stop():
                time.sleep(0.02)
        return stop()

    go(run, held_until_sigterm)


fit._Run.go = held_after_its_first_epoch
"""


@pytest.mark.slow
def test_a_training_that_slurm_pre_empts_saves_is_queued_again_and_ends_with_the_same_bytes(
    tiny, need_program, tmp_path
):
    """Once, after its first epoch, the training waits until Slurm sends SIGTERM, however long that takes."""
    checkout, held, saved = (tmp_path / name for name in ("checkout", "held", "saved"))
    shutil.copytree(ROOT / "workflow", checkout / "workflow")
    shutil.copy(ROOT / "Snakefile", checkout)
    for name in ("src", "envs", "profiles"):
        (checkout / name).symlink_to(ROOT / name)
    script = checkout / "workflow/scripts/train_member.py"
    script.write_text(HELD.format(held=str(held)) + script.read_text())
    disturbed, member = tiny.copy(tmp_path / "disturbed"), Path("training/images/fold-0/member-0.safetensors")
    (disturbed.results / member).unlink()
    log, checkpoint = disturbed.results / "logs/train_member/images-0-0.log", ".member-0.checkpoint"
    command = disturbed.command("--profile", ROOT / "slurm", *PATIENCE, f"results/tiny/{member}")
    command[command.index("--snakefile") + 1] = str(checkout / "Snakefile")
    with slurm(need_program) as folder:
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            wait_for(held.exists, run)
            assert not list((disturbed.results / member).with_name(checkpoint).glob("step*"))
            urgent = ["sbatch", "--partition", "urgent", "--exclusive", "--output", saved]
            listing = f"ls {(disturbed.results / member).with_name(checkpoint)}; cat {log}"
            subprocess.run([*urgent, "--wrap", listing], check=True, capture_output=True)
            queued_again = ["squeue", "-h", "-p", "gpu", "-t", "PENDING", "-o", "%i"]
            wait_for(lambda: saved.exists() and subprocess.check_output(queued_again), run)
            (job,) = subprocess.check_output(queued_again, text=True).split()
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)  # not two minutes later
            words, _ = run.communicate(timeout=3600)
        finally:
            run.kill()
        assert run.returncode == 0, words
        assert "preempt" in (folder / "slurmctld.log").read_text()
    step = re.search(r"step-(\d+)\.safetensors", saved.read_text())  # what lay there when the urgent job ran
    assert step, saved.read_text()
    assert f"stopped by SIGTERM, a rerun goes on after step {int(step[1])}" in saved.read_text()
    assert (disturbed.results / member).read_bytes() == (tiny.results / member).read_bytes()


def wait_for(condition, process, seconds=300):
    """Wait until a condition holds, while a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
