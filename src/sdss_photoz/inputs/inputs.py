"""What a network reads of a galaxy: an image, made of a part of its cube, and numbers of the catalogue."""

import logging
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sdss_photoz.errors import UserError
from sdss_photoz.inputs import channels
from sdss_photoz.inputs.augmentation import Augmentation
from sdss_photoz.inputs.symmetry import symmetry_table
from sdss_photoz.refusal import refuse
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from sdss_photoz import config

AS_IT_IS = ("ebv",)  # numbers that are not standardised: mag

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What a network reads of a galaxy: an image, and numbers of the catalogue beside it.

    Parameters
    ----------
    cubes : PixelGrid
        Pixels and bands of the cubes.
    stretch : {"asinh", "sqrt", "gamma", "none"}
        How their flux is compressed (`sdss_photoz.inputs.stretch`).
    bands : str, optional
        Bands that are read; default: all of the cubes.
    size : int, optional
        Side of the part of the cube that is read, around its centre (pixels); default: all.
    rebin : int
        Squares of rebin x rebin pixels are added up to one of the image.
    channels : str or tuple of str
        A kind of channels, or their names (`sdss_photoz.inputs.channels`).
    numbers : tuple of str
        Columns of the catalogue beside the image, or arithmetic with them (`sdss_photoz.condition.evaluated`).
    missing : {"refuse", "mean"}
        What becomes of galaxies that lack a number.
    augmentation : Augmentation
        How training images are changed at random.
    scaling : dict
        Mean and standard deviation of each of `numbers` that is standardised, as `fitted` finds them.
    """

    cubes: PixelGrid = CUBE
    stretch: str = "asinh"
    bands: str | None = None
    size: int | None = None
    rebin: int = 1
    channels: str | tuple[str, ...] = "bands"
    numbers: tuple[str, ...] = ("ebv",)
    missing: str = "refuse"
    augmentation: Augmentation = Augmentation()  # noqa: RUF009 (immutable)
    scaling: dict[str, tuple[float, float]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, settings: "config.Inputs", cubes: PixelGrid) -> "Inputs":
        """The inputs of a trial, from its block of the configuration (`Config.trial_inputs`)."""
        given = settings.model_dump()
        augmentation = Augmentation(**given.pop("augmentation"))
        lists = {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
        return cls(cubes, **{**given, **lists}, augmentation=augmentation)

    def record(self) -> dict:
        """What differs from the defaults, as JSON values, of all that a network reads when it predicts.

        Cubes, stretch and scaling are told apart from it.
        """
        apart = ("cubes", "stretch", "augmentation", "scaling")
        found = {key.name: getattr(self, key.name) for key in fields(self) if key.name not in apart}
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in found.items()
            if value != getattr(DEFAULT, key)
        }

    @classmethod
    def recorded(cls, cubes: PixelGrid, stretch: str, record: dict, scaling: dict | None = None) -> "Inputs":
        """The inputs of a `record`."""
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
        return cls(cubes, stretch, **values, scaling={key: tuple(pair) for key, pair in (scaling or {}).items()})

    @cached_property
    def grid(self) -> PixelGrid:
        """Pixels and bands of the image."""
        size = (self.size or self.cubes.size) // self.rebin
        return PixelGrid(size, self.cubes.pixel_scale * self.rebin, tuple(self.bands or self.cubes.bands))

    @cached_property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels of an image."""
        return channels.names(self.channels, self.grid.bands)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image: (y, x, channel)."""
        return self.grid.size, self.grid.size, len(self.channel_names)

    def kept(self, images: bool) -> PixelGrid:
        """Pixels and bands, or channels, of what is kept in memory of a galaxy: its image, or its cube."""
        return self.grid._replace(bands=self.channel_names) if images and self.static else self.cubes

    @property
    def static(self) -> bool:
        """Whether an image is the same at each visit but for its symmetry, so that it need be made only once."""
        return not self.augmentation.words

    @property
    def noise(self) -> tuple[float, ...]:
        """Typical noise of a pixel of the image in each of its bands (nanomaggies)."""
        return tuple(self.rebin * SDSS.noise[SDSS.index(band)] for band in self.grid.bands)

    @property
    def whole(self) -> bool:
        """Whether an image has all pixels and bands of the cube."""
        return self.grid == self.cubes

    @cached_property
    def band_index(self) -> np.ndarray:
        """Places of the image's bands among those of the cubes, int64."""
        return np.array([self.cubes.index(band) for band in self.grid.bands])

    @cached_property
    def part(self) -> slice:
        """The pixels of the cube, along each side, that are read."""
        size = self.grid.size * self.rebin
        start = (self.cubes.size - size) // 2
        return slice(start, start + size)

    def pixels(self, of: str) -> np.ndarray:
        """Flat index of the pixel that moves to each pixel that is read, by symmetry: (8, y * x) int64.

        Parameters
        ----------
        of : {"image", "cube", "part"}
            Read are all pixels of an image, all of a cube, or those of a cube's `part`.
        """
        if of != "part":
            return symmetry_table(self.grid.size if of == "image" else self.cubes.size)
        rows = np.arange(self.cubes.size)[self.part]
        return (rows[:, None] * self.cubes.size + rows).ravel()[symmetry_table(len(rows))]

    def images(self, flux: "Tensor", noise: "Tensor | None" = None, words: "Tensor | None" = None) -> "Tensor":
        """Images (n, y, x, channel) float32 of the parts of cubes that are read, in float16 or float32.

        Parameters
        ----------
        flux : Tensor
            (n, y, x, band) nanomaggies, the pixels of `part` and the bands of `grid`; NaN where no frame covers them,
            which is 0 in the image: no flux, for the sky is subtracted.
        noise : Tensor, optional
            `noise`, on the device of the flux; default: copied there.
        words : Tensor, optional
            (n,) int64, of which noise is drawn (`Augmentation`); default: none is added.
        """
        import torch

        noise = torch.tensor(self.noise, device=flux.device) if noise is None else noise
        if words is not None and self.augmentation.noise:
            flux = self.augmentation.with_noise(flux, words, noise / self.rebin)
        flux = torch.where(flux.isnan(), 0, flux)
        if self.rebin > 1:
            flux = flux.float().unflatten(2, (-1, self.rebin)).unflatten(1, (-1, self.rebin)).sum((2, 4))
        return channels.images(self.channels, flux, self.grid.bands, self.stretch, noise)

    def cut(self, cubes):
        """The part of cubes (n, y, x, band), an array or a tensor, that is read: (n, y, x, band)."""
        return cubes if self.whole and self.rebin == 1 else cubes[:, self.part, self.part][..., self.band_index]

    def untouched(self) -> "Inputs":
        """These inputs without augmentation but for the symmetries."""
        return replace(self, augmentation=Augmentation(self.augmentation.symmetries))

    def fitted(self, train: "pd.DataFrame") -> "Inputs":
        """These inputs, with the scaling of the numbers by the training galaxies.

        Raises
        ------
        UserError
            If a column is missing, holds no numbers, or is constant; or a galaxy lacks a number, and `missing` is
            "refuse".
        """
        scaling = {}
        for name in self.numbers:
            if name not in AS_IT_IS:
                values = self._column(train, name)
                values = values[np.isfinite(values)]
                if not len(values):
                    raise UserError(f"inputs.numbers names {name}, which no training galaxy has: leave it out.")
                mean, deviation = float(values.mean()), float(values.std())
                if values.min() == values.max():
                    raise UserError(
                        f"inputs.numbers names {name}, which is {mean:g} for all training galaxies: leave it out."
                    )
                scaling[name] = mean, deviation
        return replace(self, scaling=scaling)

    def rows(self, galaxies: "pd.DataFrame") -> np.ndarray:
        """Numbers (n, k) float32 of galaxies; k is the number of `numbers`.

        Raises
        ------
        UserError
            If a column is missing, or a galaxy lacks a number and `missing` is "refuse".
        """
        columns = np.empty((len(galaxies), len(self.numbers)), np.float32)
        for place, name in enumerate(self.numbers):
            values = self._column(galaxies, name)
            if name not in AS_IT_IS:
                mean, deviation = self.scaling[name]
                values = (values - mean) / deviation
            columns[:, place] = np.where(np.isfinite(values), values, 0)  # the mean, where `missing` allows it
        return columns

    def warn_of_missing(self, galaxies: "pd.DataFrame") -> None:
        """Log how many galaxies lack one of the numbers, and get its mean over the training galaxies instead."""
        for name in self.numbers if self.missing == "mean" else ():
            if lacking := int(np.isnan(self._column(galaxies, name)).sum()):
                text = "%d of %d galaxies lack %s, one of inputs.numbers: they get its mean over the training galaxies"
                _log.warning(text, lacking, len(galaxies), name)

    def _column(self, galaxies: "pd.DataFrame", name: str) -> np.ndarray:
        """One of `numbers`, float64; galaxies that lack it are refused by name, or have NaN."""
        from sdss_photoz.condition import columns_of, evaluated  # needs pandas, without which the benchmark runs

        values = evaluated(name, galaxies, "inputs.numbers")
        lacking = ~np.isfinite(values)
        if name in AS_IT_IS or self.missing == "refuse":
            what = "E(B-V)" if name == "ebv" else f"{name}, one of inputs.numbers,"
            other = "" if name in AS_IT_IS else ", or set inputs.missing to mean"
            columns = " and ".join(columns_of(name, "inputs.numbers"))
            refuse(galaxies, lacking, f"{what} is not a number", f"correct the catalogue's column {columns}{other}")
        return np.where(lacking, np.nan, values)


DEFAULT = Inputs()
