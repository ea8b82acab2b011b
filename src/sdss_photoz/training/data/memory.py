"""Free memory, and the residence of a training's cubes that follows from it."""

import logging
import os
from pathlib import Path

import psutil
import torch

from sdss_photoz.device import on_gpu
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.training.resources import MEMORY_FRACTION, float16_cube_bytes

CGROUPS = Path("/sys/fs/cgroup")
NAMES = {
    "device": "in the memory of {device}",
    "pinned": "in the machine's memory, through pinned buffers",
    "streamed": "on disk, streamed in whole chunks",
}

_log = logging.getLogger(__name__)


def choose_residence(wanted: str, count: int, device: torch.device, grid: PixelGrid = CUBE) -> str:
    """Choose where the cubes of a training stay, and log it.

    Parameters
    ----------
    wanted : {"auto", "device", "pinned", "streamed"}
        Value of the configuration; auto: the first of the others with enough free memory.
    count : int
        Number of galaxies of the training.
    device : torch.device
        Device of the training.
    grid : PixelGrid
        Pixels and bands of the cubes.

    Returns
    -------
    str
        "device", "pinned" or "streamed".
    """
    on_cpu = not on_gpu(device)
    on_device, on_host = resident_bytes(count, device, grid), float16_cube_bytes(grid) * count
    host = free_host_memory()
    device_free = host if on_cpu else torch.cuda.mem_get_info(device)[0]
    chosen = wanted
    if wanted == "auto":
        if on_device <= MEMORY_FRACTION * device_free:
            chosen = "device"
        else:
            chosen = "pinned" if not on_cpu and on_host <= MEMORY_FRACTION * host else "streamed"
    free = f"{host:,} free" if on_cpu else f"{device_free:,} free on {device}, {host:,} in the machine"
    needed = on_host if chosen == "streamed" else on_device
    place = NAMES[chosen].format(device="the machine" if on_cpu else device)
    _log.info(f"cubes of {count:,} galaxies, {needed:,} bytes, stay {place} ({free}; training.residence is {wanted})")
    return chosen


def resident_bytes(count: int, device: torch.device, grid: PixelGrid = CUBE) -> int:
    """Bytes of the cubes of `count` galaxies on a device: float32 on a CPU, float16 on a GPU."""
    return (1 if on_gpu(device) else 2) * float16_cube_bytes(grid) * count


def free_host_memory() -> int:
    """Bytes of memory that this job may still use: those of the machine, or less if the scheduler set a limit."""
    used = psutil.Process().memory_info().rss
    return max(0, min([psutil.virtual_memory().available, *(limit - used for limit in _limits())]))


def _limits() -> list[int]:
    """Memory limits (bytes) of the job's control groups and of Slurm."""
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
