"""Galaxies for the benchmark and the tests of training, made where the training runs: learnable, not realistic.

Each is an exponential disc and a de Vaucouleurs bulge through a Gaussian PSF, with colours and a size that follow the
redshift, reddened, under the sky's noise. What they are not: the colours are straight lines in redshift with the
scatter of real ones, no spectra moved through filters; the PSF is the same in all bands; there are no neighbours, no
structure within a galaxy and no noise of its own photons. A training on them tells how fast two forms of
a training learn, not how well real redshifts are found.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.scores.grid import Grid
from sdss_photoz.surveys import CUBE, SDSS
from sdss_photoz.targets.classes import Classes
from sdss_photoz.targets.label import Label
from sdss_photoz.training.data.examples import Catalogue, Examples
from sdss_photoz.training.data.residence import Resident

CHUNK = 512  # galaxies drawn at once


def draw_population(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw galaxies whose colours and sizes follow their redshift, with scatter.

    Parameters
    ----------
    count : int
        Galaxies.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict of arrays of length `count`
        ``z``; ``mag`` (count, 5), before reddening, in ugriz; ``ebv`` (mag); ``radius``, half-light (arcsec);
        ``ratio``, axis ratio; ``angle`` (radian); ``bulge``, fraction of light in the de Vaucouleurs
        profile; ``psf``, FWHM (arcsec).
    """
    rng = np.random.default_rng(seed)
    z = np.clip(rng.gamma(4.0, 0.027, count), 0.005, 0.35)
    bulge = np.where(rng.random(count) < 0.6, rng.uniform(0.5, 1, count), rng.uniform(0, 0.4, count))
    r = 17.8 - rng.exponential(0.55, count)
    # median colours at z = 0.1 and how fast they change with z; the scatters are those of real galaxies
    ug = 1.75 + 2.0 * (z - 0.1) + 0.5 * (bulge - 0.5) + rng.normal(0, 0.15, count)
    gr = 0.91 + 3.0 * (z - 0.1) + 0.25 * (bulge - 0.5) + rng.normal(0, 0.05, count)
    ri = 0.42 + 0.5 * (z - 0.1) + 0.06 * (bulge - 0.5) + rng.normal(0, 0.02, count)
    iz = 0.31 + 0.4 * (z - 0.1) + 0.06 * (bulge - 0.5) + rng.normal(0, 0.03, count)
    return {
        "z": z,
        "mag": np.stack([r + gr + ug, r + gr, r, r - ri, r - ri - iz], axis=1),
        "ebv": np.minimum(rng.exponential(0.035, count), 0.2),
        "radius": 1.9 * 10 ** (-0.12 * (r - 17.2) - 0.25 * np.log10(z / 0.1) + rng.normal(0, 0.1, count)),
        "ratio": rng.uniform(0.25, 1, count),
        "angle": rng.uniform(0, math.pi, count),
        "bulge": bulge,
        "psf": rng.normal(1.3, 0.1, count),
    }


def render(population: dict[str, np.ndarray], seed: int = 0, device: str = "cpu") -> Tensor:
    """Cubes (n, 64, 64, 5) float32, nanomaggies, of a population, in one piece; see `pieces`."""
    return torch.cat(list(pieces(population, seed, device)))


def pieces(population: dict[str, np.ndarray], seed: int, device: str | torch.device) -> Iterator[Tensor]:
    """Render cubes piece by piece.

    Parameters
    ----------
    population : dict
        As `draw_population` gives it.
    seed : int
        Seed of the noise and of the sub-pixel centres; with the kind of device, it decides every bit.
    device : str or torch.device
        Where to draw.

    Yields
    ------
    Tensor
        (k, 64, 64, 5) float32, nanomaggies.
    """
    generator = torch.Generator(device).manual_seed(seed)
    reddening = np.array([SDSS.extinction[band] for band in SDSS.band_names])
    flux = 10 ** (0.4 * (22.5 - population["mag"] - population["ebv"][:, None] * reddening))
    columns = {**{name: population[name] for name in ("radius", "ratio", "angle", "bulge", "psf")}, "flux": flux}
    columns = {name: torch.as_tensor(value, dtype=torch.float32, device=device) for name, value in columns.items()}
    noise = torch.tensor(SDSS.noise, device=device)
    for start in range(0, len(flux), CHUNK):
        cubes = _profiles({name: value[start : start + CHUNK] for name, value in columns.items()}, generator)
        yield cubes + noise * torch.randn(cubes.shape, generator=generator, device=device)


def make_examples(count: int, seed: int, device: torch.device, settings) -> Examples:
    """Galaxies to train on, resident on a device: float32, stretched, on a CPU; float16 on a GPU.

    Parameters
    ----------
    count, seed : int
        Galaxies, and what they follow from.
    device : torch.device
        Where they are made and stay.
    settings : object
        With the attributes of the block `training` of the configuration.
    """
    inputs = Inputs(stretch=settings.stretch)
    population, on_cpu = draw_population(count, seed), device.type == "cpu"
    dtype = torch.float32 if on_cpu else torch.float16
    cubes, start = torch.empty(count, CUBE.size**2, len(CUBE.bands), dtype=dtype, device=device), 0
    for piece in pieces(population, seed, device):
        piece = inputs.images(piece) if on_cpu else piece
        cubes[start : start + len(piece)] = piece.flatten(1, 2)
        start += len(piece)
    ebv = population["ebv"].astype(np.float32)[:, None]
    catalogue = Catalogue(np.arange(count), population["z"], ebv, inputs, classes(settings))
    return catalogue.examples(Resident(cubes), on_cpu, f"{count} {seed}", device)


def classes(settings) -> Classes:
    """The head of a training of redshift classes, of the block `training` of the configuration."""
    label = Label(grid=Grid(bins=settings.bins), outside=settings.outside_bins)
    return Classes(label, settings.label_width, settings.crps_weight)


def _profiles(galaxy: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    """Noiseless images (n, y, x, band): the profiles on a grid, blurred in Fourier space."""
    device = galaxy["flux"].device
    n = len(galaxy["flux"])
    pixel = torch.arange(CUBE.size, device=device, dtype=torch.float32) - CUBE.centre
    shift = torch.rand(n, 2, 1, 1, generator=generator, device=device) - 0.5
    y, x = pixel[:, None] - shift[:, 0], pixel[None, :] - shift[:, 1]
    cos, sin = (function(galaxy["angle"])[:, None, None] for function in (torch.cos, torch.sin))
    ratio = galaxy["ratio"][:, None, None]
    squared = (x * cos + y * sin) ** 2 * ratio + (y * cos - x * sin) ** 2 / ratio + 0.1
    radius = squared.sqrt() * SDSS.pixel_scale / galaxy["radius"][:, None, None]
    frequency = torch.fft.fftfreq(CUBE.size, device=device) ** 2
    half = torch.fft.rfftfreq(CUBE.size, device=device) ** 2
    sigma = galaxy["psf"][:, None, None] / SDSS.pixel_scale / 2.355
    blur = torch.exp(-2 * (math.pi * sigma) ** 2 * (frequency[:, None] + half[None, :]))
    shapes = []
    for profile in (torch.exp(-1.678 * radius), torch.exp(-7.669 * radius**0.25)):
        image = torch.fft.irfft2(torch.fft.rfft2(profile) * blur, s=(CUBE.size, CUBE.size))
        shapes.append(image / image.sum((1, 2), keepdim=True))
    # the bulge is redder than the disc, at the same total flux
    tilt = torch.linspace(0.7, 1.15, len(SDSS.band_names), device=device)
    fraction = (galaxy["bulge"][:, None] * tilt).clamp(0, 1)[:, None, None, :]
    return (shapes[1][..., None] * fraction + shapes[0][..., None] * (1 - fraction)) * galaxy["flux"][:, None, None, :]
