"""Runs on a real cluster of three nodes."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from tests.conftest import skip
from tests.workflow import cluster
from tests.workflow.conftest import ROOT

PATIENCE = ["--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "2", "--slurm-status-command", "squeue"]
PATIENCE += ["--seconds-between-status-checks", "2"]


@contextmanager
def slurm(need_program):
    """The cluster's folder, while it is up."""
    need_program(*cluster.PROGRAMS)
    if os.geteuid() != 0:
        skip("a Slurm cluster on this machine needs root")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    with FileLock(Path(tempfile.gettempdir()) / "sdss-photoz-tests-slurm.lock"), cluster.slurm(folder):
        yield folder
    shutil.rmtree(folder)


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
        done = subprocess.run(["timeout", "-s", "INT", "600", *command], cwd=checkout, capture_output=True, text=True)
        jobs = (folder / "slurmctld.log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (checkout / "results" / "tiny" / "report" / "index.html").stat().st_size > 100_000
    places = re.findall(r"in (\w+) on (\w+)", jobs)
    places += [(partition, node) for node, partition in re.findall(r"NodeList=(\w+) .*Partition=(\w+)", jobs)]
    assert len(places) == 12, (
        jobs
    )  # the archive, frames and cubes of two chunks, wide images, four on a GPU, scores, report
    assert [node for partition, node in places if partition == "gpu"] == ["g1"] * 4  # two trained, two predicted
    assert {node for partition, node in places if partition == "cpu"} <= {"c1", "c2"}


@pytest.mark.slow
def test_a_training_that_slurm_pre_empts_saves_is_queued_again_and_ends_with_the_same_bytes(
    tiny, need_program, tmp_path
):
    member = Path("training/images/fold-0/member-0.safetensors")
    longer = ["training={epochs: 200}"]
    undisturbed, disturbed = (tiny.copy(tmp_path / name) for name in ("undisturbed", "disturbed"))
    undisturbed.run("--cores", "2", f"results/tiny/{member}", config=longer, check=True)
    log, saved = disturbed.results / "logs/train_member/images-0-0.log", tmp_path / "saved"
    log.unlink()
    with slurm(need_program) as folder:
        command = disturbed.command("--profile", ROOT / "slurm", *PATIENCE, f"results/tiny/{member}", config=longer)
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            wait_for(lambda: log.exists() and "epoch=" in log.read_text(), run)
            checkpoint = (disturbed.results / member).with_name(".member-0.checkpoint")
            urgent = ["sbatch", "--partition", "urgent", "--exclusive", "--output", saved]
            subprocess.run([*urgent, "--wrap", f"ls {checkpoint}"], check=True, capture_output=True)
            wait_for(lambda: saved.exists() and saved.read_text(), run)
            (job,) = subprocess.check_output(["squeue", "-h", "-p", "gpu", "-o", "%i"], text=True).split()
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)  # not two minutes later
            words, _ = run.communicate(timeout=300)
        finally:
            run.kill()
        assert run.returncode == 0, words
        assert "preempt" in (folder / "slurmctld.log").read_text()
    assert "step" in saved.read_text()  # what lay there when the urgent job ran
    assert (disturbed.results / member).read_bytes() == (undisturbed.results / member).read_bytes()


def wait_for(condition, process, seconds=120):
    """Wait until a condition holds, while a process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.2)
