"""A sibling of the paper's network for small samples: the same blocks, fewer and narrower, cheap on a CPU."""

from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.survey import BANDS
from sdss_photoz.training.layers import Convolution, Dense, Inception, flatten_with_ebv, images_first


class Network(nn.Module):
    """Three inception blocks and two dense layers.

    Parameters
    ----------
    bins : int
        Redshift bins.
    """

    def __init__(self, bins: int):
        super().__init__()
        self.conv0 = Convolution(len(BANDS), 16, 5)
        self.inception0 = Inception(16, 16, 16)
        self.inception1 = Inception(self.inception0.maps, 16, 32)
        self.inception2 = Inception(self.inception1.maps, 16, 32, with_5x5=False)
        self.dense0 = Dense(8 * 8 * self.inception2.maps + 1, 128)
        self.dense1 = Dense(128, bins)

    def forward(self, cubes: Tensor, ebv: Tensor) -> Tensor:
        """Logits (n, bins) for cubes (n, 64, 64, 5) and E(B-V) (n,)."""
        x = F.avg_pool2d(self.conv0(images_first(cubes)), 2)
        x = F.avg_pool2d(self.inception0(x), 2)
        x = F.avg_pool2d(self.inception1(x), 2)
        x = flatten_with_ebv(self.inception2(x), ebv)
        return self.dense1(F.relu(self.dense0(x)))
