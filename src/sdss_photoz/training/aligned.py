"""The form in which a wide network is trained: maps padded to multiples of 8, parallel convolutions merged.

Matrix units read rows of 8 numbers at full width, and a 1x1 convolution is a product of matrices over pixels, one for
all that read the same maps. The form computes what the network's plain layers compute. Its weights are theirs among
zeros: `AlignedNetwork.pack` puts plain tensors in, `AlignedNetwork.unpack` takes them out. A padded map is 0, and so is
the gradient of every weight that makes or reads it, so Adam leaves those weights at exactly 0.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.training.device import on_gpu
from sdss_photoz.training.fourier import convolve
from sdss_photoz.training.layers import BatchNorm, Convolution, Dense, DenseWithEbv, Inception, flatten, pool_same

CACHE = 2**19  # bytes of maps that a CPU's core keeps at hand
ROW = 8  # numbers that a matrix unit reads at once, in bfloat16


class Place(NamedTuple):
    """Where a part of a plain tensor lies in an aligned one.

    Attributes
    ----------
    name : str
        The aligned tensor.
    rows : Tensor
        Its rows (outputs), int64.
    columns : Tensor or None
        Its columns (inputs), int64; None where it has none.
    of : tuple
        Index of the part in the plain tensor.
    """

    name: str
    rows: Tensor
    columns: Tensor | None = None
    of: tuple = ()

    @property
    def index(self) -> tuple[Tensor, ...]:
        """Index of the part in the aligned tensor."""
        return (self.rows,) if self.columns is None else (self.rows[:, None], self.columns)


class Maps(NamedTuple):
    """Maps or features between two layers.

    Attributes
    ----------
    real : Tensor
        Places of the real ones among all, int64.
    count : int
        All of them, padding included.
    row : int
        What counts are padded to multiples of.
    """

    real: Tensor
    count: int
    row: int

    @classmethod
    def beside(cls, *counts: int, row: int) -> "Maps":
        """Groups of `counts` real maps side by side, each padded."""
        starts = torch.tensor([0, *(padded(count, row) for count in counts)]).cumsum(0)
        groups = [start + torch.arange(count) for start, count in zip(starts[:-1], counts, strict=True)]
        return cls(torch.cat(groups), int(starts[-1]), row)


def padded(count: int, row: int) -> int:
    """The least multiple of `row` that is not below `count`."""
    return -(-count // row) * row


class _PReLU(torch.autograd.Function):
    """PReLU with a gradient in passes that a CPU vectorises, on as many galaxies as its cache holds."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    def backward(ctx, gradient):
        x, slope = ctx.saved_tensors
        of_x, some = torch.empty_like(x), max(1, CACHE // x[0].nbytes)
        of_slope = torch.zeros_like(slope, dtype=torch.promote_types(slope.dtype, torch.float32))
        for come, maps, goes in zip(gradient.split(some), x.split(some), of_x.split(some), strict=True):
            above = torch.ops.aten.threshold_backward(come, maps, 0.0)
            below = come - above
            torch.addcmul(above, below, slope.view(-1, 1, 1), out=goes)
            of_slope += below.mul_(maps).sum((0, 2, 3), dtype=of_slope.dtype)
        return of_x, of_slope.to(slope.dtype)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """PReLU of maps (n, maps, y, x) with one slope per map."""
    return F.prelu(x, slope) if on_gpu(x) else _PReLU.apply(x, slope)


class AlignedConvolutions(nn.Module):
    """Convolutions of one size that read the same maps, as one; then, as they have it, batch normalisation and PReLU.

    Parameters
    ----------
    plain : dict
        The plain `Convolution` layers by name; an empty name for a layer that stands alone.
    maps_in : Maps
        What they read.
    fourier : bool
        Whether to convolve through the Fourier transform.
    """

    def __init__(self, plain: dict[str, Convolution], maps_in: Maps, fourier: bool = False):
        super().__init__()
        self.fourier = fourier
        counts = [len(layer.weight) for layer in plain.values()]
        self.maps = Maps.beside(*counts, row=maps_in.row)
        self.split = [padded(count, maps_in.row) for count in counts]
        layer = next(iter(plain.values()))
        first = layer.weight
        self.bias = None if layer.bias is None else nn.Parameter(first.new_zeros(self.maps.count))
        self.weight = nn.Parameter(first.new_zeros(self.maps.count, maps_in.count, *first.shape[2:]))
        self.slope = None if layer.slope is None else nn.Parameter(first.new_zeros(self.maps.count))
        self.norm = None if layer.norm is None else BatchNorm(self.maps.count).to(first)
        of_maps = [name for name in layer.state_dict() if name != "weight"]
        self.exact = [name for name in of_maps if name.startswith("norm.")]
        self.places = {}
        for name, rows in zip(plain, self.maps.real.split(counts), strict=True):
            prefix = f"{name}." if name else ""
            self.places[f"{prefix}weight"] = [Place("weight", rows, maps_in.real)]
            self.places |= {f"{prefix}{kind}": [Place(kind, rows)] for kind in of_maps}

    def branches(self, x: Tensor) -> list[Tensor]:
        """Map (n, maps_in, y, x) to the padded maps of each convolution (n, maps, y, x)."""
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
        """The maps of a convolution that stands alone."""
        return self.branches(x)[0]


class AlignedInception(nn.Module):
    """An inception block whose 1x1 convolutions are one; its 5x5 one may go through the Fourier transform."""

    def __init__(self, plain: Inception, maps_in: Maps, fourier: bool):
        super().__init__()
        narrow, wide = len(plain.into_3x3.weight), len(plain.branch_1x1.weight)
        branches = ("3x3", "5x5") if plain.with_5x5 else ("3x3",)
        names = ["branch_1x1", *(f"into_{branch}" for branch in branches), "into_pool"]
        self.into = AlignedConvolutions({name: getattr(plain, name) for name in names}, maps_in)
        self.places = {
            name: [place._replace(name=f"into.{place.name}") for place in places]
            for name, places in self.into.places.items()
        }
        self.exact = [f"into.{name}" for name in self.into.exact]
        for name in (f"branch_{branch}" for branch in branches):
            maps = Maps.beside(narrow, row=maps_in.row)
            layer = AlignedConvolutions({"": getattr(plain, name)}, maps, fourier and name == "branch_5x5")
            setattr(self, name, layer)
            for kind, (place,) in layer.places.items():
                self.places[f"{name}.{kind}"] = [place._replace(name=f"{name}.{place.name}")]
            self.exact += [f"{name}.{kind}" for kind in layer.exact]
        self.pool = plain.pool
        self.maps = Maps.beside(*[wide] * (1 + len(branches)), narrow, row=maps_in.row)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, maps_in, y, x) to (n, maps, y, x)."""
        one, three, *five, pool = self.into.branches(x)
        five = [self.branch_5x5(part) for part in five]
        return torch.cat([one, *five, self.branch_3x3(three), pool_same(pool, self.pool)], dim=1)


class AlignedDense(nn.Module):
    """A fully connected layer; the last one of a network computes in float32 at least and pads no logits."""

    def __init__(self, plain: Dense, features_in: Maps, last: bool):
        super().__init__()
        count = len(plain.bias)
        self.maps = Maps.beside(count, row=1 if last else features_in.row)
        self.weight = nn.Parameter(plain.weight.new_zeros(self.maps.count, features_in.count))
        self.bias = nn.Parameter(plain.bias.new_zeros(self.maps.count))
        self.places = {
            "weight": [Place("weight", self.maps.real, features_in.real)],
            "bias": [Place("bias", self.maps.real)],
        }
        self.exact = ("weight", "bias") if last else ()
        self.dropout = plain.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, features_in) to (n, features)."""
        x = x if self.dropout is None else self.dropout(x)
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


class AlignedDenseWithEbv(nn.Module):
    """The layer that reads all pixels of all maps and, by weights apart that are added in float32, E(B-V)."""

    def __init__(self, plain: DenseWithEbv, maps_in: Maps):
        super().__init__()
        pixels = (plain.weight.shape[1] - 1) // len(maps_in.real)
        columns = (maps_in.count * torch.arange(pixels)[:, None] + maps_in.real).flatten()
        self.maps = Maps.beside(len(plain.bias), row=maps_in.row)
        self.weight = nn.Parameter(plain.weight.new_zeros(self.maps.count, pixels * maps_in.count))
        self.bias = nn.Parameter(plain.bias.new_zeros(self.maps.count))
        self.ebv = nn.Parameter(plain.bias.new_zeros(self.maps.count))
        rows = self.maps.real
        self.places = {
            "weight": [
                Place("weight", rows, columns, (slice(None), slice(-1))),
                Place("ebv", rows, None, (slice(None), -1)),
            ],
            "bias": [Place("bias", rows)],
        }
        self.exact = ("ebv", "bias")

    def forward(self, x: Tensor, ebv: Tensor) -> Tensor:
        """Map maps (n, maps, y, x), channels-last in memory, and E(B-V) (n,) to (n, features)."""
        x = F.linear(flatten(x), self.weight)
        return torch.addcmul(x + self.bias, ebv[:, None].to(self.ebv.dtype), self.ebv)


class AlignedNetwork(nn.Module):
    """A network in its aligned form.

    Parameters
    ----------
    plain : nn.Module
        A network whose layers, in the order of its children, each read the one before; it stays as it is.
    row : int
        What counts of maps and features are padded to multiples of; 1: no padding.
    fourier : bool
        Whether the 5x5 convolutions of inception blocks go through the Fourier transform: in float32 or float64.

    Attributes
    ----------
    exact : set of str
        Parameters that must stay float32 whatever the arithmetic of the others.
    """

    def __init__(self, plain: nn.Module, row: int = ROW, fourier: bool = False):
        super().__init__()
        self.network = copy.deepcopy(plain)
        self.shapes = {name: value.shape for name, value in plain.state_dict().items()}
        self.places, self.exact, maps = {}, set(), None
        *_, last = plain.children()
        for name, layer in plain.named_children():
            maps = maps or Maps.beside(layer.weight.shape[1], row=row)
            aligned = _align(layer, maps, layer is last, fourier)
            setattr(self.network, name, aligned)
            maps, prefix = aligned.maps, f"network.{name}."
            self.exact |= {prefix + kind for kind in aligned.exact}
            for kind, places in aligned.places.items():
                self.places[f"{name}.{kind}"] = [place._replace(name=prefix + place.name) for place in places]
        self.load_state_dict(self.pack(plain.state_dict()))
        self.to(memory_format=torch.channels_last)

    def forward(self, cubes: Tensor, ebv: Tensor) -> Tensor:
        """Logits (n, bins) of cubes (n, 64, 64, 5) and E(B-V) (n,)."""
        return self.network(cubes, ebv)

    def pack(self, plain: dict[str, Tensor]) -> dict[str, Tensor]:
        """Aligned tensors, zero where padded, of plain ones: weights, or moments of some of them, by name."""
        aligned = {}
        shapes = {name: value.shape for name, value in self.state_dict().items()}
        for name, value in plain.items():
            for place in self.places[name]:
                if place.name not in aligned:
                    aligned[place.name] = value.new_zeros(shapes[place.name])
                aligned[place.name][place.index] = value[place.of]
        return aligned

    def unpack(self, aligned: dict[str, Tensor]) -> dict[str, Tensor]:
        """Plain tensors of aligned ones; see `pack`."""
        plain = {}
        for name, places in self.places.items():
            if all(place.name in aligned for place in places):
                plain[name] = aligned[places[0].name].new_empty(self.shapes[name])
                for place in places:
                    plain[name][place.of] = aligned[place.name][place.index]
        return plain


def _align(layer: nn.Module, maps: Maps, last: bool, fourier: bool) -> nn.Module:
    if isinstance(layer, Convolution):
        return AlignedConvolutions({"": layer}, maps)
    if isinstance(layer, Inception):
        return AlignedInception(layer, maps, fourier)
    if isinstance(layer, DenseWithEbv):
        return AlignedDenseWithEbv(layer, maps)
    return AlignedDense(layer, maps, last)
