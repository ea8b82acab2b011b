"""The residence of cubes follows from the free memory, and is logged in one line."""

import types

import pytest
import torch

from sdss_photoz.training.data import memory
from sdss_photoz.training.data.memory import choose_residence, free_host_memory

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
CUBE = 40_960  # bytes of a float16 cube
SAMPLE = 516_525


def _memory(monkeypatch, host, card=0):
    monkeypatch.setattr(memory, "free_host_memory", lambda: host)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (card, 2 * card))


@pytest.mark.parametrize(
    ("card", "host", "expected"),
    [(139e9, 128e9, "device"), (24e9, 128e9, "pinned"), (24e9, 16e9, "streamed")],
)
def test_the_papers_sample_stays_on_a_large_card_and_in_memory_or_on_disk_beside_a_small_one(
    monkeypatch, capsys, card, host, expected
):
    _memory(monkeypatch, int(host), int(card))
    assert choose_residence("auto", SAMPLE, CARD) == expected
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert f"cubes of 516,525 galaxies, {SAMPLE * CUBE:,} bytes" in stderr
    assert f"{int(card):,} free on cuda:0, {int(host):,} in the machine" in stderr


def test_on_a_cpu_cubes_stay_in_memory_as_float32_or_on_disk(monkeypatch, capsys):
    _memory(monkeypatch, 3 * 1000 * CUBE)
    assert choose_residence("auto", 1000, CPU) == "device"
    assert f"{2 * 1000 * CUBE:,} bytes" in capsys.readouterr().err
    assert choose_residence("auto", 1200, CPU) == "streamed"


@pytest.mark.parametrize("wanted", ["device", "pinned", "streamed"])
def test_what_the_configuration_says_holds_whatever_the_room(monkeypatch, capsys, wanted):
    _memory(monkeypatch, 1, 1)
    assert choose_residence(wanted, SAMPLE, CARD) == wanted
    assert f"training.residence is {wanted}" in capsys.readouterr().err


def test_a_schedulers_limit_counts_where_it_is_below_the_machines_memory(monkeypatch, tmp_path):
    process = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(rss=10**9))
    monkeypatch.setattr(memory.psutil, "Process", lambda: process)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: types.SimpleNamespace(available=50 * 10**9))
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(
        memory.Path, "read_text", lambda path: "0::/job/step\n" if "proc" in str(path) else "4000000000\n"
    )
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    assert free_host_memory() == 50 * 10**9
    (tmp_path / "job" / "step").mkdir(parents=True)
    (tmp_path / "job" / "memory.max").touch()
    assert free_host_memory() == 3 * 10**9
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2000")
    assert free_host_memory() == 2000 * 2**20 - 10**9
