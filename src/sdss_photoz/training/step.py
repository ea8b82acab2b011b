"""The steps of a training: learning rate, loss, gradient, optimizer and average, all on the device.

Nothing in a step waits for the device or depends on a value there: what changes from step to step, the number of the
step and its learning rate, are tensors, so that a recorded step can be replayed.
"""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sdss_photoz.survey import BANDS
from sdss_photoz.training import dropout
from sdss_photoz.training.aligned import AlignedNetwork
from sdss_photoz.training.averaging import Average, shares_of_newest
from sdss_photoz.training.device import on_gpu
from sdss_photoz.training.loss import Loss
from sdss_photoz.training.optimizer import Optimizer

if TYPE_CHECKING:
    from sdss_photoz.config import Training

NONE = -1  # no step has failed
TOWARDS_AVERAGE = 0.9  # schedule-free: where between the weights and their average the gradient is taken


def learning_rate(settings: "Training", step: Tensor, steps: int) -> Tensor:
    """Learning rate, float64, of a step (0-based, int64) of a training of `steps` steps.

    ``one_cycle``: linear from near zero to `settings.learning_rate` within the share `settings.warmup` of the steps,
    then linear to near zero (Smith 2018). ``step``: the paper's, constant, divided by 5 half way. ``free``: linear to
    `settings.learning_rate` within `settings.warmup`, then constant (Defazio et al. 2024).
    """
    if settings.schedule == "step":
        first, second = (
            torch.full_like(step, rate, dtype=torch.float64)
            for rate in (settings.learning_rate, settings.learning_rate / 5)
        )
        return torch.where(2 * step >= steps, second, first)
    place, warmup = (step.double() + 0.5) / steps, settings.warmup
    if settings.schedule == "free":
        return settings.learning_rate * torch.where(place < warmup, place / warmup, torch.ones_like(place))
    return settings.learning_rate * torch.where(place < warmup, place / warmup, (1 - place) / (1 - warmup))


def logits(network: nn.Module, cubes: Tensor, ebv: Tensor, arithmetic: torch.dtype) -> Tensor:
    """Logits (n, bins), float32 at least; convolutions and dense layers are computed in `arithmetic`."""
    with torch.autocast(cubes.device.type, arithmetic, enabled=arithmetic == torch.bfloat16):
        scores = network(cubes, ebv)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def form_of(network: nn.Module, arithmetic: torch.dtype) -> nn.Module:
    """The form that a network is trained in: aligned where it has the attribute ``wide``, else itself."""
    if not getattr(network, "wide", False):
        return network
    matrix_units = arithmetic == torch.bfloat16 or on_gpu(next(network.parameters()))
    return AlignedNetwork(network) if matrix_units else AlignedNetwork(network, row=1, fourier=True)


class Descent:
    """A network on its way down the loss.

    In bfloat16 the aligned form computes with copies of its weights, written after each step; the weights themselves,
    the last layer and the loss stay float32. Schedule-free, the copies lie between the weights and their average.

    Parameters
    ----------
    network : nn.Module
        The network on its device; after `finish` it holds the weights, or their average where there is one.
    settings : config.Training
        The block of the configuration.
    steps : int
        Steps of the whole training.
    arithmetic : torch.dtype
        See `sdss_photoz.training.device.arithmetic`.
    form : nn.Module, optional
        The form to train it in; default: `form_of`.
    compiler : callable, optional
        What compiles functions (`replay.Compiler`); default: nothing does.

    Attributes
    ----------
    bands : int
        Bands that cubes should have: more than five are padding, and save the form from adding it.
    dtype : torch.dtype
        What cubes should be in.
    step : Tensor
        Steps taken, int64.
    rate : Tensor
        Learning rate of the last step.
    failed : Tensor
        First step (0-based, int64) whose loss was not a number; -1: none.
    """

    def __init__(
        self, network: nn.Module, settings: "Training", steps: int, arithmetic: torch.dtype, form=None, compiler=None
    ):
        self.network, self.settings, self.steps, self.arithmetic = network, settings, steps, arithmetic
        device = next(network.parameters()).device
        free = settings.schedule == "free"
        self.form = form or form_of(network, arithmetic)
        self.aligned = isinstance(self.form, AlignedNetwork)
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.failed = torch.full_like(self.step, NONE)
        # Adam's kernel reads float32 on a GPU; on a CPU it takes the very number
        self.rate = torch.zeros((), dtype=torch.float32 if on_gpu(device) else torch.float64, device=device)
        self.loss, self.average = Loss(settings, device), None
        if free or settings.averaging != "none":
            if not self.aligned:
                self.form = copy.deepcopy(network)  # the network itself is to hold the average
            shares = shares_of_newest(settings, learning_rate(settings, torch.arange(steps), steps))
            self.average = Average(dict(self.form.state_dict()), shares.to(device))
        dropout.follow(self.form, self.step)
        self.optimizer = Optimizer(self.form, settings.optimizer, self.rate, arithmetic, 0.0 if free else 0.9)
        self.bands = next(self.form.network.children()).weight.shape[1] if self.aligned else len(BANDS)
        self.rounds = self.aligned and arithmetic == torch.bfloat16
        self.dtype = arithmetic if self.rounds else torch.float32
        kinds = {name: p.dtype for name, p in self.form.named_parameters()}
        if self.rounds:
            kinds |= dict.fromkeys(kinds.keys() - self.form.exact, arithmetic)
        moved = {name: p for name, p in self.form.named_parameters() if free or kinds[name] != p.dtype}
        self.weights = list(moved.values())
        self.copies = {name: torch.empty_like(p, dtype=kinds[name]).requires_grad_() for name, p in moved.items()}
        self._write_copies()
        self.gradients = [torch.zeros_like(weight) for weight in self.weights]
        self.loss_of = compiler(self._loss_of) if compiler else self._loss_of

    def logits(self, cubes: Tensor, ebv: Tensor) -> Tensor:
        """Logits (n, bins), float32, of cubes (n, 64, 64, bands) and E(B-V) (n,) in the arithmetic of training."""

        def form(*inputs):
            return functional_call(self.form, self.copies, inputs) if self.copies else self.form(*inputs)

        return form(cubes, ebv) if self.rounds else logits(form, cubes, ebv, self.arithmetic)

    def _loss_of(self, cubes: Tensor, ebv: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.logits(cubes, ebv), labels)

    @torch.no_grad()
    def descend(self, loss: Tensor) -> None:
        """Take one step with the gradients of a loss, and note whether it was a number."""
        if self.copies:
            torch._foreach_copy_(self.gradients, [copy.grad for copy in self.copies.values()])
            for weight, gradient in zip(self.weights, self.gradients, strict=True):
                weight.grad = gradient
        self.rate.copy_(learning_rate(self.settings, self.step, self.steps))
        self.optimizer.step()
        if self.average:
            self.average.add(self.step)
        self._write_copies()
        fails = (self.failed == NONE) & ~loss.isfinite()
        self.failed.copy_(torch.where(fails, self.step, self.failed))
        self.step += 1

    def forget_gradients(self) -> None:
        """Drop the gradients of the last step."""
        self.form.zero_grad(set_to_none=True)
        for weights in self.copies.values():
            weights.grad = None

    def finish(self) -> nn.Module:
        """The network with the weights as they are now, or their average."""
        if self.form is not self.network:
            self.network.load_state_dict(self._plain(self.average.mean if self.average else self.form.state_dict()))
        return self.network

    def tensors(self) -> dict[str, Tensor]:
        """Weights and what goes with them, in the plain network's shapes: ``weights/<name>``, ``adam/<key>/<name>``."""
        kinds = {"weights": self.form.state_dict(), **self.optimizer.moments()}
        if self.average:
            kinds["average"] = self.average.mean
        return {f"{kind}/{name}": value for kind, part in kinds.items() for name, value in self._plain(part).items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], step: int) -> None:
        """Go on from `tensors`, as they were after `step` steps."""
        parts = {}
        for kind in ("weights", "average", *self.optimizer.kinds):
            plain = {
                name.removeprefix(f"{kind}/"): value.to(self.step.device)
                for name, value in tensors.items()
                if name.startswith(f"{kind}/")
            }
            parts[kind] = self.form.pack(plain) if self.aligned else plain
        self.form.load_state_dict(parts.pop("weights"))
        average = parts.pop("average")
        if self.average:
            for name, mean in self.average.mean.items():
                mean.copy_(average[name])
        self.optimizer.load(parts, step)
        self._write_copies()
        self.step.fill_(step)
        self.finish()

    @torch.no_grad()
    def _write_copies(self) -> None:
        if self.copies:
            weights = self.weights
            if self.settings.schedule == "free":
                mean = [self.average.mean[name] for name in self.copies]
                weights = torch._foreach_lerp(weights, mean, TOWARDS_AVERAGE)
            torch._foreach_copy_(list(self.copies.values()), weights)

    def _plain(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.form.unpack(tensors) if self.aligned else tensors


def train_step(descent: Descent, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Take one step down the loss.

    Parameters
    ----------
    descent : Descent
        The network and its optimizer.
    batch : tuple of Tensor
        Cubes (b, 64, 64, 5), stretched and turned; E(B-V) (b,); labels (b,).

    Returns
    -------
    Tensor
        Mean loss (nat) before the step, on the device, without gradient.
    """
    loss = descent.loss_of(*batch)
    descent.forget_gradients()
    loss.backward()
    descent.descend(loss.detach())
    return loss.detach()
