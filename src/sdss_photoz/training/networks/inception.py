"""The network of Pasquet et al. 2018 (A&A 621, A26), as its published code builds it."""

from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.survey import BANDS
from sdss_photoz.training.layers import DOCUMENTED, Convolution, Dense, DenseWithEbv, Inception, Variant, images_first


class Network(nn.Module):
    """Five inception blocks and three dense layers: 27,596,372 parameters at 180 bins.

    Parameters
    ----------
    bins : int
        Redshift bins.
    variant : Variant
        What differs from the published network.
    """

    wide = True  # enough maps that training it in its aligned form pays

    def __init__(self, bins: int, variant: Variant = DOCUMENTED):
        super().__init__()
        self.conv0 = Convolution(len(BANDS), 64, 5, variant=variant)
        self.inception0 = Inception(64, 48, 64, variant=variant)
        self.inception1 = Inception(self.inception0.maps, 64, 92, variant=variant)
        self.inception2 = Inception(self.inception1.maps, 92, 128, variant=variant)
        self.inception3 = Inception(self.inception2.maps, 92, 128, variant=variant)
        self.inception4 = Inception(self.inception3.maps, 92, 128, with_5x5=False, variant=variant)
        self.dense0 = DenseWithEbv(8 * 8 * self.inception4.maps + 1, 1096)
        self.dense1 = Dense(1096, 1096, variant.dropout)
        self.dense2 = Dense(1096, bins, variant.dropout)
        self.pool = variant.pool

    def forward(self, cubes: Tensor, ebv: Tensor) -> Tensor:
        """Logits (n, bins) for cubes (n, 64, 64, 5) and E(B-V) (n,)."""
        x = self.pool(self.conv0(images_first(cubes)), 2)
        x = self.pool(self.inception1(self.inception0(x)), 2)
        x = self.pool(self.inception3(self.inception2(x)), 2)
        x = F.relu(self.dense0(self.inception4(x), ebv))
        x = F.relu(self.dense1(x))
        return self.dense2(x)
