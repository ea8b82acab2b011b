"""Quick galaxies, the benchmark's, and a quick network for the tests of training."""

import sys
from pathlib import Path

from torch import nn

from sdss_photoz.training.layers import DOCUMENTED, Convolution, Dense, DenseWithEbv, Inception, Variant
from sdss_photoz.training.networks.inception import Network

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from training_galaxies import draw_population, render

__all__ = ["NarrowNetwork", "draw_population", "render"]


class NarrowNetwork(nn.Module):
    """The paper's network with few maps, none of them a multiple of 8, for images of 16 x 16."""

    wide = True
    forward = Network.forward

    def __init__(self, variant: Variant = DOCUMENTED):
        super().__init__()
        self.conv0 = Convolution(5, 6, 5, variant=variant)
        self.inception0 = Inception(6, 3, 5, variant=variant)
        self.inception1 = Inception(18, 4, 9, variant=variant)
        self.inception2 = Inception(31, 4, 9, variant=variant)
        self.inception3 = Inception(31, 3, 4, variant=variant)
        self.inception4 = Inception(15, 5, 7, with_5x5=False, variant=variant)
        self.dense0 = DenseWithEbv(2 * 2 * 19 + 1, 13)
        self.dense1 = Dense(13, 11, variant.dropout)
        self.dense2 = Dense(11, 7, variant.dropout)
        self.pool = variant.pool
