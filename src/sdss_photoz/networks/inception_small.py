"""A smaller network for a few thousand galaxies and a CPU: colours and one inception block with few channels."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks.parts.layers import (
    DOCUMENTED,
    Convolution,
    Dense,
    Inception,
    Variant,
    channels_first,
    check_pooled,
    flatten_with_numbers,
)
from sdss_photoz.networks.parts.photometry import Photometry
from sdss_photoz.surveys import SDSS, PixelGrid

COLOUR_WEIGHTS = (1.0, 2.0, 4.0, 4.0)  # of u-g, g-r, r-i, i-z: larger for those of smaller scatter among galaxies
EBV_UNIT = 0.1  # mag: scales E(B-V) to the size of the other features
SMOOTHING = 4 / 180  # of the redshift range: a Gaussian of 0.009 over the logits of nearby bins


def colours(grid: PixelGrid) -> list[list[float]]:
    """Brightness and colours, which a network must learn first, as its first layer: a square matrix.

    Rows are r (without it, the middle band) and the colours of neighbouring bands of the stretched flux: of ugriz r,
    u-g, g-r, r-i and i-z. The weight of a colour across bands that are left out is that of its parts in series.
    """
    rows = [[float(band == grid.main_band) for band in grid.bands]]
    for first, second in pairwise(grid.bands):
        weight = 1 / sum(1 / part for part in COLOUR_WEIGHTS[SDSS.index(first) : SDSS.index(second)])
        rows.append([weight * ((band == first) - (band == second)) for band in grid.bands])
    return rows


class Network(nn.Module):
    """Two convolutions of stride 2, one inception block and three dense layers, which read photometry as well.

    Parameters
    ----------
    inputs : Inputs
        What it reads of a galaxy.
    outputs : int
        Redshift bins.
    variant : Variant
        Options that differ from the documented network.

    Attributes
    ----------
    ordered : bool
        Whether outputs are logits of bins in their order, which are smoothed over nearby bins; see `networks.build`.
    """

    ordered = True

    def __init__(self, inputs: Inputs, outputs: int, variant: Variant = DOCUMENTED):
        super().__init__()
        if inputs.channels != "bands":
            raise UserError(
                f"inception_small measures magnitudes and colours, for which it needs the bands themselves, and not "
                f"inputs.channels {inputs.channels!r}: leave it out, or choose another training.network."
            )
        halved = -(-inputs.grid.size // 2)  # by a convolution of stride 2
        side = check_pooled(-(-(halved // 2) // 2) // 4, inputs.grid, "inception_small")
        self.conv0 = Convolution(inputs.shape[2], 16, 5, stride=2, prelu=False, variant=variant)
        self.conv1 = Convolution(16, 32, 3, stride=2, prelu=False, variant=variant)
        self.inception0 = Inception(32, 16, 32, prelu=False, variant=variant)
        self.photometry = Photometry(inputs)
        self.dense0 = Dense(side**2 * self.inception0.channels + len(inputs.numbers) + self.photometry.features, 256)
        self.dense1 = Dense(256, 128, variant.dropout)
        self.dense2 = Dense(128, outputs, variant.dropout)
        self.pool = variant.pool
        units = torch.tensor([EBV_UNIT if name == "ebv" else 1.0 for name in inputs.numbers])
        self.register_buffer("units", units, persistent=False)
        self.register_buffer("colours", torch.tensor(colours(inputs.grid)), persistent=False)
        place = torch.arange(outputs) / outputs
        kernel = torch.exp(-0.5 * ((place[:, None] - place) / SMOOTHING) ** 2)
        self.register_buffer("smoothing", kernel / kernel.norm(dim=1, keepdim=True), persistent=False)

    @property
    def head(self) -> Dense:
        """The last layer."""
        return self.dense2

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Logits (n, outputs) for images (n, y, x, channel) and numbers (n, k)."""
        x = channels_first(F.linear(images, self.colours))
        x = self.pool(self.conv0(x), 2)
        x = self.pool(self.inception0(self.conv1(x)), 4)
        x = torch.cat([flatten_with_numbers(x, numbers / self.units), self.photometry(images)], dim=1)
        x = F.relu(self.dense0(x))
        x = F.relu(self.dense1(x))
        x = self.dense2(x)
        return F.linear(x, self.smoothing) if self.ordered else x
