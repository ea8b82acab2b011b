"""Adam by PyTorch's fused kernels."""

from typing import NamedTuple

import torch
from torch import Tensor

MOMENTS = ["adam/exp_avg", "adam/exp_avg_sq"]  # their names in checkpoints
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Pace(NamedTuple):
    """How fast parameters move.

    Attributes
    ----------
    rate : float
        Factor of the learning rate.
    weight_decay : float
        Decoupled weight decay: a step first shrinks them by the learning rate times this (Loshchilov & Hutter 2019).
    """

    rate: float = 1.0
    weight_decay: float = 0.0


class Adam:
    """Adam by PyTorch's fused kernel: the bits of torch.optim.Adam, without the seconds in which that loads a compiler.

    Parameters of one `Pace` are updated by one call of the kernel, that of torch.optim.AdamW where they decay.

    Parameters
    ----------
    parameters : dict of str to Tensor
        Parameters to update in place, by name.
    rate : Tensor
        Learning rate, changed in place.
    paces : dict of str to Pace, optional
        Of each parameter; default: all alike, without decay.

    Attributes
    ----------
    moments : dict of str to dict of str to Tensor
        Running means of the gradients and of their squares, by the parameter's name, under the keys `MOMENTS`.
    taken : Tensor
        Number of steps taken, float32, on the device.
    """

    def __init__(self, parameters: dict[str, Tensor], rate: Tensor, paces: dict[str, Pace] | None = None):
        self.parameters, self.rate = parameters, rate
        self.moments = {kind: {name: torch.zeros_like(p) for name, p in parameters.items()} for kind in MOMENTS}
        self.taken = torch.zeros((), device=rate.device)
        self.groups: dict[Pace, list[str]] = {}
        for name in parameters:
            self.groups.setdefault(paces[name] if paces else Pace(), []).append(name)

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients, without synchronising with the device."""
        self.taken += 1
        for (factor, decay), names in self.groups.items():
            parameters = [self.parameters[name] for name in names]
            kernel = torch._fused_adamw_ if decay else torch._fused_adam_
            kernel(
                parameters,
                [parameter.grad for parameter in parameters],
                *([self.moments[kind][name] for name in names] for kind in MOMENTS),
                [],
                [self.taken] * len(parameters),
                lr=self.rate if factor == 1 else self.rate * factor,
                beta1=BETAS[0],
                beta2=BETAS[1],
                eps=EPSILON,
                weight_decay=decay,
                amsgrad=False,
                maximize=False,
            )

    @torch.no_grad()
    def load(self, moments: dict[str, dict[str, Tensor]], step: int) -> None:
        """Continue from `moments` as they were after `step` steps."""
        self.taken.fill_(step)
        for kind, tensors in self.moments.items():
            for name, moment in tensors.items():
                moment.copy_(moments[kind][name])
