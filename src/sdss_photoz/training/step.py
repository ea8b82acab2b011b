"""One step of training: learning rate, loss, gradient, Adam."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.config import Training


def learning_rate(settings: Training, step: int, steps: int) -> float:
    """Learning rate of a step (0-based) of a training of `steps` steps.

    ``one_cycle``: linear from near zero to `settings.learning_rate` within the share `settings.warmup` of the steps,
    then linear to near zero (Smith 2018). ``step``: the paper's, constant, divided by 5 half way.
    """
    if settings.schedule == "step":
        return settings.learning_rate / (5 if 2 * step >= steps else 1)
    place, warmup = (step + 0.5) / steps, settings.warmup
    return settings.learning_rate * (place / warmup if place < warmup else (1 - place) / (1 - warmup))


def adam(network: nn.Module) -> torch.optim.Adam:
    """The paper's optimizer; its learning rate is set at each step."""
    return torch.optim.Adam(network.parameters(), lr=0.0, fused=True)


def logits(network: nn.Module, cubes: Tensor, ebv: Tensor, arithmetic: torch.dtype) -> Tensor:
    """Logits (n, bins) in float32; convolutions and dense layers are computed in `arithmetic`."""
    with torch.autocast(cubes.device.type, arithmetic, enabled=arithmetic != torch.float32):
        return network(cubes, ebv).float()


def train_step(network: nn.Module, optimizer, batch: tuple[Tensor, Tensor, Tensor], rate: float, arithmetic) -> Tensor:
    """Take one step of Adam down the cross-entropy of hard redshift bins.

    Parameters
    ----------
    network : nn.Module
        The network.
    optimizer : torch.optim.Adam
        Its optimizer.
    batch : tuple of Tensor
        Cubes (b, 64, 64, 5), stretched and turned; E(B-V) (b,); labels (b,).
    rate : float
        Learning rate.
    arithmetic : torch.dtype
        See `sdss_photoz.training.device.arithmetic`.

    Returns
    -------
    Tensor
        Mean loss (nat) before the step, on the device, without gradient.
    """
    cubes, ebv, labels = batch
    loss = F.cross_entropy(logits(network, cubes, ebv, arithmetic), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return loss.detach()
