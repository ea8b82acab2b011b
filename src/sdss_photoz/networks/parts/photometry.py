"""Magnitudes and colours as a first layer, which a network cannot learn well from a few thousand galaxies."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.inputs.stretch import unstretch
from sdss_photoz.surveys import SDSS

SIGMAS = (1.5, 3.0, 6.0, 12.0)  # pixels of the survey, 0.396": from the seeing to most of a galaxy
# magnitude r, and u-g, g-r, r-i, i-z (mag) of the sample's galaxies: approximate median and scatter
MAGNITUDE, MAGNITUDE_SCATTER = 18.25, 1.0
MEDIAN = (1.6, 0.8, 0.4, 0.3)
SCATTER = (0.45, 0.22, 0.09, 0.09)
CLIP = 4.0  # scatters: larger deviations are bands without frames, or neighbouring stars


class Photometry(nn.Module):
    """Magnitude and colours of the galaxy at the centre of a cube in circular Gaussian apertures; no parameters.

    Asinh magnitudes (Lupton et al. 1999, AJ 118, 1406), softened by the aperture's noise, are defined for negative flux
    too. Pixels without coverage in any one band are excluded in all, for unbiased colours at the edges of frames. The
    features are invariant under flips and rotations by 90 degrees.

    Parameters
    ----------
    inputs : Inputs
        Pixels, bands and stretch of the images.

    Attributes
    ----------
    features : int
        Number of features: r (without it, the middle band) and the colours of neighbouring bands, of ugriz u-g, g-r,
        r-i and i-z, in each of four apertures, as deviations from a typical galaxy in units of the scatter.
    """

    def __init__(self, inputs: Inputs):
        super().__init__()
        grid = inputs.grid
        self.stretch, self.features = inputs.stretch, len(SIGMAS) * len(grid.bands)
        self.main = grid.index(grid.main_band)
        offset = torch.arange(grid.size) - grid.centre
        sigmas = torch.tensor(SIGMAS) * (SDSS.pixel_scale / grid.pixel_scale)
        profile = torch.exp(-0.5 * (offset / sigmas[:, None]) ** 2)  # apertures are separable
        noise = torch.tensor(inputs.noise)
        places = [SDSS.index(band) for band in grid.bands]
        r, main = SDSS.index("r"), SDSS.index(grid.main_band)
        magnitude = MAGNITUDE - sum(MEDIAN[r:main]) + sum(MEDIAN[main:r])
        median = [magnitude, *(sum(MEDIAN[first:second]) for first, second in pairwise(places))]
        scatter = [MAGNITUDE_SCATTER, *(sum(SCATTER[first:second]) for first, second in pairwise(places))]
        zero_point = [SDSS.zero_point[band] for band in grid.bands]
        self.register_buffer("profile", profile, persistent=False)
        self.register_buffer("pixel_noise", noise, persistent=False)
        self.register_buffer("noise", profile.square().sum(1, keepdim=True) * noise, persistent=False)
        self.register_buffer("zero_point", torch.tensor(zero_point), persistent=False)
        self.register_buffer("median", torch.tensor(median), persistent=False)
        self.register_buffer("scatter", torch.tensor(scatter), persistent=False)

    def forward(self, cubes: Tensor) -> Tensor:
        """Features (n, features) float32 of cubes (n, y, x, band); computed in float32 also under autocast."""
        with torch.autocast(cubes.device.type, enabled=False):
            return self._features(cubes)

    def _features(self, cubes: Tensor) -> Tensor:
        covered = cubes.prod(dim=-1, keepdim=True) != 0  # in all bands: pixels without coverage are 0
        flux = unstretch(cubes, self.stretch, self.pixel_noise) * covered
        flux = self.profile @ flux.flatten(2)  # (n, aperture, x and band)
        flux = (flux.unflatten(2, cubes.shape[2:]) * self.profile[:, :, None]).sum(2)
        magnitude = self.zero_point - 2.5 / math.log(10) * (torch.asinh(flux / (2 * self.noise)) + self.noise.log())
        each = magnitude.unbind(-1)
        x = torch.stack([each[self.main], *(first - second for first, second in pairwise(each))], dim=-1)
        return ((x - self.median) / self.scatter).clamp(-CLIP, CLIP).flatten(1)
