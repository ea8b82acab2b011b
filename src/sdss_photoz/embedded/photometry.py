"""Magnitudes measured on the pixels of the simulated frames, as by the survey's pipeline.

Model, cmodel and psf magnitudes are least-squares fits of noise-free templates, Petrosian magnitudes are aperture
fluxes. The pixels are those of the written frames, with quantisation, sky noise, photon noise and neighbours.
Neighbours are fitted and subtracted, brightest first, as by a deblender.
"""

from dataclasses import dataclass

import numpy as np

from sdss_photoz.surveys import SDSS

SOFTENING = dict(
    zip(SDSS.band_names, (1.4e-10, 0.9e-10, 1.2e-10, 1.8e-10, 7.4e-10), strict=True)
)  # of asinh magnitudes
PETROSIAN_RATIO = 0.2
RING = 0.5  # pixels, width of the annuli of the growth curve


@dataclass
class Source:
    """One object in one frame: the position of its stamp, and its templates of unit flux convolved with the seeing."""

    x: float  # 0-based, of the frame
    y: float
    window: tuple[slice, slice]  # of the frame
    templates: list[np.ndarray]  # bulge and disc, or a star; shape of the window
    bulge_fraction: float  # of the light in r
    psf_window: tuple[slice, slice] | None = None  # None for sources that are not measured
    psf: np.ndarray | None = None


def magnitude(flux, band: str):
    """Return the asinh magnitude (Lupton, Gunn & Szalay 1999) of a flux in nanomaggies."""
    softening = SOFTENING[band]
    return -2.5 / np.log(10) * (np.arcsinh(np.asarray(flux) * 1e-9 / (2 * softening)) + np.log(softening))


def magnitude_error(flux, error, band: str):
    """Return the error of an asinh magnitude, from a flux and its error in nanomaggies."""
    return 2.5 / np.log(10) * np.asarray(error) * 1e-9 / np.hypot(np.asarray(flux) * 1e-9, 2 * SOFTENING[band])


def _dot(first, second) -> float:
    return float(np.einsum("ij,ij->", first, second))  # unlike BLAS independent of the number of threads


class _Fit:
    """Non-negative least-squares amplitudes of one or two templates."""

    def __init__(self, templates: list[np.ndarray]):
        self.templates = templates
        self.norms = [_dot(t, t) + 1e-30 for t in templates]
        self.cross = _dot(*templates) if len(templates) == 2 else 0.0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        products = [_dot(t, pixels) for t in self.templates]
        alone = [max(p / n, 0.0) for p, n in zip(products, self.norms, strict=True)]
        if len(alone) == 1:
            return np.array(alone)
        (first, second), (norm1, norm2) = products, self.norms
        determinant = norm1 * norm2 - self.cross**2
        if determinant > 1e-6 * norm1 * norm2:
            both = np.array([norm2 * first - self.cross * second, norm1 * second - self.cross * first]) / determinant
            if both.min() >= 0:
                return both
        drop = [
            a * a * n for a, n in zip(alone, self.norms, strict=True)
        ]  # decrease of chi-square with this template alone
        return np.array([alone[0], 0.0] if drop[0] >= drop[1] else [0.0, alone[1]])


def deblend(image: np.ndarray, sources: list[Source]) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Fit all sources in two passes, brightest first, each after subtraction of the others.

    Returns
    -------
    residual : ndarray
        The image minus the fitted sources.
    amplitudes : list of ndarray
        Fluxes (nanomaggies) of each source's templates.
    fitted : list of ndarray
        The fitted model of each source on its window.
    """
    residual, fits = image.copy(), [_Fit(source.templates) for source in sources]
    order = np.argsort([-_dot(image[s.window], s.templates[-1]) for s in sources], kind="stable")
    amplitudes, fitted = [None] * len(sources), [None] * len(sources)
    for _ in range(2):
        for index in order:
            here = residual[sources[index].window]
            if fitted[index] is not None:
                here += fitted[index]
            amplitudes[index] = fits[index](here)
            templates = sources[index].templates
            fitted[index] = np.float32(amplitudes[index][0]) * templates[0]
            if len(templates) == 2:
                fitted[index] += np.float32(amplitudes[index][1]) * templates[1]
            here -= fitted[index]
    return residual, amplitudes, fitted


def template_flux(pixels, template, sky_noise, photon_variance):
    """Fit the flux of a unit template by unweighted least squares; return it and its error (nanomaggies)."""
    squared = template * template
    norm = _dot(template, template) + 1e-30
    flux = _dot(template, pixels) / norm
    photons = max(flux, 0) * photon_variance * _dot(squared, template)
    return flux, np.sqrt(sky_noise**2 * norm + photons) / norm


@dataclass
class GrowthCurve:
    """Cumulative flux in circles around a source."""

    radius: np.ndarray  # pixels
    flux: np.ndarray  # nanomaggies

    @classmethod
    def of(cls, pixels, source: Source) -> "GrowthCurve":
        """Sum annuli of pixels; an annulus cut by the frame's edge is scaled to its full area."""
        rows, columns = source.window
        dy, dx = np.arange(rows.start, rows.stop) - source.y, np.arange(columns.start, columns.stop) - source.x
        ring = (np.sqrt(dy[:, None] ** 2 + dx**2) / RING).astype(np.intp).ravel()
        reach = int(min(len(pixels), pixels.shape[1]) / 2 / RING)
        reach = max(reach, int(min(max(-dy[0], dy[-1]), max(-dx[0], dx[-1])) / RING))
        number = np.bincount(ring, minlength=reach)[:reach]
        light = np.bincount(ring, weights=pixels.ravel(), minlength=reach)[:reach]
        edges = RING * np.arange(reach + 1)
        area = np.pi * np.diff(edges**2)
        cut = (number < 0.8 * area) & (edges[1:] > 4) & (pixels.shape[0] != pixels.shape[1])
        light[cut] *= (area / np.maximum(number, 1))[cut]
        return cls(edges, np.concatenate([[0.0], np.cumsum(light)]))

    def within(self, radius):
        """Return the flux within a radius (pixels)."""
        return np.interp(radius, self.radius, self.flux)

    def petrosian_radius(self) -> float:
        """Return the radius R (pixels) where the mean brightness in 0.8-1.25 R is a fifth of that within R."""
        radius = np.arange(2.0, self.radius[-1] / 1.25, 0.25)
        ring = (self.within(1.25 * radius) - self.within(0.8 * radius)) / (1.25**2 - 0.8**2)
        low = np.flatnonzero(ring < PETROSIAN_RATIO * self.within(radius))
        return float(radius[low[0]]) if len(low) else float(self.radius[-1] / 2)

    def radius_of(self, fraction: float, total_radius: float) -> float:
        """Return the radius (pixels) that contains a fraction of the flux within `total_radius`."""
        radius = np.linspace(0, total_radius, 200)
        contained = np.maximum.accumulate(self.within(radius)) / max(self.within(total_radius), 1e-9)
        return float(np.interp(fraction, contained, radius))


def measure_band(
    image, sources, wanted, band, sky_noise, photon_variance, petrosian_radii=None
) -> dict[str, np.ndarray]:
    """Measure sources in one band.

    Parameters
    ----------
    image : ndarray (rows, columns) of float32
        Pixels of the frame (nanomaggies).
    sources : list of Source
        The objects to be measured, and all that overlap them.
    wanted : sequence of int
        Indices of the sources to measure.
    band : str
        One of ugriz.
    sky_noise, photon_variance : float
        Noise of an empty pixel (nanomaggies); photon noise variance per flux (nanomaggies).
    petrosian_radii : array, optional
        Petrosian radii (pixels) of the measured sources in the r band; None: measured in this band.

    Returns
    -------
    dict of arrays
        model, cmodel, petro and psf magnitudes and errors; petro_rad, petro_r50, petro_r90 (arcsec); frac_dev.
    """
    residual, amplitudes, fits = deblend(image, sources)
    rows = []
    for rank, index in enumerate(wanted):
        source, amplitude, fitted = sources[index], amplitudes[index], fits[index]
        own = residual[source.window] + fitted
        shape = source.templates[0]
        if len(source.templates) == 2:
            fraction = source.bulge_fraction
            shape = np.float32(fraction) * shape + np.float32(1 - fraction) * source.templates[1]
        model, model_error = template_flux(own, shape, sky_noise, photon_variance)
        here = residual[source.psf_window] + _cut(fitted, source.window, source.psf_window)
        point, _ = template_flux(here, source.psf, sky_noise, photon_variance)
        growth = GrowthCurve.of(own, source)
        petrosian = growth.petrosian_radius() if petrosian_radii is None else petrosian_radii[rank]
        circle = min(2 * petrosian, growth.radius[-1])
        petro = growth.within(circle)
        petro_error = np.sqrt(np.pi * circle**2 * sky_noise**2 + max(petro, 0) * photon_variance)
        cmodel = amplitude.sum()
        rows.append(
            {
                "model_mag": magnitude(model, band),
                "model_mag_err": magnitude_error(model, model_error, band),
                "cmodel_mag": magnitude(cmodel, band),
                "cmodel_mag_err": magnitude_error(cmodel, model_error, band),
                "petro_mag": magnitude(petro, band),
                "petro_mag_err": magnitude_error(petro, petro_error, band),
                "psf_mag": magnitude(point, band),
                "petro_rad": petrosian * SDSS.pixel_scale,
                "petro_r50": growth.radius_of(0.5, circle) * SDSS.pixel_scale,
                "petro_r90": growth.radius_of(0.9, circle) * SDSS.pixel_scale,
                "frac_dev": amplitude[0] / max(cmodel, 1e-9) if len(amplitude) == 2 else 1.0,
            }
        )
    return {key: np.array([row[key] for row in rows]) for key in (rows[0] if rows else ())}


def _cut(pixels, window, part):
    """Return pixels of the window `part` of a frame, given those of `window`; zero outside of it."""
    cut = np.zeros([axis.stop - axis.start for axis in part], dtype=np.float32)
    first = [max(w.start, p.start) for w, p in zip(window, part, strict=True)]
    last = [max(min(w.stop, p.stop), f) for w, p, f in zip(window, part, first, strict=True)]
    inner = tuple(slice(f - p.start, e - p.start) for f, e, p in zip(first, last, part, strict=True))
    cut[inner] = pixels[tuple(slice(f - w.start, e - w.start) for f, e, w in zip(first, last, window, strict=True))]
    return cut
