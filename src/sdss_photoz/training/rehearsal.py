"""Try a new network on two random galaxies, so that what is wrong with it is said before hours are spent."""

import torch
from torch import Tensor, nn

from sdss_photoz.config import Training
from sdss_photoz.device import compute_dtype
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build, variant
from sdss_photoz.networks.parts.dropout import has_dropout
from sdss_photoz.networks.parts.exact import compute_in_float32
from sdss_photoz.networks.parts.imported import refusal
from sdss_photoz.targets.head import Head
from sdss_photoz.training.groups import grouped
from sdss_photoz.training.step import outputs_of, trained_form

GALAXIES = 2
TOLERANCE = 1e-3  # of the outputs' size, between the aligned form and the plain one in float32


def rehearse(settings: Training, inputs: Inputs, head: Head) -> None:
    """Try a network: a step forward and back of two random galaxies.

    Raises
    ------
    UserError
        If the network cannot be built or called; it returns another shape, numbers that are not finite, or
        probabilities; a parameter takes no part in its outputs, or its gradient is not finite; it draws from torch's
        generator; it has no dropout though distributions are to come from it; two of its tensors are one; its aligned
        form computes something else; or a group of ``training.groups`` or of its class names no layer of it, or two
        hold a parameter.
    """
    path, options = settings.network, settings.options
    choices = variant(settings), inputs, options, head.ordered
    network = build(path, head.outputs, "paper", 0, *choices)  # no zeros in the head
    if head.passes > 1 and not has_dropout(network):
        raise UserError(
            f"target.distribution is dropout, but {path} has no layer torch.nn.Dropout: add one, or choose another "
            "target.distribution."
        )
    kind = type(network.head)
    if head.exact:
        compute_in_float32(network.head)
    paces = grouped(network, settings)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(GALAXIES, *inputs.shape, generator=generator)
    numbers = torch.rand(GALAXIES, len(inputs.numbers), generator=generator)
    dtype = compute_dtype(torch.device("cpu"), settings.precision)
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        outputs = _outputs(path, network.train(), images, numbers, dtype, head.outputs)
        if not torch.equal(before, torch.get_rng_state()):
            raise UserError(
                f"{path} draws from torch's random generator when it is called, so that a training could not be "
                "resumed: use the layer torch.nn.Dropout, which is replaced by one that draws from the step's number."
            )
        _check_gradients(path, network, outputs)
        with torch.no_grad():  # validation, and a single galaxy
            alone = _outputs(path, network.eval(), images[:1], numbers[:1], torch.float32, head.outputs)
    _check_tensors(path, network)
    network.head.__class__ = kind  # which the aligned form knows
    form = trained_form(network, torch.bfloat16, paces)  # with padded channels
    if form is not network:
        with torch.no_grad():
            aligned = outputs_of(form.eval(), images[:1], numbers[:1], torch.float32)
        if not torch.allclose(aligned, alone, rtol=0, atol=TOLERANCE * float(alone.abs().max())):
            raise UserError(
                f"{path} has the attribute `wide`, but not layers that each read the output of the one before, so that "
                "its aligned form computes something else: delete `wide`."
            )


def _outputs(path: str, network: nn.Module, images: Tensor, numbers: Tensor, dtype: torch.dtype, count: int) -> Tensor:
    def called(*arguments) -> Tensor:
        found = network(*arguments)
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != (len(images), count):
            raise UserError(
                f"{path} returns {shape} for images {tuple(images.shape)} and numbers {tuple(numbers.shape)}, but must "
                f"return {len(images), count}, its argument outputs: correct its forward."
            )
        return found

    try:
        found = outputs_of(called, images, numbers, dtype)
    except UserError:
        raise
    except Exception as error:  # whatever the network of the user does
        mode = "in training" if network.training else "in evaluation"
        raise refusal(f"cannot be called {mode} for images {tuple(images.shape)}", path, error) from error
    if not found.isfinite().all():
        raise UserError(f"{path} returns numbers that are not finite for random images: correct its forward.")
    if count > 1 and (found >= 0).all() and torch.allclose(found.sum(1), torch.ones(len(found)), atol=1e-2):
        raise UserError(f"{path} returns probabilities, but must return logits: leave out the softmax.")
    return found


def _check_gradients(path: str, network: nn.Module, outputs: Tensor) -> None:
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    if not trained or not outputs.requires_grad:
        raise UserError(f"{path} has no parameters that are trained and change its outputs: correct its class.")
    outputs.square().mean().backward()
    for name, weight in trained.items():
        if weight.grad is None:
            raise UserError(
                f"{path} has a parameter {name} that takes no part in its outputs: use it, delete it, or freeze it by "
                "requires_grad_(False)."
            )
        if not weight.grad.isfinite().all():
            raise UserError(f"{path} gives {name} a gradient that is not finite: correct its forward.")


def _check_tensors(path: str, network: nn.Module) -> None:
    """Refuse tensors that share memory, which no model file can hold."""
    places = {}
    for name, tensor in network.state_dict().items():
        first = places.setdefault(tensor.untyped_storage().data_ptr(), name)
        if first != name and tensor.numel():
            raise UserError(
                f"{path} has one tensor under two names, {first} and {name}, which a model file cannot hold: keep one, "
                "and make the other a property."
            )
