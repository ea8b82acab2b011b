"""The form in which a wide network is trained: channels padded to multiples of 8, parallel convolutions merged.

Matrix units are fastest with multiples of 8 numbers, and 1x1 convolutions with the same input are one matrix product
over the pixels. The form computes the same function as the plain layers. Its weights are theirs, padded with zeros:
`AlignedNetwork.pack` pads, `AlignedNetwork.unpack` removes the padding. Padding channels are 0, and so is the gradient
of all weights that read or produce them, so that Adam leaves these weights at exactly 0.
"""

import copy
from collections.abc import Hashable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.device import on_gpu
from sdss_photoz.networks.parts.layers import (
    BatchNorm,
    Convolution,
    Dense,
    DenseWithNumbers,
    Inception,
    flatten,
    pool_same,
)
from sdss_photoz.training.fast.fourier import convolve
from sdss_photoz.training.fast.known import NotAligned, check_known

CACHE = 2**19  # bytes of activations that fit in the cache of a CPU core
MULTIPLE = 8  # of channels for full speed of matrix units in bfloat16


class Place(NamedTuple):
    """Location of a part of a plain tensor in a padded one.

    Attributes
    ----------
    name : str
        Name of the padded tensor.
    rows : Tensor
        Rows of the part (outputs), int64.
    columns : Tensor or None
        Columns of the part (inputs), int64; None for a vector.
    of : tuple
        Index of the part in the plain tensor.
    """

    name: str
    rows: Tensor
    columns: Tensor | None = None
    of: tuple = ()

    @property
    def index(self) -> tuple[Tensor, ...]:
        """Index of the part in the padded tensor."""
        return (self.rows,) if self.columns is None else (self.rows[:, None], self.columns)


class Channels(NamedTuple):
    """Padded channels, or features, between two layers.

    Attributes
    ----------
    real : Tensor
        Indices of the channels of the plain network, int64.
    count : int
        Number of channels, padding included.
    multiple : int
        Numbers of channels are padded to multiples of it.
    """

    real: Tensor
    count: int
    multiple: int

    @classmethod
    def concatenated(cls, *counts: int, multiple: int) -> "Channels":
        """Groups of `counts` channels, each padded, one after the other."""
        starts = torch.tensor([0, *(padded(count, multiple) for count in counts)]).cumsum(0)
        groups = [start + torch.arange(count) for start, count in zip(starts[:-1], counts, strict=True)]
        return cls(torch.cat(groups), int(starts[-1]), multiple)


def padded(count: int, multiple: int) -> int:
    """The least multiple of `multiple` that is at least `count`."""
    return -(-count // multiple) * multiple


class _PReLU(torch.autograd.Function):
    """PReLU whose gradient a CPU computes in vectorised passes over blocks of galaxies that fit in its cache."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    def backward(ctx, gradient):
        x, slope = ctx.saved_tensors
        grad_x, block = torch.empty_like(x), max(1, CACHE // x[0].nbytes)
        grad_slope = torch.zeros_like(slope, dtype=torch.promote_types(slope.dtype, torch.float32))
        for grad, values, out in zip(gradient.split(block), x.split(block), grad_x.split(block), strict=True):
            above = torch.ops.aten.threshold_backward(grad, values, 0.0)
            below = grad - above
            torch.addcmul(above, below, slope.view(-1, 1, 1), out=out)
            grad_slope += below.mul_(values).sum((0, 2, 3), dtype=grad_slope.dtype)
        return grad_x, grad_slope.to(slope.dtype)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU of activations (n, channels, y, x) with one slope per channel."""
    return F.prelu(x, slope) if on_gpu(x) else _PReLU.apply(x, slope)


class AlignedConvolutions(nn.Module):
    """Convolutions of one size and input, merged into one, with their batch normalisation and activation.

    Parameters
    ----------
    plain : dict of str to Convolution
        The plain layers by name; the empty name for a single layer.
    in_channels : Channels
        Their input.
    fourier : bool
        Whether to convolve through the Fourier transform.
    """

    def __init__(self, plain: dict[str, Convolution], in_channels: Channels, fourier: bool = False):
        super().__init__()
        self.fourier = fourier
        counts = [len(layer.weight) for layer in plain.values()]
        self.channels = Channels.concatenated(*counts, multiple=in_channels.multiple)
        self.split = [padded(count, in_channels.multiple) for count in counts]
        layer = next(iter(plain.values()))
        first = layer.weight
        self.bias = None if layer.bias is None else nn.Parameter(first.new_zeros(self.channels.count))
        self.weight = nn.Parameter(first.new_zeros(self.channels.count, in_channels.count, *first.shape[2:]))
        self.slope = None if layer.slope is None else nn.Parameter(first.new_zeros(self.channels.count))
        self.norm = None if layer.norm is None else BatchNorm(self.channels.count).to(first)
        vectors = [name for name in layer.state_dict() if name != "weight"]
        self.exact = [name for name in vectors if name.startswith("norm.")]
        self.places = {}
        for name, rows in zip(plain, self.channels.real.split(counts), strict=True):
            prefix = f"{name}." if name else ""
            self.places[f"{prefix}weight"] = [Place("weight", rows, in_channels.real)]
            self.places |= {f"{prefix}{kind}": [Place(kind, rows)] for kind in vectors}

    def branches(self, x: Tensor) -> list[Tensor]:
        """Map (n, in_channels, y, x) to the padded output (n, channels, y, x) of each convolution."""
        x, missing, size = x.to(self.weight.dtype), self.weight.shape[1] - x.shape[1], self.weight.shape[-1]
        if missing:
            x = F.pad(x, (0, 0, 0, 0, 0, missing))
        if size == 1:
            x = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        elif self.fourier:
            x = convolve(x, self.weight)
            x = x if self.bias is None else x + self.bias.view(-1, 1, 1)
        else:
            x = F.conv2d(x, self.weight, self.bias, padding=size // 2)
        x = x if self.norm is None else self.norm(x)
        if self.slope is None:
            return list(F.relu(x).split(self.split, dim=1))
        return list(map(prelu, x.split(self.split, dim=1), self.slope.split(self.split)))

    def forward(self, x: Tensor) -> Tensor:
        """Output (n, channels, y, x) of a single convolution."""
        return self.branches(x)[0]


class AlignedInception(nn.Module):
    """An inception block whose four 1x1 convolutions are merged."""

    def __init__(self, plain: Inception, in_channels: Channels, fourier: bool):
        super().__init__()
        narrow, wide = len(plain.into_3x3.weight), len(plain.branch_1x1.weight)
        branches = ("3x3", "5x5") if plain.with_5x5 else ("3x3",)
        names = ["branch_1x1", *(f"into_{branch}" for branch in branches), "into_pool"]
        self.into = AlignedConvolutions({name: getattr(plain, name) for name in names}, in_channels)
        self.places = {
            name: [place._replace(name=f"into.{place.name}") for place in places]
            for name, places in self.into.places.items()
        }
        self.exact = [f"into.{name}" for name in self.into.exact]
        for name in (f"branch_{branch}" for branch in branches):
            narrow_channels = Channels.concatenated(narrow, multiple=in_channels.multiple)
            layer = AlignedConvolutions({"": getattr(plain, name)}, narrow_channels, fourier and name == "branch_5x5")
            setattr(self, name, layer)
            for kind, (place,) in layer.places.items():
                self.places[f"{name}.{kind}"] = [place._replace(name=f"{name}.{place.name}")]
            self.exact += [f"{name}.{kind}" for kind in layer.exact]
        self.pool = plain.pool
        self.channels = Channels.concatenated(*[wide] * (1 + len(branches)), narrow, multiple=in_channels.multiple)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, y, x) to (n, channels, y, x)."""
        one, three, *five, pool = self.into.branches(x)
        five = [self.branch_5x5(part) for part in five]
        return torch.cat([one, *five, self.branch_3x3(three), pool_same(pool, self.pool)], dim=1)


class AlignedDense(nn.Module):
    """A fully connected layer; the last one computes in float32 at least and its outputs are not padded."""

    def __init__(self, plain: Dense, features_in: Channels, last: bool):
        super().__init__()
        count = len(plain.bias)
        self.channels = Channels.concatenated(count, multiple=1 if last else features_in.multiple)
        self.weight = nn.Parameter(plain.weight.new_zeros(self.channels.count, features_in.count))
        self.bias = nn.Parameter(plain.bias.new_zeros(self.channels.count))
        self.places = {
            "weight": [Place("weight", self.channels.real, features_in.real)],
            "bias": [Place("bias", self.channels.real)],
        }
        self.exact = ("weight", "bias") if last else ()
        self.dropout = plain.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, features_in) to (n, features)."""
        x = x if self.dropout is None else self.dropout(x)
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class AlignedDenseWithNumbers(nn.Module):
    """The dense layer that reads all pixels of all channels and numbers, whose product is added in float32."""

    def __init__(self, plain: DenseWithNumbers, in_channels: Channels):
        super().__init__()
        count = plain.numbers
        pixels = (plain.weight.shape[1] - count) // len(in_channels.real)
        columns = (in_channels.count * torch.arange(pixels)[:, None] + in_channels.real).flatten()
        self.channels = Channels.concatenated(len(plain.bias), multiple=in_channels.multiple)
        self.weight = nn.Parameter(plain.weight.new_zeros(self.channels.count, pixels * in_channels.count))
        self.bias = nn.Parameter(plain.bias.new_zeros(self.channels.count))
        rows, flat = self.channels.real, pixels * len(in_channels.real)
        self.places = {
            "weight": [Place("weight", rows, columns, (slice(None), slice(flat)))],
            "bias": [Place("bias", rows)],
        }
        self.exact = ["bias"]
        for number in range(count):  # a vector each: the product of one is fused with the sum
            name = f"number{number}"
            self.register_parameter(name, nn.Parameter(plain.bias.new_zeros(self.channels.count)))
            self.places["weight"].append(Place(name, rows, None, (slice(None), flat + number)))
            self.exact.append(name)
        self.count = count

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        """Map (n, channels, y, x), channels-last in memory, and numbers (n, k) to (n, features)."""
        x = F.linear(flatten(x), self.weight) + self.bias
        for number in range(self.count):
            vector = getattr(self, f"number{number}")
            x = torch.addcmul(x, numbers[:, number : number + 1].to(vector.dtype), vector)
        return x


class AlignedNetwork(nn.Module):
    """A network in its aligned form.

    Parameters
    ----------
    plain : nn.Module
        A network whose children each read the output of the one before. It is not modified.
    multiple : int
        Numbers of channels and features are padded to multiples of it; 1: no padding.
    fourier : bool
        Whether to compute the 5x5 convolutions of inception blocks through the Fourier transform, on a CPU
        in float32 or float64.

    Attributes
    ----------
    exact : set of str
        Names of the parameters that stay float32 where the others are bfloat16.

    Raises
    ------
    NotAligned
        If the network has a layer, a parameter or a buffer that the form does not know, or one that is not trained.
    """

    def __init__(self, plain: nn.Module, multiple: int = MULTIPLE, fourier: bool = False):
        super().__init__()
        self.network = copy.deepcopy(plain)
        self.shapes = {name: value.shape for name, value in plain.state_dict().items()}
        self.places, self.exact, channels = {}, set(), None
        *_, last = None, *plain.children()
        for name, layer in plain.named_children():
            if channels is None and type(layer) is not Convolution:
                raise NotAligned(f"{name}, its first layer, is a {type(layer).__name__} instead of a Convolution")
            channels = channels or Channels.concatenated(layer.weight.shape[1], multiple=multiple)
            check_known(name, layer, len(channels.real), layer is last)
            aligned = _align(layer, channels, layer is last, fourier)
            setattr(self.network, name, aligned)
            channels, prefix = aligned.channels, f"network.{name}."
            self.exact |= {prefix + kind for kind in aligned.exact}
            for kind, places in aligned.places.items():
                self.places[f"{name}.{kind}"] = [place._replace(name=prefix + place.name) for place in places]
        if others := self.shapes.keys() - self.places.keys():
            raise NotAligned(f"{min(others)} belongs to none of its layers")
        if frozen := [name for name, weight in plain.named_parameters() if not weight.requires_grad]:
            raise NotAligned(f"{frozen[0]} is not trained")
        self.load_state_dict(self.pack(plain.state_dict()))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Outputs of the network."""
        return self.network(images, numbers)

    def pack(self, plain: dict[str, Tensor]) -> dict[str, Tensor]:
        """Pad plain tensors with zeros: weights, or moments of some of them, by name."""
        aligned = {}
        shapes = {name: value.shape for name, value in self.state_dict().items()}
        for name, value in plain.items():
            for place in self.places[name]:
                if place.name not in aligned:
                    aligned[place.name] = value.new_zeros(shapes[place.name])
                aligned[place.name][place.index] = value[place.of]
        return aligned

    def by_tensor(self, values: dict[str, Hashable]) -> dict[str, Hashable]:
        """Values that belong to plain parameters, by the names of the padded tensors that hold these.

        Raises
        ------
        NotAligned
            If a tensor would hold parameters of different values.
        """
        found, first = {}, {}
        for name, value in values.items():
            for place in self.places[name]:
                if found.setdefault(place.name, value) != value:
                    raise NotAligned(f"one tensor holds {first[place.name]} and {name}, which are of different groups")
                first.setdefault(place.name, name)
        return found

    def unpack(self, aligned: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remove the padding; the inverse of `pack`."""
        plain = {}
        for name, places in self.places.items():
            if all(place.name in aligned for place in places):
                plain[name] = aligned[places[0].name].new_empty(self.shapes[name])
                for place in places:
                    plain[name][place.of] = aligned[place.name][place.index]
        return plain


def _align(layer: nn.Module, channels: Channels, last: bool, fourier: bool) -> nn.Module:
    """The aligned form of a layer that `check_known` knows."""
    if type(layer) is Convolution:
        return AlignedConvolutions({"": layer}, channels)
    if type(layer) is Inception:
        return AlignedInception(layer, channels, fourier)
    if type(layer) is DenseWithNumbers:
        return AlignedDenseWithNumbers(layer, channels)
    return AlignedDense(layer, channels, last)
