"""Each job has a device of its own."""

import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from sdss_photoz import device, locks
from sdss_photoz.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:flock not supported")


@pytest.fixture(params=["flock", "no flock"])
def locking(request, monkeypatch):
    """File systems with flock, and those that lack it."""

    def missing(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    if request.param == "no flock":
        monkeypatch.setattr(fcntl, "flock", missing)


def test_two_jobs_never_share_a_gpu(tmp_path, monkeypatch, locking):
    monkeypatch.setattr(device, "visible_gpus", lambda: ["card-a", "card-b"])
    with device.claim("auto", tmp_path) as first, device.claim("auto", tmp_path) as second:
        assert {first.index, second.index} == {0, 1}


def test_a_job_waits_while_all_gpus_are_taken_and_says_so(tmp_path, monkeypatch, capsys, locking):
    monkeypatch.setattr(device, "visible_gpus", lambda: ["card-a"])
    held = device.claim("auto", tmp_path)
    held.__enter__()
    monkeypatch.setattr(device.time, "sleep", lambda seconds: held.__exit__(None, None, None))
    with device.claim("auto", tmp_path) as freed:
        assert freed.index == 0
    assert f"taken by other jobs: waiting for one ({tmp_path}/sdss-photoz-gpu-" in capsys.readouterr().err


def job_that_holds_a_gpu(folder):
    """Fork a job that has claimed a GPU and holds it until it is killed; its process id."""
    told, tell = os.pipe()
    if (job := os.fork()) == 0:
        with device.claim("auto", folder):
            os.write(tell, b"taken")
            signal.pause()
    assert os.read(told, 5) == b"taken"
    return job


def test_the_gpu_of_a_job_killed_with_9_is_free_at_once(tmp_path, monkeypatch, capsys, locking):
    monkeypatch.setattr(device, "visible_gpus", lambda: ["card-a"])
    job = job_that_holds_a_gpu(tmp_path)
    monkeypatch.setattr(device.time, "sleep", lambda _: (os.kill(job, signal.SIGKILL), os.waitpid(job, 0)))
    with device.claim("auto", tmp_path) as freed:
        assert freed.index == 0
    assert "taken by other jobs" in capsys.readouterr().err


def test_the_gpu_of_a_job_that_lives_and_gives_no_sign_is_never_taken(tmp_path, monkeypatch, locking):
    """Two trainings on one card would cost both; so its lock is no lease, though a stopped job holds it on."""
    monkeypatch.setattr(device, "visible_gpus", lambda: ["card-a"])
    monkeypatch.setattr(locks, "LEASE_SECONDS", 0.1)
    job = job_that_holds_a_gpu(tmp_path)
    os.kill(job, signal.SIGSTOP)
    looks, pause = [], time.sleep

    def look(_):
        looks.append(1)
        if len(looks) == 10:
            os.kill(job, signal.SIGKILL)
            os.waitpid(job, 0)
        pause(0.05)

    monkeypatch.setattr(device.time, "sleep", look)
    with device.claim("auto", tmp_path):
        assert len(looks) == 10


def test_gpus_are_those_that_torch_shows_by_the_cards_own_names(monkeypatch):
    """CUDA_VISIBLE_DEVICES and a scheduler hide the others from torch."""
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 2)
    cards = [SimpleNamespace(uuid="3f"), SimpleNamespace(uuid="a0")]
    monkeypatch.setattr(device.torch.cuda, "get_device_properties", lambda index: cards[index])
    assert device.visible_gpus() == ["3f", "a0"]


def test_a_gpu_is_the_same_to_jobs_that_count_differently(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "visible_gpus", lambda: ["card-a", "card-b"])
    with device.claim("auto", tmp_path) as first:
        assert first.index == 0
        monkeypatch.setattr(device, "visible_gpus", lambda: ["card-b", "card-a"])
        with device.claim("auto", tmp_path) as second:
            assert second.index == 0


def test_without_a_gpu_one_line_says_that_the_cpu_is_used(monkeypatch, capsys):
    monkeypatch.setattr(device, "visible_gpus", list)
    with device.claim("auto") as chosen:
        assert chosen.type == "cpu"
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_demanded_gpu_that_is_not_there_is_an_error_in_one_sentence(monkeypatch):
    monkeypatch.setattr(device, "visible_gpus", list)
    with pytest.raises(UserError, match=r"training.device is cuda.*no GPU"), device.claim("cuda"):
        pass


def test_the_cpu_is_used_on_request_without_a_look_at_gpus(monkeypatch, capsys):
    monkeypatch.setattr(device, "visible_gpus", lambda: pytest.fail("looked for GPUs"))
    with device.claim("cpu") as chosen:
        assert chosen.type == "cpu"
    assert capsys.readouterr().err == ""


@pytest.fixture
def tf32_everywhere():
    """As some containers set it for products of matrices."""
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, True
    yield
    products.allow_tf32 = before


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_deterministic_gpu_chooses_no_algorithm_by_trial_and_afterwards_all_is_as_before(
    monkeypatch, tf32_everywhere, deterministic
):
    def state():
        cudnn = torch.backends.cudnn
        return (
            torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32,
            torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cuda.matmul.allow_tf32,
        )  # fmt: skip

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "to be removed")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    before = state()
    with device.numerics(torch.device("cuda", 0), torch.bfloat16, deterministic):
        assert state() == (deterministic, deterministic, not deterministic, True, False, False)
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
    with device.numerics(torch.device("cuda", 0), torch.float32):
        assert not torch.backends.cudnn.allow_tf32
    assert state() == before
    with device.numerics(torch.device("cpu"), torch.bfloat16, deterministic):
        assert state() == before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc can be told")
def test_the_maps_of_a_step_take_the_memory_of_the_last_one():
    """In a process of its own: glibc keeps large blocks for its first thread, and tests may run in another."""
    code = (
        "import resource, torch\n"
        "from sdss_photoz.device import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(4): torch.ones(2**24)\n"  # 64 MiB: 16,384 pages, or 32 large ones
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "cleared = faults()\n"
        "keep_freed_memory()\n"
        "print(cleared, max([faults() for _ in range(9)][4:]))\n"  # blocks find their places in the first few
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cleared, kept = map(int, done.stdout.split())
    assert kept < 0.1 * cleared
