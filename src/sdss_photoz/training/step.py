"""A training step on the device: learning rate, loss, gradients, optimizer and average of the weights.

A step reads no value back from the device: what changes from step to step, the step number and the learning rate, are
tensors, so that a step can be captured in a CUDA graph.
"""

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sdss_photoz.device import on_gpu
from sdss_photoz.networks.parts import dropout
from sdss_photoz.networks.parts.exact import compute_in_float32
from sdss_photoz.targets.head import Head
from sdss_photoz.training.adam import Adam, Pace
from sdss_photoz.training.averaging import Average, newest_fraction
from sdss_photoz.training.fast.aligned import AlignedNetwork, NotAligned
from sdss_photoz.training.groups import grouped

if TYPE_CHECKING:
    from sdss_photoz.config import Training

_log = logging.getLogger(__name__)

NO_STEP = -1  # value of `Trainer.failed` as long as all losses are finite


def learning_rate(settings: "Training", step: Tensor, steps: int) -> Tensor:
    """Learning rate, float64, of a step (0-based, int64) of a training of `steps` steps.

    ``one_cycle``: linear warm-up to `settings.learning_rate` over the fraction `settings.warmup` of the steps, then
    linear decay to near zero (Smith 2018). ``step``: the paper's, constant, divided by 5 at half of the steps.
    """
    if settings.schedule == "step":
        first, second = (
            torch.full_like(step, rate, dtype=torch.float64)
            for rate in (settings.learning_rate, settings.learning_rate / 5)
        )
        return torch.where(2 * step >= steps, second, first)
    progress, warmup = (step.double() + 0.5) / steps, settings.warmup
    return settings.learning_rate * torch.where(progress < warmup, progress / warmup, (1 - progress) / (1 - warmup))


def outputs_of(network: Callable[..., Tensor], images: Tensor, numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Outputs (n, outputs), at least float32; with `dtype` bfloat16 convolutions and dense layers run under autocast.

    Parameters
    ----------
    network : callable
        The network.
    images, numbers : Tensor
        (n, y, x, channel) and (n, k).
    dtype : torch.dtype
        Dtype of convolutions and dense layers.
    """
    with torch.autocast(images.device.type, dtype, enabled=dtype == torch.bfloat16):
        outputs = network(images, numbers)
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def trained_form(network: nn.Module, dtype: torch.dtype, paces: dict[str, Pace] | None = None) -> nn.Module:
    """The module that is trained in place of a network: its `AlignedNetwork` if it has the attribute ``wide``.

    Channels are padded for matrix units, that is in bfloat16 and on a GPU; elsewhere 5x5 convolutions use the Fourier
    transform. A network that has no aligned form, or parameters of different paces in one of its tensors, is trained as
    it is, which a line of the log tells.
    """
    if not getattr(network, "wide", False):
        return network
    matrix_units = dtype == torch.bfloat16 or on_gpu(next(network.parameters()))
    try:
        form = AlignedNetwork(network) if matrix_units else AlignedNetwork(network, multiple=1, fourier=True)
        form.by_tensor(paces or {})
        return form
    except NotAligned as error:
        _log.info("the network is trained in its plain form, which is slower, for %s", error)
        return network


class Trainer:
    """A network with its loss, optimizer and average of the weights.

    In bfloat16 the aligned form computes with bfloat16 copies of its weights, which are updated after each step; the
    weights themselves, the last layer and the loss stay float32.

    Parameters
    ----------
    network : nn.Module
        The network on its device; `trained_network` writes the weights, or their average, back to it.
    settings : config.Training
        The configuration's block `training`.
    head : Head
        What its outputs mean.
    steps : int
        Number of steps of the training.
    compute_dtype : torch.dtype
        See `sdss_photoz.device.compute_dtype`.
    form : nn.Module, optional
        The module to train in place of the network; default: `trained_form`.
    compiler : callable, optional
        Compiles functions (`cuda_graph.Compiler`); default: nothing is compiled.

    Attributes
    ----------
    channels : int
        Channels that images should have: those beyond their own are zero padding, which the form would otherwise add.
    image_dtype : torch.dtype
        Dtype that images should have.
    step : Tensor
        Number of steps taken, int64, on the device.
    rate : Tensor
        Learning rate of the last step, on the device.
    failed : Tensor
        First step (0-based, int64) whose loss was not finite; `NO_STEP` if there is none.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: "Training",
        head: Head,
        steps: int,
        compute_dtype: torch.dtype,
        form: nn.Module | None = None,
        compiler: Callable[[Callable], Callable] | None = None,
    ):
        self.network, self.settings, self.steps, self.compute_dtype = network, settings, steps, compute_dtype
        device = next(network.parameters()).device
        paces = grouped(network, settings)
        self.form = form or trained_form(network, compute_dtype, paces)
        self.aligned = isinstance(self.form, AlignedNetwork)
        paces = self.form.by_tensor(paces) if self.aligned else paces
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.failed = torch.full_like(self.step, NO_STEP)
        # Adam's kernel reads float32 on a GPU; on a CPU it takes float64
        self.rate = torch.zeros((), dtype=torch.float32 if on_gpu(device) else torch.float64, device=device)
        self.head, self.average = head.to(device), None
        if settings.averaging != "none":
            if not self.aligned:
                self.form = copy.deepcopy(network)  # the network itself will hold the average
            self.average = Average(dict(self.form.state_dict()), newest_fraction(settings, steps).to(device))
        dropout.set_step(self.form, self.step)
        if head.exact and not self.aligned:
            compute_in_float32(self.form.head)
        trained = {name: p for name, p in self.form.named_parameters() if p.requires_grad}
        self.optimizer = Adam(trained, self.rate, paces)
        self.channels = next(self.form.network.children()).weight.shape[1] if self.aligned else 0
        self.low_precision = self.aligned and compute_dtype == torch.bfloat16
        self.image_dtype = compute_dtype if self.low_precision else torch.float32
        dtypes = {name: p.dtype for name, p in self.form.named_parameters()}
        if self.low_precision:
            dtypes |= dict.fromkeys(dtypes.keys() - self.form.exact, compute_dtype)
        copied = {name: p for name, p in self.form.named_parameters() if dtypes[name] != p.dtype}
        self.weights = list(copied.values())
        self.copies = {name: torch.empty_like(p, dtype=dtypes[name]).requires_grad_() for name, p in copied.items()}
        self._update_copies()
        self.gradients = [torch.zeros_like(weight) for weight in self.weights]
        self.compute_loss = compiler(self._compute_loss) if compiler else self._compute_loss

    def outputs(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Outputs, float32, for images (n, y, x, channel) and numbers (n, k), computed as in training."""

        def form(*inputs):
            return functional_call(self.form, self.copies, inputs) if self.copies else self.form(*inputs)

        return form(images, numbers) if self.low_precision else outputs_of(form, images, numbers, self.compute_dtype)

    def _compute_loss(self, images: Tensor, numbers: Tensor, labels: Tensor) -> Tensor:
        return self.head.loss(self.outputs(images, numbers), labels)

    @torch.no_grad()
    def update(self, loss: Tensor) -> None:
        """Update the weights from the gradients of a loss, and note the step in `failed` if the loss is not finite."""
        if self.copies:
            torch._foreach_copy_(self.gradients, [copy.grad for copy in self.copies.values()])
            for weight, gradient in zip(self.weights, self.gradients, strict=True):
                weight.grad = gradient
        self.rate.copy_(learning_rate(self.settings, self.step, self.steps))
        self.optimizer.step()
        if self.average:
            self.average.add(self.step)
        self._update_copies()
        fails = (self.failed == NO_STEP) & ~loss.isfinite()
        self.failed.copy_(torch.where(fails, self.step, self.failed))
        self.step += 1

    def zero_grad(self) -> None:
        """Delete the gradients of the last step."""
        self.form.zero_grad(set_to_none=True)
        for weights in self.copies.values():
            weights.grad = None

    def trained_network(self) -> nn.Module:
        """Write the current weights, or their average, to the network and return it."""
        if self.form is not self.network:
            self.network.load_state_dict(self._unpack(self.average.mean if self.average else self.form.state_dict()))
        return self.network

    def tensors(self) -> dict[str, Tensor]:
        """State for a checkpoint, in the plain network's shapes: ``weights/<name>``, ``adam/<key>/<name>`` and, with
        an average, ``average/<name>``."""
        parts = {"weights": self.form.state_dict(), **self.optimizer.moments}
        if self.average:
            parts["average"] = self.average.mean
        return {f"{kind}/{name}": value for kind, part in parts.items() for name, value in self._unpack(part).items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], step: int) -> None:
        """Restore the state of `tensors` as it was after `step` steps."""
        parts = {}
        for kind in ("weights", "average", *self.optimizer.moments):
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
        self._update_copies()
        self.step.fill_(step)
        self.trained_network()

    @torch.no_grad()
    def _update_copies(self) -> None:
        if self.copies:
            torch._foreach_copy_(list(self.copies.values()), self.weights)

    def _unpack(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.form.unpack(tensors) if self.aligned else tensors


def train_step(trainer: Trainer, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Take one training step.

    Parameters
    ----------
    trainer : Trainer
        The network and its optimizer.
    batch : tuple of Tensor
        Images (b, y, x, channel), augmented; numbers (b, k); labels (b,).

    Returns
    -------
    Tensor
        Mean loss before the update, on the device, detached.
    """
    loss = trainer.compute_loss(*batch)
    trainer.zero_grad()
    loss.backward()
    trainer.update(loss.detach())
    return loss.detach()
