"""Adam by PyTorch's fused kernel."""

import torch
from torch import Tensor

MOMENTS = ["adam/exp_avg", "adam/exp_avg_sq"]  # their names in checkpoints
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """Adam by PyTorch's fused kernel: the bits of torch.optim.Adam, without the seconds in which that loads a compiler.

    Parameters
    ----------
    parameters : dict of str to Tensor
        Parameters to update in place, by name.
    rate : Tensor
        Learning rate, changed in place.

    Attributes
    ----------
    moments : dict of str to dict of str to Tensor
        Running means of the gradients and of their squares, by the parameter's name, under the keys `MOMENTS`.
    taken : Tensor
        Number of steps taken, float32, on the device.
    """

    def __init__(self, parameters: dict[str, Tensor], rate: Tensor):
        self.parameters, self.rate = parameters, rate
        self.moments = {kind: {name: torch.zeros_like(p) for name, p in parameters.items()} for kind in MOMENTS}
        self.taken = torch.zeros((), device=rate.device)

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients, without synchronising with the device."""
        self.taken += 1
        parameters = list(self.parameters.values())
        torch._fused_adam_(
            parameters,
            [parameter.grad for parameter in parameters],
            *(list(self.moments[kind].values()) for kind in MOMENTS),
            [],
            [self.taken] * len(parameters),
            lr=self.rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            eps=EPSILON,
            weight_decay=0.0,
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
