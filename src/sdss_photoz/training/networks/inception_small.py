"""A sibling of the paper's network for some thousand galaxies and a CPU: colours, one inception block, few maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.survey import BANDS
from sdss_photoz.training.layers import (
    DOCUMENTED,
    Convolution,
    Dense,
    Inception,
    Variant,
    flatten_with_ebv,
    images_first,
)
from sdss_photoz.training.photometry import Photometry

# What a network must learn first, brightness and colours, as its first step: rows are r, u-g, g-r, r-i and i-z of the
# stretched flux, weighted as their scatter among galaxies is small.
COLOURS = (
    (0.0, 0.0, 1.0, 0.0, 0.0),
    (1.0, -1.0, 0.0, 0.0, 0.0),
    (0.0, 2.0, -2.0, 0.0, 0.0),
    (0.0, 0.0, 4.0, -4.0, 0.0),
    (0.0, 0.0, 0.0, 4.0, -4.0),
)
EBV_UNIT = 0.1  # mag: brings E(B-V) to the size of the other features
SMOOTHING = 4 / 180  # of the redshift range, 0.009: logits of nearby bins share what is learned


class Network(nn.Module):
    """Two convolutions that halve the image and one inception block; three dense layers, which see colours as well.

    Parameters
    ----------
    bins : int
        Redshift bins.
    variant : Variant
        What differs from the network as documented.
    """

    def __init__(self, bins: int, variant: Variant = DOCUMENTED):
        super().__init__()
        self.conv0 = Convolution(len(BANDS), 16, 5, stride=2, prelu=False, variant=variant)
        self.conv1 = Convolution(16, 32, 3, stride=2, prelu=False, variant=variant)
        self.inception0 = Inception(32, 16, 32, prelu=False, variant=variant)
        self.photometry = Photometry(variant.stretch)
        self.dense0 = Dense(2 * 2 * self.inception0.maps + 1 + self.photometry.features, 256)
        self.dense1 = Dense(256, 128, variant.dropout)
        self.dense2 = Dense(128, bins, variant.dropout)
        self.pool = variant.pool
        self.register_buffer("colours", torch.tensor(COLOURS), persistent=False)
        place = torch.arange(bins) / bins
        kernel = torch.exp(-0.5 * ((place[:, None] - place) / SMOOTHING) ** 2)
        self.register_buffer("smoothing", kernel / kernel.norm(dim=1, keepdim=True), persistent=False)

    def forward(self, cubes: Tensor, ebv: Tensor) -> Tensor:
        """Logits (n, bins) for cubes (n, 64, 64, 5) and E(B-V) (n,)."""
        x = images_first(F.linear(cubes, self.colours))
        x = self.pool(self.conv0(x), 2)
        x = self.pool(self.inception0(self.conv1(x)), 4)
        x = torch.cat([flatten_with_ebv(x, ebv / EBV_UNIT), self.photometry(cubes)], dim=1)
        x = F.relu(self.dense0(x))
        x = F.relu(self.dense1(x))
        return F.linear(self.dense2(x), self.smoothing)
