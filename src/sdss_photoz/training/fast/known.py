"""The layers that the aligned form knows: of the library's own classes, as these build them, and nothing added."""

from torch import nn
from torch.nn import functional as F

from sdss_photoz.networks.parts.dropout import Dropout
from sdss_photoz.networks.parts.layers import BatchNorm, Convolution, Dense, DenseWithNumbers, Inception, max_pool


class NotAligned(ValueError):
    """A network has no aligned form."""


INTO, BRANCHES = ("into_3x3", "into_5x5", "into_pool"), ("branch_1x1", "branch_3x3", "branch_5x5")
PARTS = {  # names of the attributes, parameters, buffers and layers of each class
    Convolution: {"bias", "weight", "slope", "norm", "stride"},
    BatchNorm: {"weight", "bias", "mean", "variance"},
    Dense: {"weight", "bias", "dropout"},
    DenseWithNumbers: {"weight", "bias", "dropout", "numbers"},
    Inception: {*INTO, *BRANCHES, "with_5x5", "pool", "channels"},
}
STANDARD = vars(nn.Module()).keys()  # attributes of every layer
HOOKS = [name for name in STANDARD if name.endswith("_hooks")]


def check_known(name: str, layer: nn.Module, channels: int, last: bool) -> None:
    """Raise `NotAligned` for a layer that the aligned form could not compute.

    Parameters
    ----------
    name : str
        Its name, for messages.
    layer : nn.Module
        A layer of the network.
    channels : int
        Channels, or features, of the layer before.
    last : bool
        Whether it is the network's last.
    """
    _check_class(name, layer, PARTS.keys() - {BatchNorm})
    if last and type(layer) is not Dense:
        raise NotAligned(f"{name}, its last layer, is a {type(layer).__name__} instead of a Dense")
    if type(layer) is Inception:
        _check_inception(name, layer, channels)
    elif type(layer) is Convolution:
        _check_convolution(name, layer, channels)
    else:
        _check_dense(name, layer, channels)


def _check_class(name: str, layer: nn.Module, classes: set[type]) -> None:
    """Refuse another class, also one derived from a known one, and a layer to which something was added."""
    if type(layer) not in classes:
        raise NotAligned(f"{name} is a {type(layer).__name__}")
    parts = layer._parameters.keys() | layer._buffers.keys() | layer._modules.keys() | (vars(layer).keys() - STANDARD)
    if unknown := parts - PARTS[type(layer)]:
        raise NotAligned(f"{name} has an attribute {min(unknown)}, which a {type(layer).__name__} has not")
    if any(getattr(layer, hooks) for hooks in HOOKS):
        raise NotAligned(f"{name} has hooks")


def _check_convolution(name: str, layer: nn.Module, channels: int) -> None:
    _check_class(name, layer, {Convolution})
    if layer.stride != 1:
        raise NotAligned(f"{name} is a Convolution of stride {layer.stride}")
    if layer.norm is not None:
        _check_class(f"{name}.norm", layer.norm, {BatchNorm})
    _check_fan_in(name, layer, channels)


def _check_inception(name: str, layer: Inception, channels: int) -> None:
    into = {part: getattr(layer, part) for part in INTO if layer.with_5x5 or part != "into_5x5"}
    branches = {part: getattr(layer, part) for part in BRANCHES if layer.with_5x5 or part != "branch_5x5"}
    for part, each in (into | branches).items():
        narrow = len(layer.into_3x3.weight) if part in ("branch_3x3", "branch_5x5") else channels
        _check_convolution(f"{name}.{part}", each, narrow)
    merged = [*into.values(), layer.branch_1x1]
    kinds = {(each.bias is None, each.slope is None, each.norm is None, each.weight.shape[2:]) for each in merged}
    widths = [{len(each.weight) for each in group.values()} for group in (into, branches)]
    if len(kinds) > 1 or any(len(found) > 1 for found in widths):
        raise NotAligned(f"{name} has branches of different kinds")
    if layer.pool not in (F.avg_pool2d, max_pool):
        raise NotAligned(f"{name} has another pool than the average or the maximum")


def _check_dense(name: str, layer: Dense, channels: int) -> None:
    if type(layer) is Dense:
        _check_fan_in(name, layer, channels)
        if layer.dropout is not None and type(layer.dropout) is not Dropout:
            raise NotAligned(f"{name}.dropout is a {type(layer.dropout).__name__}")
    elif layer.dropout is not None:
        raise NotAligned(f"{name} has dropout")
    elif (layer.weight.shape[1] - layer.numbers) % channels:
        raise NotAligned(f"{name} does not read {channels} channels, those of the layer before")


def _check_fan_in(name: str, layer: nn.Module, channels: int) -> None:
    if layer.weight.shape[1] != channels:
        raise NotAligned(f"{name} reads {layer.weight.shape[1]} channels, but the layer before has {channels}")
