"""How much of what a device can do a training uses: the network's arithmetic against products of large matrices."""

import copy
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sdss_photoz.survey import BANDS, CUBE_SIZE


def flop_of_a_galaxy(network: nn.Module) -> int:
    """Floating-point operations of a step, forward and backward, for one galaxy; computed from shapes alone.

    Padding of the aligned form, stretch, pools and the optimizer are not counted.
    """
    shapes = copy.deepcopy(network).to("meta")
    cube, ebv = torch.empty(1, CUBE_SIZE, CUBE_SIZE, len(BANDS), device="meta"), torch.empty(1, device="meta")
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        shapes(cube, ebv).sum().backward()
    return counter.get_total_flops()


def matrix_ceiling(device: torch.device, arithmetic: torch.dtype) -> float:
    """Floating-point operations a second of a product of square matrices: the best of three tries.

    Parameters
    ----------
    device : torch.device
        Where to compute; on a CPU with the threads that are set.
    arithmetic : torch.dtype
        Of the matrices.
    """
    on_gpu = device.type == "cuda"
    side, times = (8192, 10) if on_gpu else (512, 1)
    generator = torch.Generator(device).manual_seed(0)  # zeros would draw less power than data do
    one, other = (torch.randn(side, side, generator=generator, device=device).to(arithmetic) for _ in range(2))
    one @ other
    seconds = []
    for _ in range(3):
        torch.cuda.synchronize(device) if on_gpu else None
        start = time.perf_counter()
        for _ in range(times):
            one @ other
        torch.cuda.synchronize(device) if on_gpu else None
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 * times / min(seconds)
