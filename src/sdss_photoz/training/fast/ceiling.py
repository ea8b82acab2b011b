"""The fraction of a device's speed that a training reaches: its FLOP/s against those of a large matrix product."""

import time
from functools import partial

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from sdss_photoz.device import on_gpu
from sdss_photoz.surveys import CUBE

GPU_SIZE, CPU_SIZE = (8192, 10), (512, 1)  # side of the matrices, and products per timing


def flop_per_galaxy(network: nn.Module, shape: tuple[int, int, int] = CUBE.shape, numbers: int = 1) -> int:
    """Floating-point operations of a training step, forward and backward, per galaxy.

    Parameters
    ----------
    network : nn.Module
        The network.
    shape : tuple of int
        Shape of an image: (y, x, channel).
    numbers : int
        How many numbers it reads beside the image.

    Returns
    -------
    int
        Without padding of the aligned form, stretch, pools and the optimizer. They are counted on fake tensors of a
        CPU, whatever the device of the network: so tests without a GPU run the code of a training on one, and layers
        that read the device of their input work (autocast refuses `meta`).
    """
    with FakeTensorMode(), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        tensors = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, requires_grad=tensor.requires_grad)
            for name, tensor in (*network.named_parameters(), *network.named_buffers())
        }
        image, beside = torch.empty(1, *shape), torch.empty(1, numbers)
        functional_call(network, tensors, (image, beside)).sum().backward()
    return counter.get_total_flops()


def matmul_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a product of square matrices, the best of three measurements.

    Parameters
    ----------
    device : torch.device
        Where to compute; on a CPU with the threads that are set.
    dtype : torch.dtype
        Dtype of the matrices.
    """
    synchronize = partial(torch.cuda.synchronize, device) if on_gpu(device) else lambda: None
    side, times = GPU_SIZE if on_gpu(device) else CPU_SIZE
    generator = torch.Generator(device).manual_seed(0)  # zeros would draw less power than real data
    one, other = (torch.randn(side, side, generator=generator, device=device).to(dtype) for _ in range(2))
    one @ other
    seconds = []
    for _ in range(3):
        synchronize()
        start = time.perf_counter()
        for _ in range(times):
            one @ other
        synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 * times / min(seconds)
