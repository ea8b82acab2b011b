"""Training jobs that run side by side each hold a device of their own."""

import json
import shutil
import subprocess
import time

from tests.conftest import ROOT

from sdss_photoz import device

FAKE = """
import json, os, time
from contextlib import contextmanager
from pathlib import Path

import torch

from sdss_photoz import device
from sdss_photoz.training import jobs

NOTES, claim = Path({notes!r}), jobs.claim
device.visible_gpus = lambda: ["card-0", "card-1"]
device.POLL_SECONDS = 0.05


@contextmanager
def noted(*arguments):
    with claim(*arguments, NOTES) as held:
        (NOTES / f"{{os.getpid()}}.part").write_text(json.dumps(held.index))
        (NOTES / f"{{os.getpid()}}.part").rename(NOTES / f"{{os.getpid()}}.json")
        while not (NOTES / "go on").exists():
            time.sleep(0.02)
        yield torch.device("cpu")


jobs.claim = noted
jobs.load_examples = lambda *_, **__: None  # what follows the device is not looked at here
jobs.train_member = lambda *arguments: [Path(output).touch() for output in arguments[6:8]]
"""


def test_training_jobs_on_two_devices_never_share_one_and_a_third_waits(tiny, tmp_path, monkeypatch):
    """Two jobs of Snakemake, and one of another run on this machine: this process. The two devices are made up."""
    notes, checkout = tmp_path / "notes", tmp_path / "checkout"
    notes.mkdir()
    shutil.copytree(ROOT / "workflow", checkout / "workflow")
    shutil.copy(ROOT / "Snakefile", checkout)
    for name in ("src", "envs", "profiles"):
        (checkout / name).symlink_to(ROOT / name)
    script = checkout / "workflow" / "scripts" / "train_member.py"
    script.write_text(FAKE.format(notes=str(notes)) + script.read_text())
    workflow = tiny.copy(tmp_path / "work")
    command = workflow.command("--cores", "2", "--resources", "gpu=2", "--until", "train_member")
    command += ["--forcerun", "train_member", "--rerun-triggers", "mtime"]
    command[command.index("--snakefile") + 1] = str(checkout / "Snakefile")

    def held():
        return [json.loads(path.read_text()) for path in notes.glob("*.json")]

    def waiting():
        logs = (workflow.results / "logs" / "train_member").glob("*.log")
        return sum("all 2 GPUs are taken by other jobs: waiting for one" in log.read_text() for log in logs)

    def until(reached):
        give_up = time.monotonic() + 120
        while not reached():
            assert running.poll() is None, running.communicate()[0]
            assert time.monotonic() < give_up
            time.sleep(0.02)

    monkeypatch.setattr(device, "visible_gpus", lambda: ["card-0", "card-1"])
    with device.claim("auto", notes) as ours:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until(lambda: len(held()) == 1 and waiting() == 1)
        assert {*held(), ours.index} == {0, 1}
    until(lambda: len(held()) == 2)
    assert sorted(held()) == [0, 1]
    (notes / "go on").touch()
    said = running.communicate(timeout=120)[0]
    assert running.returncode == 0, said
