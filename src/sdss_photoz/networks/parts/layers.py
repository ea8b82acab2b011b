"""Layers of the inception family, which compute what the paper's TensorFlow code computes."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.device import on_gpu
from sdss_photoz.errors import UserError
from sdss_photoz.networks.parts.dropout import Dropout
from sdss_photoz.surveys import PixelGrid

MOMENTUM = 0.1  # of the running mean and variance of a batch normalisation


def max_pool(x: Tensor, side: int, stride: int | None = None) -> Tensor:
    """Max pooling of (n, channels, y, x) over squares; on a GPU, unlike torch's, with a deterministic gradient."""
    if on_gpu(x) and stride is None:
        return block_max_pool(x, side)
    return F.max_pool2d(x, side, stride)


def block_max_pool(x: Tensor, side: int) -> Tensor:
    """Max pooling over adjacent squares, whole ones; equal largest values share the gradient."""
    y, x_end = (length // side * side for length in x.shape[-2:])
    return x[..., :y, :x_end].unflatten(-1, (-1, side)).unflatten(-3, (-1, side)).amax((-3, -1))


class Variant(NamedTuple):
    """Options of a network; the defaults are the network as documented.

    Attributes
    ----------
    pooling : {"average", "max"}
        Kind of all pooling layers.
    activation : {"prelu", "relu"} or None
        Activation after each convolution; None: the network's own.
    batch_norm : bool
        Whether to normalise over the batch between a convolution and its activation.
    dropout : float
        Fraction of the features dropped in training before each of the last two dense layers.
    """

    pooling: str = "average"
    activation: str | None = None
    batch_norm: bool = False
    dropout: float = 0.0

    @property
    def pool(self) -> Callable[[Tensor, int], Tensor]:
        """The function that pools squares of a given side."""
        return max_pool if self.pooling == "max" else F.avg_pool2d


DOCUMENTED = Variant()


class BatchNorm(nn.Module):
    """Batch normalisation of (n, channels, y, x), in evaluation by the running statistics (Ioffe & Szegedy 2015).

    Parameters
    ----------
    channels : int
        Number of channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel, then scale and shift it."""
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, self.training, MOMENTUM)


class Convolution(nn.Module):
    """Convolution with an odd square kernel and zero padding, then PReLU with one slope per channel.

    Parameters are registered in the order in which the paper's code creates them: biases, weights, slopes.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of channels of the input and of the output.
    size : int
        Side of the kernel (pixels), odd.
    stride : int
        1 keeps the size of the image, 2 halves it.
    prelu : bool
        Whether to use PReLU if the variant does not set the activation; otherwise ReLU, which is faster on a CPU.
    variant : Variant
        Activation and batch normalisation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        stride: int = 1,
        prelu: bool = True,
        variant: Variant = DOCUMENTED,
    ):
        super().__init__()
        prelu = prelu if variant.activation is None else variant.activation == "prelu"
        self.bias = None if variant.batch_norm else nn.Parameter(torch.empty(out_channels))  # the mean is subtracted
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, size, size))
        self.slope = nn.Parameter(torch.empty(out_channels)) if prelu else None
        self.norm = BatchNorm(out_channels) if variant.batch_norm else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, y, x) to (n, out_channels, y / stride, x / stride)."""
        x = F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.weight.shape[-1] // 2)
        x = x if self.norm is None else self.norm(x)
        return F.relu(x) if self.slope is None else F.prelu(x, self.slope)


class Dense(nn.Module):
    """A fully connected layer; parameters are registered in the order of the paper's code: weights, biases.

    Parameters
    ----------
    features_in, features : int
        Number of features of the input and of the output.
    dropout : float
        Fraction of the input's features dropped in training.
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


class DenseWithNumbers(Dense):
    """A fully connected layer of (n, channels, y, x), flattened over (y, x, channel), and numbers (n, k).

    Parameters
    ----------
    pixels : int
        Number of pixels of all channels.
    numbers : int
        k; may be 0.
    features : int
        Number of features of the output.
    """

    def __init__(self, pixels: int, numbers: int, features: int):
        super().__init__(pixels + numbers, features)
        self.numbers = numbers

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        """Map (n, channels, y, x) and (n, k) to (n, features)."""
        return super().forward(flatten_with_numbers(x, numbers))


def check_pooled(side: int, grid: PixelGrid, network: str) -> int:
    """Return the side of an image after all poolings (pixels).

    Raises
    ------
    UserError
        If nothing is left of the image.
    """
    if side < 1:
        raise UserError(
            f"cubes of {grid.size} x {grid.size} pixels are too small for the network {network}, which pools them to "
            "nothing: raise cubes.size, or choose another training.network."
        )
    return side


def pool_same(x: Tensor, pool: Callable = F.avg_pool2d) -> Tensor:
    """Pool over 2 x 2 pixels with stride 1 and the same output size.

    The window is the pixel and its neighbours to the right and below; at the edge it is cut, as in TensorFlow, which is
    the same as repeating the last row and column.
    """
    if on_gpu(x):
        return pool_neighbours(x, pool)
    return pool(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, stride=1)


def pool_neighbours(x: Tensor, pool: Callable) -> Tensor:
    """Compute `pool_same` by elementwise operations, which PyTorch's compiler fuses with the layers around it.

    It cannot fuse the gradient of overlapping pooling windows, nor that of replicated edges.
    """
    for axis in (-2, -1):
        last = x.shape[axis] - 1
        beside = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], axis)
        x = (x + beside) / 2 if pool is F.avg_pool2d else torch.maximum(x, beside)
    return x


class Inception(nn.Module):
    """The paper's inception block: parallel branches of 1x1, 3x3 and 5x5 convolutions and a pooling layer.

    Parameters
    ----------
    in_channels : int
        Number of channels of the input.
    narrow, wide : int
        The paper's S1, channels of the 1x1 convolutions that reduce the input of a branch, and S2, those of its output.
    with_5x5 : bool
        Whether to include the 5x5 branch, which the paper's last block lacks.
    prelu, variant : bool, Variant
        See `Convolution`; the variant also sets the kind of pooling.

    Attributes
    ----------
    channels : int
        Number of channels of the output: S2 from the 1x1, 5x5 and 3x3 branches, in this order, then S1
        from the pooling branch.
    """

    def __init__(
        self,
        in_channels: int,
        narrow: int,
        wide: int,
        with_5x5: bool = True,
        prelu: bool = True,
        variant: Variant = DOCUMENTED,
    ):
        super().__init__()
        kind = {"prelu": prelu, "variant": variant}
        self.into_3x3 = Convolution(in_channels, narrow, 1, **kind)
        self.branch_3x3 = Convolution(narrow, wide, 3, **kind)
        self.into_pool = Convolution(in_channels, narrow, 1, **kind)
        if with_5x5:
            self.into_5x5 = Convolution(in_channels, narrow, 1, **kind)
            self.branch_5x5 = Convolution(narrow, wide, 5, **kind)
        self.branch_1x1 = Convolution(in_channels, wide, 1, **kind)
        self.with_5x5, self.pool = with_5x5, variant.pool
        self.channels = (3 if with_5x5 else 2) * wide + narrow

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, y, x) to (n, channels, y, x)."""
        branches = [self.branch_1x1(x)]
        if self.with_5x5:
            branches.append(self.branch_5x5(self.into_5x5(x)))
        branches += [self.branch_3x3(self.into_3x3(x)), pool_same(self.into_pool(x), self.pool)]
        return torch.cat(branches, dim=1)


def channels_first(cubes: Tensor) -> Tensor:
    """View cubes (n, y, x, band) as images (n, band, y, x): torch's channels-last layout, no copy."""
    return cubes.permute(0, 3, 1, 2)


def flatten(x: Tensor) -> Tensor:
    """Flatten (n, channels, y, x) over (y, x, channel): a view of a tensor that is channels-last in memory."""
    return x.permute(0, 2, 3, 1).flatten(1)


def flatten_with_numbers(x: Tensor, numbers: Tensor) -> Tensor:
    """Flatten (n, channels, y, x) over (y, x, channel) and append numbers (n, k) as the last features."""
    return torch.cat([flatten(x), numbers.to(x.dtype)], dim=1)


@torch.no_grad()
def initialise(network: nn.Module, scheme: str, seed: int) -> nn.Module:
    """Draw the initial weights of a network's own layers, the same on every device.

    Parameters
    ----------
    network : nn.Module
        Network on the CPU. Of its layers `Convolution` and `Dense` are drawn; torch's keep the weights they have.
    scheme : {"he", "paper"}
        ``paper``: Xavier (uniform), biases 0.1, PReLU slopes 0. ``he``: normal of variance 2 / fan-in (He et al. 2015),
        biases and slopes 0; the weights of the network's `head` 0, so that all initial outputs are equal.
    seed : int
        Seed of the random weights.

    Returns
    -------
    nn.Module
        The same network.

    Raises
    ------
    ValueError
        If the scheme is unknown.
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
        for parameter in last_layer(network.head).parameters(recurse=False):
            parameter.zero_()
    return network


def last_layer(head: nn.Module) -> nn.Module:
    """The last layer with weights of a network's head, which is one layer or several."""
    return [module for module in head.modules() if list(module.parameters(recurse=False))][-1]
