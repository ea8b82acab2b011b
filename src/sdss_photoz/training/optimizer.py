"""Adam, or Muon for the convolutions and Adam for the rest."""

from collections import defaultdict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sdss_photoz.training.aligned import AlignedNetwork

ADAMS = ["adam/exp_avg", "adam/exp_avg_sq"]  # its moments in checkpoints
SECOND_MOMENT, EPSILON = 0.999, 1e-8  # of Adam: share of the old, and what is added to its root
MUONS = "muon/momentum"
MOMENTUM = 0.95
ITERATIONS = 5
POLYNOMIAL = 3.4445, -4.7750, 2.0315  # of the published code: steep at 0, near 1 after five iterations
ADAMS_SIZE = 0.2  # root mean square of Adam's updates, by which Muon's can share its learning rate


class Kernel(NamedTuple):
    """One of the network's convolution kernels as a matrix, maps x (maps in, y, x), within a parameter of the form.

    Attributes
    ----------
    parameter : str
        Name of the parameter.
    rows : slice
        Rows of the parameter that are the kernel's.
    shape : tuple
        Rows and columns without padding.
    """

    parameter: str
    rows: slice
    shape: tuple[int, int]


def kernels(form: nn.Module) -> list[Kernel]:
    """The convolution kernels of a network in its plain or its aligned form, the same in both."""
    shapes = form.shapes if isinstance(form, AlignedNetwork) else {n: p.shape for n, p in form.named_parameters()}
    found = []
    for name, shape in shapes.items():
        if len(shape) == 4:
            parameter, rows = name, slice(0, shape[0])
            if isinstance(form, AlignedNetwork):
                ((parameter, real, *_),) = form.places[name]
                rows = slice(int(real[0]), int(real[-1]) + 1)
            found.append(Kernel(parameter, rows, (shape[0], shape[1:].numel())))
    return found


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with their singular values brought near 1, by Newton-Schulz iterations.

    Rows and columns of zeros stay zeros.
    """
    x = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = POLYNOMIAL
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if matrices.shape[1] > matrices.shape[2] else x


class Muon:
    """Momentum whose updates are made orthogonal (Jordan et al. 2024), as large as Adam's (Liu et al. 2025).

    torch.optim.Muon is the same, but for matrices alone, and it reads the learning rate from the device in each step.

    Parameters
    ----------
    form : nn.Module
        The network in the form in which it is trained.
    rate : Tensor
        Learning rate, changed in place.
    arithmetic : torch.dtype
        Number format of the iterations.
    """

    def __init__(self, form: nn.Module, rate: Tensor, arithmetic: torch.dtype):
        self.kernels, self.rate, self.arithmetic = kernels(form), rate, arithmetic
        named = dict(form.named_parameters())
        self.parameters = {kernel.parameter: named[kernel.parameter] for kernel in self.kernels}
        self.momentum = {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients."""
        updates, alike = {}, defaultdict(list)
        for name, parameter in self.parameters.items():
            momentum = self.momentum[name].lerp_(parameter.grad, 1 - MOMENTUM)
            updates[name] = parameter.grad.lerp(momentum, MOMENTUM)  # Nesterov's
        for kernel in self.kernels:
            update = updates[kernel.parameter][kernel.rows].flatten(1)
            alike[update.shape].append((kernel, update))
        for parts in alike.values():  # few large products of matrices instead of many small ones
            turned = orthogonal(torch.stack([update for _, update in parts]).to(self.arithmetic))
            for (kernel, _), update in zip(parts, turned, strict=True):
                weight = self.parameters[kernel.parameter][kernel.rows]
                size = ADAMS_SIZE * max(kernel.shape) ** 0.5
                weight.sub_(update.to(weight.dtype).view(weight.shape) * (self.rate * size))


class Adam:
    """Adam by PyTorch's fused kernel: the bits of torch.optim.Adam without its seconds of loading a compiler.

    Parameters
    ----------
    parameters : dict of str to Tensor
        What it moves, by name.
    rate : Tensor
        Learning rate, changed in place.
    first_moment : float
        Share of the old in the first moment.
    """

    def __init__(self, parameters: dict[str, Tensor], rate: Tensor, first_moment: float):
        self.parameters, self.rate, self.first_moment = parameters, rate, first_moment
        self.moments = {kind: {name: torch.zeros_like(p) for name, p in parameters.items()} for kind in ADAMS}
        self.taken = torch.zeros((), device=rate.device)

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients."""
        self.taken += 1
        parameters = list(self.parameters.values())
        torch._fused_adam_(
            parameters,
            [parameter.grad for parameter in parameters],
            *(list(self.moments[kind].values()) for kind in ADAMS),
            [],
            [self.taken] * len(parameters),
            lr=self.rate,
            beta1=self.first_moment,
            beta2=SECOND_MOMENT,
            eps=EPSILON,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )


class Optimizer:
    """Moves the parameters of a form by their gradients, without waiting for the device.

    Parameters
    ----------
    form : nn.Module
        The network in the form in which it is trained.
    kind : {"adam", "muon"}
        muon: for the convolution kernels; Adam for all else.
    rate : Tensor
        Learning rate, changed in place.
    arithmetic : torch.dtype
        Number format of the products of matrices in Muon.
    first_moment : float
        Share of the old in Adam's first moment.

    Attributes
    ----------
    kinds : list of str
        Kinds of `moments`.
    """

    def __init__(
        self, form: nn.Module, kind: str, rate: Tensor, arithmetic: torch.dtype, first_moment: float = 0.9
    ):  # fmt: skip
        self.muon = Muon(form, rate, arithmetic) if kind == "muon" else None
        self.kinds = [*ADAMS, MUONS] if self.muon else ADAMS
        left = self.muon.parameters if self.muon else {}
        self.parameters = {name: p for name, p in form.named_parameters() if name not in left}
        self.adam = Adam(self.parameters, rate, first_moment)

    def step(self) -> None:
        """Move all parameters."""
        self.adam.step()
        if self.muon:
            self.muon.step()

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """What is remembered of earlier gradients: for each kind a tensor by the parameter's name."""
        return self.adam.moments | ({MUONS: self.muon.momentum} if self.muon else {})

    @torch.no_grad()
    def load(self, moments: dict[str, dict[str, Tensor]], step: int) -> None:
        """Go on with `moments` as they were after `step` steps."""
        self.adam.taken.fill_(step)
        remembered = self.moments()
        for kind in self.kinds:
            for name, moment in remembered[kind].items():
                moment.copy_(moments[kind][name])
