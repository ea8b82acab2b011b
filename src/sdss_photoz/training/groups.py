"""Layers with a learning rate and a weight decay of their own, and layers that are frozen."""

from typing import TYPE_CHECKING

from torch import nn

from sdss_photoz.errors import UserError
from sdss_photoz.training.adam import Pace

if TYPE_CHECKING:  # the benchmark of training runs without pydantic
    from sdss_photoz.config import Group, Training


def grouped(network: nn.Module, settings: "Training") -> dict[str, Pace]:
    """Freeze the layers that a training freezes, and return the pace of each parameter that it trains, by name.

    Parameters
    ----------
    network : nn.Module
        The network, whose class may have an attribute ``groups``: those of `settings` go before it, name by name.
    settings : config.Training
        The configuration's block `training`.

    Raises
    ------
    UserError
        If a group holds no parameter, or a parameter lies in two groups.
    """
    groups = _groups(network, settings)
    found = {}
    for name, parameter in network.named_parameters():
        group = groups.get(_group_of(name, groups, settings.network))
        if group is not None and group.frozen:
            parameter.requires_grad_(False)
        if not parameter.requires_grad:
            continue
        if group is None:
            found[name] = Pace(1.0, settings.weight_decay)
        else:
            decay = settings.weight_decay if group.weight_decay is None else group.weight_decay
            found[name] = Pace(group.rate, decay)
    return found


def _groups(network: nn.Module, settings: "Training") -> dict[str, "Group"]:
    """The groups of the class and of the configuration, but for those that change nothing."""
    given = getattr(type(network), "groups", {})
    if not given and not settings.groups:
        return {}
    from sdss_photoz.config import Group, holds
    from sdss_photoz.config.parse import parse

    place = f"{settings.network}.groups"
    if not isinstance(given, dict):
        raise UserError(
            f"{place} is {given!r}, but must be a mapping of layers to rate, weight_decay and frozen: correct the "
            "class, or rename its attribute."
        )
    groups = {name: parse(Group, group, f"{place}.{name}") for name, group in given.items()} | settings.groups
    names = [name for name, _ in network.named_parameters()]
    for group in groups:
        if not any(holds(group, name) for name in names):
            layers = [name for name, layer in network.named_children() if list(layer.parameters())]
            key = "training.groups" if group in settings.groups else place
            raise UserError(
                f"{key} names {group!r}, but {settings.network} has no such layer or parameter: its layers are "
                f"{', '.join(layers)}, and its first parameter is {names[0]}."
            )
    return {name: group for name, group in groups.items() if group != Group()}


def _group_of(name: str, groups: dict[str, "Group"], path: str) -> str | None:
    """The name of the group that holds a parameter."""
    if not groups:
        return None
    from sdss_photoz.config import holds

    found = [group for group in groups if holds(group, name)]
    if len(found) > 1:
        raise UserError(
            f"{path} has its parameter {name} in two groups, {' and '.join(found)} (training.groups, and the attribute "
            "`groups` of its class): name the smaller layers alone."
        )
    return found[0] if found else None
