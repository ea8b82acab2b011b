"""How much of what a device can do a training uses: the network's arithmetic against products of large matrices."""

import time
from functools import partial

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from sdss_photoz.survey import BANDS, CUBE_SIZE
from sdss_photoz.training.device import on_gpu

ON_GPU, ON_CPU = (8192, 10), (512, 1)  # side of the matrices, and products between two looks at the clock


def flop_of_a_galaxy(network: nn.Module) -> int:
    """Floating-point operations of a step, forward and backward, for one galaxy; computed from shapes alone.

    Padding of the aligned form, stretch, pools and the optimizer are not counted. The shapes are those of tensors that
    hold no numbers but know the network's device, so that layers which ask for it (autocast) get their answer.
    """
    with FakeTensorMode() as shapes, torch.enable_grad(), FlopCounterMode(display=False) as counter:
        tensors = {
            name: shapes.from_tensor(tensor) for name, tensor in (*network.named_parameters(), *network.named_buffers())
        }
        device = next(iter(tensors.values())).device
        cube = torch.empty(1, CUBE_SIZE, CUBE_SIZE, len(BANDS), device=device)
        functional_call(network, tensors, (cube, torch.empty(1, device=device))).sum().backward()
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
    waits = partial(torch.cuda.synchronize, device) if on_gpu(device) else lambda: None
    side, times = ON_GPU if on_gpu(device) else ON_CPU
    generator = torch.Generator(device).manual_seed(0)  # zeros would draw less power than data do
    one, other = (torch.randn(side, side, generator=generator, device=device).to(arithmetic) for _ in range(2))
    one @ other
    seconds = []
    for _ in range(3):
        waits()
        start = time.perf_counter()
        for _ in range(times):
            one @ other
        waits()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 * times / min(seconds)
