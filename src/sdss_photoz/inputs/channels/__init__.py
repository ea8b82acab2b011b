"""Channels of an image, made of its bands: a module for each kind, named like it.

Such a module has two functions: ``names(bands)``, the names of the channels, and ``images(flux, bands, kind, noise)``,
which makes them; `pairs` and `lupton` show how. `named` makes those of a list of names.
"""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the names are needed without torch
    from torch import Tensor


def names(channels: str | tuple[str, ...], bands: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the channels: of a kind, by the name of its module, or those of a list."""
    return _MODULES[channels].names(bands) if isinstance(channels, str) else channels


def images(channels: str | tuple[str, ...], flux: "Tensor", bands: tuple[str, ...], kind: str, noise: "Tensor"):
    """Images of flux.

    Parameters
    ----------
    channels : str or tuple of str
        A kind, or a list of names.
    flux : Tensor
        (n, y, x, band) nanomaggies, float16 or float32; 0 where no frame covers them.
    bands : tuple of str
        Their names.
    kind : str
        The stretch (`sdss_photoz.inputs.stretch`).
    noise : Tensor
        (band,) typical noise of a pixel (nanomaggies), on the device of the flux.

    Returns
    -------
    Tensor
        (n, y, x, channel) float32.
    """
    if isinstance(channels, str):
        return _MODULES[channels].images(flux, bands, kind, noise)
    return _MODULES["named"].chosen(channels, flux, bands, kind, noise)


_MODULES = {module.name: import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)}
