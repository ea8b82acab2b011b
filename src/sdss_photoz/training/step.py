"""The steps of a training: learning rate, loss, gradient and Adam, all on the device.

Nothing in a step waits for the device or depends on a value there: what changes from step to step, the number of the
step and its learning rate, are tensors, so that a recorded step can be replayed.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from sdss_photoz.config import Training
from sdss_photoz.survey import BANDS
from sdss_photoz.training.aligned import ROW, AlignedNetwork

NONE = -1  # no step has failed


def learning_rate(settings: Training, step: Tensor, steps: int) -> Tensor:
    """Learning rate, float64, of a step (0-based, int64) of a training of `steps` steps.

    ``one_cycle``: linear from near zero to `settings.learning_rate` within the share `settings.warmup` of the steps,
    then linear to near zero (Smith 2018). ``step``: the paper's, constant, divided by 5 half way.
    """
    if settings.schedule == "step":
        first, second = (
            torch.full_like(step, rate, dtype=torch.float64)
            for rate in (settings.learning_rate, settings.learning_rate / 5)
        )
        return torch.where(2 * step >= steps, second, first)
    place, warmup = (step.double() + 0.5) / steps, settings.warmup
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
    padded = arithmetic == torch.bfloat16 or next(network.parameters()).is_cuda  # in float32 a CPU gains nothing by it
    return AlignedNetwork(network, ROW if padded else 1)


class Descent:
    """A network on its way down the loss, by Adam.

    In bfloat16 the aligned form computes with copies of its weights, written after each step of Adam; the weights
    themselves, the last layer and the loss stay float32.

    Parameters
    ----------
    network : nn.Module
        The network on its device; it holds the weights after `finish`.
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
        self, network: nn.Module, settings: Training, steps: int, arithmetic: torch.dtype, form=None, compiler=None
    ):
        self.network, self.settings, self.steps, self.arithmetic = network, settings, steps, arithmetic
        device = next(network.parameters()).device
        on_gpu = device.type == "cuda"
        self.form = form or form_of(network, arithmetic)
        self.weights, self.copies = [], {}
        self.bands, self.dtype = len(BANDS), torch.float32
        if self.form is not network:
            self.bands = next(self.form.network.children()).weight.shape[1]
        if self.form is not network and arithmetic == torch.bfloat16:
            self.dtype = arithmetic
            named = {name: p for name, p in self.form.named_parameters() if name not in self.form.exact}
            self.weights = list(named.values())
            self.copies = {name: p.detach().to(arithmetic).requires_grad_() for name, p in named.items()}
        self.gradients = [torch.zeros_like(weight) for weight in self.weights]
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.failed = torch.full_like(self.step, NONE)
        # Adam's kernel reads float32 on a GPU; on a CPU it takes the very number
        self.rate = torch.zeros((), dtype=torch.float32 if on_gpu else torch.float64, device=device)
        self.adam = torch.optim.Adam(self.form.parameters(), lr=self.rate, fused=True, capturable=on_gpu)
        self.compute = compiler(self._compute) if compiler else self._compute

    def logits(self, cubes: Tensor, ebv: Tensor) -> Tensor:
        """Logits (n, bins), float32, of cubes (n, 64, 64, bands) and E(B-V) (n,) in the arithmetic of training."""
        return self.compute(cubes, ebv)

    def _compute(self, cubes: Tensor, ebv: Tensor) -> Tensor:
        if self.copies:
            return functional_call(self.form, self.copies, (cubes, ebv))
        return logits(self.form, cubes, ebv, self.arithmetic)

    @torch.no_grad()
    def descend(self, loss: Tensor) -> None:
        """Take one step of Adam with the gradients of a loss, and note whether it was a number."""
        if self.copies:
            torch._foreach_copy_(self.gradients, [copy.grad for copy in self.copies.values()])
            for weight, gradient in zip(self.weights, self.gradients, strict=True):
                weight.grad = gradient
        self.rate.copy_(learning_rate(self.settings, self.step, self.steps))
        self.adam.step()
        self._write_copies()
        fails = (self.failed == NONE) & ~loss.isfinite()
        self.failed.copy_(torch.where(fails, self.step, self.failed))
        self.step += 1

    def forget_gradients(self) -> None:
        """Drop the gradients of the last step."""
        self.adam.zero_grad(set_to_none=True)
        for copy in self.copies.values():
            copy.grad = None

    def finish(self) -> nn.Module:
        """The network with the weights as they are now."""
        if self.form is not self.network:
            self.network.load_state_dict(self.form.unpack(self.form.state_dict()))
        return self.network

    def tensors(self) -> dict[str, Tensor]:
        """Weights and Adam's moments, in the shapes of the plain network: ``weights/<name>``, ``adam/<key>/<name>``."""
        parameters = dict(self.form.named_parameters())
        found = {f"weights/{name}": value for name, value in self.finish().state_dict().items()}
        for key in ("exp_avg", "exp_avg_sq"):
            moments = {name: self.adam.state[parameter][key] for name, parameter in parameters.items()}
            found |= {f"adam/{key}/{name}": value for name, value in self._plain(moments).items()}
        return found

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], step: int) -> None:
        """Go on from `tensors`, as they were after `step` steps."""
        parts = {kind: {} for kind in ("weights", "adam/exp_avg", "adam/exp_avg_sq")}
        for name, value in tensors.items():
            for kind, part in parts.items():
                if name.startswith(f"{kind}/"):
                    part[name.removeprefix(f"{kind}/")] = value.to(self.step.device)
        self.network.load_state_dict(parts["weights"])
        weights, *moments = (self._aligned(part) for part in parts.values())
        self.form.load_state_dict(weights)
        for name, parameter in self.form.named_parameters():
            first, second = (
                torch.empty_like(parameter).copy_(part[name]) for part in moments
            )  # in the weights' layout
            taken = torch.tensor(float(step), device=self.step.device)
            self.adam.state[parameter] = {"step": taken, "exp_avg": first, "exp_avg_sq": second}
        self._write_copies()
        self.step.fill_(step)

    def _write_copies(self) -> None:
        if self.copies:
            torch._foreach_copy_(list(self.copies.values()), self.weights)

    def _plain(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors if self.form is self.network else self.form.unpack(tensors)

    def _aligned(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors if self.form is self.network else self.form.pack(tensors)


def train_step(descent: Descent, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Take one step down the cross-entropy of hard redshift bins.

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
    cubes, ebv, labels = batch
    loss = F.cross_entropy(descent.logits(cubes, ebv), labels)
    descent.forget_gradients()
    loss.backward()
    descent.descend(loss.detach())
    return loss.detach()
