"""How much memory there is, and where the cubes of a training therefore stay."""

import os
import sys
from pathlib import Path

import psutil
import torch

from sdss_photoz.survey import BANDS, CUBE_SIZE
from sdss_photoz.training.device import on_gpu

SHARE = 0.75  # of the free memory that cubes may take: the rest is for the network and the maps of a batch
CGROUPS = Path("/sys/fs/cgroup")
HALF = 2 * CUBE_SIZE**2 * len(BANDS)  # bytes of a cube of float16
NAMES = {
    "device": "in the memory of {device}",
    "pinned": "in the machine's memory, through pinned buffers",
    "streamed": "on disk, streamed in whole chunks",
}


def choose_residence(wanted: str, count: int, device: torch.device) -> str:
    """Where the cubes of `count` galaxies stay, said in one line.

    Parameters
    ----------
    wanted : {"auto", "device", "pinned", "streamed"}
        The configuration's choice; auto: the first of the others for which there is room.
    count : int
        Galaxies of the training.
    device : torch.device
        Where the training runs.

    Returns
    -------
    str
        "device", "pinned" or "streamed".
    """
    on_cpu = not on_gpu(device)
    on_device, on_host = resident_bytes(count, device), HALF * count
    host = free_host_memory()
    device_free = host if on_cpu else torch.cuda.mem_get_info(device)[0]
    chosen = wanted
    if wanted == "auto":
        if on_device <= SHARE * device_free:
            chosen = "device"
        else:
            chosen = "pinned" if not on_cpu and on_host <= SHARE * host else "streamed"
    free = f"{host:,} free" if on_cpu else f"{device_free:,} free on {device}, {host:,} in the machine"
    needed = on_host if chosen == "streamed" else on_device
    place = NAMES[chosen].format(device="the machine" if on_cpu else device)
    print(
        f"cubes of {count:,} galaxies, {needed:,} bytes, stay {place} ({free}; training.residence is {wanted})",
        file=sys.stderr,
    )
    return chosen


def resident_bytes(count: int, device: torch.device) -> int:
    """Bytes of the cubes of `count` galaxies on a device: float32 on a CPU, float16 on a GPU."""
    return (1 if on_gpu(device) else 2) * HALF * count


def free_host_memory() -> int:
    """Bytes of memory that this job may still take: the machine's, or less where the scheduler set a limit."""
    used = psutil.Process().memory_info().rss
    return max(0, min([psutil.virtual_memory().available, *(limit - used for limit in _limits())]))


def _limits() -> list[int]:
    """Limits (bytes) of the job's control groups, and Slurm's."""
    limits = [int(os.environ["SLURM_MEM_PER_NODE"]) * 2**20] if os.environ.get("SLURM_MEM_PER_NODE") else []
    try:
        group = CGROUPS / Path("/proc/self/cgroup").read_text().split("::")[-1].strip().lstrip("/")
    except OSError:  # not Linux
        return limits
    for folder in (group, *group.parents):
        file = folder / "memory.max"
        if file.is_file() and (text := file.read_text().strip()) != "max":
            limits.append(int(text))
    return limits
