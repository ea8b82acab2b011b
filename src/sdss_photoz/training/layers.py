"""Layers of the inception family, with the arithmetic of the paper's TensorFlow code."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.training.device import on_gpu
from sdss_photoz.training.dropout import Dropout

MOMENTUM = 0.1  # of the running mean and variance of a batch normalisation


def max_pool(x: Tensor, side: int, stride: int | None = None) -> Tensor:
    """Largest value of each square of maps (n, maps, y, x); on a GPU, unlike torch's, with a deterministic gradient."""
    if on_gpu(x) and stride is None:
        return largest_of_squares(x, side)
    return F.max_pool2d(x, side, stride)


def largest_of_squares(x: Tensor, side: int) -> Tensor:
    """What `max_pool` gives without a stride; among equals the gradient is shared."""
    return x.unflatten(-1, (-1, side)).unflatten(-3, (-1, side)).amax((-3, -1))


class Variant(NamedTuple):
    """What may differ within one network; the defaults are the network as documented.

    Attributes
    ----------
    pooling : {"average", "max"}
        What all pools take from their pixels.
    activation : {"prelu", "relu"} or None
        What follows each convolution; None: the network's own.
    batch_norm : bool
        Whether maps are normalised over the batch between a convolution and its activation.
    dropout : float
        Share of the features dropped before each of the last two dense layers, in training.
    stretch : {"asinh", "sqrt", "gamma", "none"}
        How the flux of the cubes was compressed (`sdss_photoz.training.stretch`), for layers that need it as it was.
    """

    pooling: str = "average"
    activation: str | None = None
    batch_norm: bool = False
    dropout: float = 0.0
    stretch: str = "asinh"

    @property
    def pool(self) -> Callable[[Tensor, int], Tensor]:
        """The function that pools squares of a given side."""
        return max_pool if self.pooling == "max" else F.avg_pool2d


DOCUMENTED = Variant()


class BatchNorm(nn.Module):
    """Batch normalisation of maps (n, maps, y, x); in evaluation by the running mean and variance (Ioffe et al. 2015).

    Parameters
    ----------
    maps : int
        Number of maps.
    """

    def __init__(self, maps: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(maps)), nn.Parameter(torch.zeros(maps))
        self.register_buffer("mean", torch.zeros(maps))
        self.register_buffer("variance", torch.ones(maps))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each map, then scale and shift it."""
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, self.training, MOMENTUM)


class Convolution(nn.Module):
    """Convolution over an odd square with zero padding, then PReLU with one slope per map.

    Parameters are registered as the paper's code creates them: biases, weights, slopes.

    Parameters
    ----------
    maps_in, maps : int
        Maps of the input and of the output.
    size : int
        Side of the square, odd.
    stride : int
        1 keeps the size of the image, 2 halves it.
    prelu : bool
        Whether to learn slopes, where the variant does not say; otherwise they are 0 (ReLU), which a CPU computes
        faster.
    variant : Variant
        Activation and batch normalisation.
    """

    def __init__(
        self, maps_in: int, maps: int, size: int, stride: int = 1, prelu: bool = True, variant: Variant = DOCUMENTED
    ):
        super().__init__()
        prelu = prelu if variant.activation is None else variant.activation == "prelu"
        self.bias = None if variant.batch_norm else nn.Parameter(torch.empty(maps))  # it would be subtracted again
        self.weight = nn.Parameter(torch.empty(maps, maps_in, size, size))
        self.slope = nn.Parameter(torch.empty(maps)) if prelu else None
        self.norm = BatchNorm(maps) if variant.batch_norm else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, maps_in, y, x) to (n, maps, y / stride, x / stride)."""
        x = F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.weight.shape[-1] // 2)
        x = x if self.norm is None else self.norm(x)
        return F.relu(x) if self.slope is None else F.prelu(x, self.slope)


class Dense(nn.Module):
    """A fully connected layer. Parameters are registered as the paper's code creates them: weights, biases.

    Parameters
    ----------
    features_in, features : int
        Features of the input and of the output.
    dropout : float
        Share of the input's features dropped in training.
    """

    def __init__(self, features_in: int, features: int, dropout: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, features_in))
        self.bias = nn.Parameter(torch.empty(features))
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, features_in) to (n, features)."""
        x = x if self.dropout is None else self.dropout(x)
        return F.linear(x, self.weight, self.bias)


class DenseWithEbv(Dense):
    """A fully connected layer that reads maps (n, maps, y, x), flattened over (y, x, map), and E(B-V) (n,)."""

    def forward(self, x: Tensor, ebv: Tensor) -> Tensor:
        """Map (n, maps, y, x) and (n,) to (n, features)."""
        return super().forward(flatten_with_ebv(x, ebv))


def pool_same(x: Tensor, pool: Callable = F.avg_pool2d) -> Tensor:
    """Pool over 2 x 2, stride 1, same size.

    The window runs over the pixel and its neighbours right and below; at the edge it takes real pixels only, as
    TensorFlow does: that is the same as repeating the last row and column.
    """
    if on_gpu(x):
        return pool_neighbours(x, pool)
    return pool(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, stride=1)


def pool_neighbours(x: Tensor, pool: Callable) -> Tensor:
    """What `pool_same` gives, pixel by pixel: a GPU's compiler makes it one pass with the layers around it.

    It cannot compile the gradient of overlapping pools, and that of a repeated edge would be scattered and copied.
    """
    for axis in (-2, -1):
        last = x.shape[axis] - 1
        beside = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], axis)
        x = (x + beside) / 2 if pool is F.avg_pool2d else torch.maximum(x, beside)
    return x


class Inception(nn.Module):
    """The paper's inception block: branches of 1x1, 3x3 and 5x5 convolutions and a pool, side by side.

    Parameters
    ----------
    maps_in : int
        Maps of the input.
    narrow, wide : int
        The paper's S1 (maps of the 1x1 convolutions that lead into a branch) and S2 (maps that leave a branch).
    with_5x5 : bool
        Whether there is a 5x5 branch: the paper's last block has none.
    prelu, variant : bool, Variant
        See `Convolution`; the variant also says how the pool pools.

    Attributes
    ----------
    maps : int
        Maps of the output: S2 from the 1x1, 5x5 and 3x3 branches, in this order, then S1 from the pool.
    """

    def __init__(
        self,
        maps_in: int,
        narrow: int,
        wide: int,
        with_5x5: bool = True,
        prelu: bool = True,
        variant: Variant = DOCUMENTED,
    ):
        super().__init__()
        kind = {"prelu": prelu, "variant": variant}
        self.into_3x3 = Convolution(maps_in, narrow, 1, **kind)
        self.branch_3x3 = Convolution(narrow, wide, 3, **kind)
        self.into_pool = Convolution(maps_in, narrow, 1, **kind)
        if with_5x5:
            self.into_5x5 = Convolution(maps_in, narrow, 1, **kind)
            self.branch_5x5 = Convolution(narrow, wide, 5, **kind)
        self.branch_1x1 = Convolution(maps_in, wide, 1, **kind)
        self.with_5x5, self.pool = with_5x5, variant.pool
        self.maps = (3 if with_5x5 else 2) * wide + narrow

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, maps_in, y, x) to (n, maps, y, x)."""
        branches = [self.branch_1x1(x)]
        if self.with_5x5:
            branches.append(self.branch_5x5(self.into_5x5(x)))
        branches += [self.branch_3x3(self.into_3x3(x)), pool_same(self.into_pool(x), self.pool)]
        return torch.cat(branches, dim=1)


def images_first(cubes: Tensor) -> Tensor:
    """View cubes (n, y, x, band) as images (n, band, y, x): torch's channels-last layout, no copy."""
    return cubes.permute(0, 3, 1, 2)


def flatten(x: Tensor) -> Tensor:
    """Flatten maps (n, maps, y, x) over (y, x, map): a view where they are channels-last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1)


def flatten_with_ebv(x: Tensor, ebv: Tensor) -> Tensor:
    """Flatten maps (n, maps, y, x) over (y, x, map) and append E(B-V) (n,) as the last feature."""
    return torch.cat([flatten(x), ebv.to(x.dtype).reshape(-1, 1)], dim=1)


@torch.no_grad()
def initialise(network: nn.Module, scheme: str, seed: int) -> nn.Module:
    """Draw a network's initial weights, the same on every device.

    Parameters
    ----------
    network : nn.Module
        Made of `Convolution` and `Dense` layers, on the CPU.
    scheme : {"he", "paper"}
        ``paper``: Xavier (uniform), biases 0.1, PReLU slopes 0. ``he``: normal of variance 2 / fan-in (He et al. 2015),
        biases and slopes 0; the last layer's weights 0, so that training starts from equal logits.
    seed : int
        Seed of the draw.

    Returns
    -------
    nn.Module
        The same network.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = [module for module in network.modules() if isinstance(module, Convolution | Dense)]
    for layer in layers:
        area = layer.weight[0, 0].numel()
        fan_in, fan_out = layer.weight.shape[1] * area, layer.weight.shape[0] * area
        if scheme == "paper":
            bound = math.sqrt(6 / (fan_in + fan_out))
            layer.weight.uniform_(-bound, bound, generator=generator)
            bias = 0.1
        elif scheme == "he":
            layer.weight.normal_(0, math.sqrt(2 / fan_in), generator=generator)
            bias = 0.0
        else:
            raise ValueError(f"unknown initialisation {scheme!r}")
        if layer.bias is not None:
            layer.bias.fill_(bias)
        if getattr(layer, "slope", None) is not None:
            layer.slope.zero_()
    if scheme == "he":
        layers[-1].weight.zero_()
    return network
