"""The networks: one file each, named like the network, with a class ``Network(bins, variant)``.

Adding one is adding a file.
"""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from torch import nn

from sdss_photoz.errors import UserError
from sdss_photoz.training.dropout import seed_layers
from sdss_photoz.training.layers import DOCUMENTED, Variant, initialise

if TYPE_CHECKING:
    from sdss_photoz.config import Training


def names() -> list[str]:
    """Names of the networks that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def variant(settings: "Training") -> Variant:
    """The variant of the network that a configuration asks for."""
    return Variant(*(getattr(settings, key) for key in Variant._fields))


def build(
    name: str, bins: int = 180, initialisation: str = "he", seed: int = 0, variant: Variant = DOCUMENTED
) -> nn.Module:
    """Build a network with fresh weights.

    Parameters
    ----------
    name : str
        ``inception``, the paper's network; ``inception_small``, its sibling for small samples; or another file's name.
    bins : int
        Redshift bins between 0 and 0.4.
    initialisation : {"he", "paper"}
        See `sdss_photoz.training.layers.initialise`.
    seed : int
        Seed of the initial weights, and of what dropout drops.
    variant : Variant
        What differs from the network as documented.

    Returns
    -------
    nn.Module
        Called with cubes (n, 64, 64, 5), stretched flux, and E(B-V) (n,) in mag; returns logits (n, bins).

    Raises
    ------
    UserError
        Where there is no such network.
    """
    if name not in names():
        raise UserError(f"training.network is {name!r}, but must be one of {', '.join(names())}.")
    network = import_module(f"{__name__}.{name}").Network(bins, variant)
    seed_layers(network, seed)
    return initialise(network, initialisation, seed)
