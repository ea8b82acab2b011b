"""Magnitudes and colours as a first layer: what a network of some thousand galaxies should not have to learn."""

import math

import torch
from torch import Tensor, nn

from sdss_photoz.survey import BANDS, CUBE_SIZE, ZERO_POINT
from sdss_photoz.training.stretch import NOISE, unstretch

SIGMAS = (1.5, 3.0, 6.0, 12.0)  # pixels of 0.396": from the seeing to most of a galaxy
# r, u-g, g-r, r-i and i-z (mag) of the sample's galaxies, about: middle and scatter
MIDDLE = (18.25, 1.6, 0.8, 0.4, 0.3)
SCATTER = (1.0, 0.45, 0.22, 0.09, 0.09)
FARTHEST = 4.0  # scatters: beyond, a band without frames or a neighbouring star says no more than that


class Photometry(nn.Module):
    """Magnitude and colours of the galaxy at the centre of a cube, in round Gaussian apertures; no parameters.

    Asinh magnitudes (Lupton et al. 1999, AJ 118, 1406), softened by the aperture's noise, so that no flux is refused.
    Pixels that lack a band count in none, so that colours are right at the edge of a frame, whose bands end at
    different places. No symmetry of the square changes them.

    Parameters
    ----------
    stretch : str
        How the flux of the cubes was compressed.

    Attributes
    ----------
    features : int
        Number of features: r, u-g, g-r, r-i and i-z in each of four apertures, as deviations from a typical galaxy in
        units of the scatter.
    """

    def __init__(self, stretch: str):
        super().__init__()
        self.stretch, self.features = stretch, len(SIGMAS) * len(BANDS)
        offset = torch.arange(CUBE_SIZE) - (CUBE_SIZE - 1) / 2
        profile = torch.exp(-0.5 * (offset / torch.tensor(SIGMAS)[:, None]) ** 2)  # apertures are products of two
        noise = torch.tensor(NOISE)
        self.register_buffer("profile", profile, persistent=False)
        self.register_buffer("pixel_noise", noise, persistent=False)
        self.register_buffer("noise", profile.square().sum(1, keepdim=True) * noise, persistent=False)
        self.register_buffer("middle", torch.tensor(MIDDLE), persistent=False)
        self.register_buffer("scatter", torch.tensor(SCATTER), persistent=False)

    def forward(self, cubes: Tensor) -> Tensor:
        """Features (n, features) float32 of cubes (n, 64, 64, 5); in float32 whatever the arithmetic around it."""
        with torch.autocast(cubes.device.type, enabled=False):
            return self._features(cubes)

    def _features(self, cubes: Tensor) -> Tensor:
        covered = cubes.prod(dim=-1, keepdim=True) != 0  # by frames of all bands: elsewhere a band is 0
        flux = unstretch(cubes, self.stretch, self.pixel_noise) * covered
        flux = self.profile @ flux.flatten(2)  # (n, aperture, x and band)
        flux = (flux.unflatten(2, (CUBE_SIZE, len(BANDS))) * self.profile[:, :, None]).sum(2)
        magnitude = ZERO_POINT - 2.5 / math.log(10) * (torch.asinh(flux / (2 * self.noise)) + self.noise.log())
        u, g, r, i, z = magnitude.unbind(-1)
        x = torch.stack([r, u - g, g - r, r - i, i - z], dim=-1)
        return ((x - self.middle) / self.scatter).clamp(-FARTHEST, FARTHEST).flatten(1)
