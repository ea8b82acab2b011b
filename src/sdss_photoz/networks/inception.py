"""The network of Pasquet et al. 2018 (A&A 621, A26), as its published code builds it."""

from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks.parts.layers import (
    DOCUMENTED,
    Convolution,
    Dense,
    DenseWithNumbers,
    Inception,
    Variant,
    channels_first,
    check_pooled,
)


class Network(nn.Module):
    """Five inception blocks and three dense layers: 27,596,372 parameters at 180 bins and 64 x 64 pixels of 5 bands.

    Parameters
    ----------
    inputs : Inputs
        What it reads of a galaxy.
    outputs : int
        Redshift bins.
    variant : Variant
        Options that differ from the published network.
    """

    wide = True  # has so many channels that it is trained as an `AlignedNetwork`

    def __init__(self, inputs: Inputs, outputs: int, variant: Variant = DOCUMENTED):
        super().__init__()
        side = check_pooled(inputs.grid.size // 2 // 2 // 2, inputs.grid, "inception")
        self.conv0 = Convolution(inputs.shape[2], 64, 5, variant=variant)
        self.inception0 = Inception(64, 48, 64, variant=variant)
        self.inception1 = Inception(self.inception0.channels, 64, 92, variant=variant)
        self.inception2 = Inception(self.inception1.channels, 92, 128, variant=variant)
        self.inception3 = Inception(self.inception2.channels, 92, 128, variant=variant)
        self.inception4 = Inception(self.inception3.channels, 92, 128, with_5x5=False, variant=variant)
        self.dense0 = DenseWithNumbers(side**2 * self.inception4.channels, len(inputs.numbers), 1096)
        self.dense1 = Dense(1096, 1096, variant.dropout)
        self.dense2 = Dense(1096, outputs, variant.dropout)
        self.pool = variant.pool

    @property
    def head(self) -> Dense:
        """The last layer."""
        return self.dense2

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Logits (n, outputs) for images (n, y, x, channel) and numbers (n, k)."""
        x = self.pool(self.conv0(channels_first(images)), 2)
        x = self.pool(self.inception1(self.inception0(x)), 2)
        x = self.pool(self.inception3(self.inception2(x)), 2)
        x = F.relu(self.dense0(self.inception4(x), numbers))
        x = F.relu(self.dense1(x))
        return self.dense2(x)
