"""Rotations by any angle, shifts, zooms and noise of training images, each drawn from a word beside its galaxy's index.

The draws are hashes of the word (`sdss_photoz.inputs.hashing`), so that a step needs no random generator: it can be
captured in a CUDA graph, and a training that is resumed sees the images of one that was not stopped.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a configuration is read without torch
    from torch import Tensor

ANGLE, SHIFT_Y, SHIFT_X, ZOOM, NOISE = range(1, 6)  # numbers of the draws of a word
PIXEL = 16  # numbers of draws from here on are those of pixels


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each visit of a galaxy.

    Parameters
    ----------
    symmetries : bool
        One of the eight flips and rotations by 90 degrees: an index of pixels (`sdss_photoz.inputs.symmetry`).
    rotation : bool
        An angle between 0 and 360 degrees.
    shift : float
        Largest shift along each axis (pixels of the cube).
    zoom : float
        Largest factor of magnification; its logarithm is drawn from equal ranges on both sides of 0.
    noise : float
        Standard deviation of Gaussian noise, in units of the typical noise of a pixel.
    """

    symmetries: bool = True
    rotation: bool = False
    shift: float = 0.0
    zoom: float = 1.0
    noise: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether images are interpolated between the pixels of the cube."""
        return self.rotation or self.shift > 0 or self.zoom > 1

    @property
    def words(self) -> bool:
        """Whether a word is drawn for each visit."""
        return self.moves or self.noise > 0

    def places(self, words: "Tensor", side: int, cube: int) -> "Tensor":
        """Where each pixel of an image is read in its cube, for `torch.nn.functional.grid_sample`.

        Parameters
        ----------
        words : Tensor
            (n,) int64.
        side, cube : int
            Sides of the part that is read and of the cube (pixels); they have the same centre.

        Returns
        -------
        Tensor
            (n, side, side, 2) float32: x and y, -1 and 1 at the outer edges of the cube's pixels.
        """
        import torch

        angle = 2 * math.pi * self.rotation * self._uniform(words, ANGLE)
        factor = torch.exp((2 * self._uniform(words, ZOOM) - 1) * math.log(self.zoom))
        down, right = (self.shift * (2 * self._uniform(words, number) - 1) for number in (SHIFT_Y, SHIFT_X))
        offset = torch.arange(side, device=words.device, dtype=torch.float32) - (side - 1) / 2
        angle, factor, down, right = (part[:, None, None] for part in (angle, factor, down, right))
        y, x = offset[None, :, None] - down, offset[None, None, :] - right
        cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
        return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1) * (2 / cube)

    def moved(self, flux: "Tensor", words: "Tensor", side: int) -> "Tensor":
        """Parts (n, side, side, band) float32 of cubes (n, y, x, band), rotated, shifted and zoomed about the centre.

        Bilinear interpolation between the pixels that a frame covers (flux other than NaN), at the same surface
        brightness; NaN where these have less than half of the weight, as beyond the cube.
        """
        import torch
        from torch.nn import functional as F

        planes = flux.float().permute(0, 3, 1, 2)
        places = self.places(words, side, flux.shape[1])
        known = ~planes.isnan()
        both = torch.cat([torch.where(known, planes, 0), known.float()], dim=1)
        found, covered = F.grid_sample(both, places, align_corners=False).chunk(2, dim=1)
        return torch.where(covered >= 0.5, found / covered.clamp(min=0.5), torch.nan).permute(0, 2, 3, 1)

    def with_noise(self, flux: "Tensor", words: "Tensor", noise: "Tensor") -> "Tensor":
        """Flux (n, y, x, band) float32 with noise; NaN where no frame covers it.

        `noise` (band,) is the typical one of a pixel (nanomaggies).
        """
        import torch

        from sdss_photoz.inputs.hashing import APART, hash_words, uniform

        count = flux[0].numel()
        number = torch.arange(count, device=words.device)
        keys = hash_words(words + NOISE * APART)[:, None]
        first, second = (uniform(hash_words(hash_words(keys + (2 * number + k + PIXEL)) ^ keys)) for k in (0, 1))
        normal = torch.sqrt(-2 * torch.log(first)) * torch.cos(2 * math.pi * second)  # Box & Muller 1958
        return flux.float() + self.noise * noise * normal.view(flux.shape)

    @staticmethod
    def _uniform(words: "Tensor", number: int) -> "Tensor":
        """A draw (n,) float32 between 0 and 1 from each word."""
        from sdss_photoz.inputs.hashing import APART, hash_words, uniform

        return uniform(hash_words(hash_words(words) + number * APART))
