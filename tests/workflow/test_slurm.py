"""The tiny run on a real cluster of three nodes."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.conftest import skip
from tests.workflow import cluster


@pytest.mark.slow
def test_the_slurm_profile_takes_the_tiny_run_through_a_cluster(root, need_program, tmp_path):
    need_program(*cluster.PROGRAMS)
    if os.geteuid() != 0:
        skip("a Slurm cluster on this machine needs root")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("Snakefile", "workflow", "profiles", "src", "slurm", "envs", "tests/tiny.yaml"):
        source, target = root / name, checkout / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    with cluster.slurm(folder):
        command = ["snakemake", "--profile", "slurm", "--configfile", "tests/tiny.yaml", "--latency-wait", "5"]
        command += ["--slurm-init-seconds-before-status-checks", "2", "--slurm-status-command", "squeue"]
        command += ["--seconds-between-status-checks", "2"]
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
    shutil.rmtree(folder)
