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
    hold no numbers and stand for a CPU's, wherever the network is: so a test without a GPU runs what a GPU's training
    does, and layers that ask for their device (autocast, which refuses `meta`) get an answer.
    """
    with FakeTensorMode(), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        tensors = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, requires_grad=tensor.requires_grad)
            for name, tensor in (*network.named_parameters(), *network.named_buffers())
        }
        cube, ebv = torch.empty(1, CUBE_SIZE, CUBE_SIZE, len(BANDS)), torch.empty(1)
        functional_call(network, tensors, (cube, ebv)).sum().backward()
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
