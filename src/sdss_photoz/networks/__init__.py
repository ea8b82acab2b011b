"""The networks: one module each, named like the network, with a class ``Network(inputs, outputs, variant)``."""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

import torch
from torch import nn

from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks.parts.dropout import count_dropout, seed_layers
from sdss_photoz.networks.parts.imported import construct
from sdss_photoz.networks.parts.layers import DOCUMENTED, Variant, initialise

if TYPE_CHECKING:
    from sdss_photoz.config import Training


def names() -> list[str]:
    """Names of the networks that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def variant(settings: "Training") -> Variant:
    """The options of the network in a configuration."""
    return Variant(*(getattr(settings, key) for key in Variant._fields))


def build(
    name: str,
    outputs: int = 180,
    initialisation: str = "he",
    seed: int = 0,
    variant: Variant = DOCUMENTED,
    inputs: Inputs = Inputs(),  # noqa: B008 (immutable)
    options: dict | None = None,
    ordered: bool = True,
) -> nn.Module:
    """Build a network with fresh weights, which follow from the seed alone.

    Torch's dropout layers are replaced by those of `sdss_photoz.networks.parts.dropout`.

    Parameters
    ----------
    name : str
        ``inception``, the paper's network; ``inception_small``, for small samples; the name of another module; or an
        import path ``package.module:Network``.
    outputs : int
        Numbers that the network returns for a galaxy: the logits of its redshift bins.
    initialisation : {"he", "paper"}
        See `sdss_photoz.networks.parts.layers.initialise`.
    seed : int
        Seed of the initial weights and of dropout.
    variant : Variant
        Options of the library's networks that differ from the documented ones.
    inputs : Inputs
        What it reads of a galaxy.
    options : dict, optional
        Options of a network that an import path names (`parts.imported.construct`).
    ordered : bool
        Whether outputs are logits of bins in their order (`Head.ordered`), which a network of the library may smooth.

    Returns
    -------
    nn.Module
        Called with images (n, y, x, channel), stretched flux, and numbers (n, 1), E(B-V) in mag; returns logits
        (n, outputs). Its attribute ``head`` is its last layer, or the layers at its end.

    Raises
    ------
    UserError
        If there is no such network, it takes other options, it cannot be built, or it has no ``head``.
    """
    if ":" not in name and name not in names():
        raise UserError(
            f"training.network is {name!r}, but must be one of {', '.join(names())}, or an import path like "
            "package.module:Network."
        )
    with torch.random.fork_rng(devices=[]):  # torch's own layers draw from its generator
        torch.random.default_generator.manual_seed(seed)
        if ":" in name:
            network = construct(name, inputs, outputs, options or {})
        else:
            network = import_module(f"{__name__}.{name}").Network(inputs, outputs, variant)
            network.ordered = ordered
    head = getattr(network, "head", None)
    if not isinstance(head, nn.Module) or not list(head.parameters()):
        raise UserError(f"{name} has no attribute `head`, its last layer, which starts at zero: name that layer so.")
    seed_layers(count_dropout(network), seed)
    return initialise(network, initialisation, seed)
