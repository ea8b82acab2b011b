"""Magnitudes measured on the pixels of the finished frames, as the survey's pipeline would.

Least squares with noise-free templates for model, cmodel and psf magnitudes, apertures for Petrosian ones. Every
measurement sees the final pixels: rounded counts, sky noise, photons, neighbours. Neighbours are taken off with fits of
their own, brightest first, as a deblender does.
"""

from dataclasses import dataclass

import numpy as np

from sdss_photoz.survey import BANDS, PIXEL_SCALE

SOFTENING = dict(zip(BANDS, (1.4e-10, 0.9e-10, 1.2e-10, 1.8e-10, 7.4e-10), strict=True))  # of asinh magnitudes
PETROSIAN_RATIO = 0.2
RING = 0.5  # pixels, width of the rings of the growth curve


@dataclass
class Source:
    """One object in one frame: where its stamp lies, and its unit templates convolved with the seeing."""

    x: float  # 0-based, of the frame
    y: float
    window: tuple[slice, slice]  # of the frame
    templates: list[np.ndarray]  # bulge and disc, or a star; shape of the window
    share: float  # of the bulge in r
    psf_window: tuple[slice, slice] | None = None  # of those to be measured
    psf: np.ndarray | None = None


def magnitude(flux, band: str):
    """Asinh magnitude (Lupton, Gunn & Szalay 1999) of a flux in nanomaggies."""
    softening = SOFTENING[band]
    return -2.5 / np.log(10) * (np.arcsinh(np.asarray(flux) * 1e-9 / (2 * softening)) + np.log(softening))


def magnitude_error(flux, error, band: str):
    """Error of an asinh magnitude, from a flux and its error in nanomaggies."""
    return 2.5 / np.log(10) * np.asarray(error) * 1e-9 / np.hypot(np.asarray(flux) * 1e-9, 2 * SOFTENING[band])


def _dot(first, second) -> float:
    return float(np.einsum("ij,ij->", first, second))  # not BLAS, whose sums depend on the number of threads


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
        drop = [a * a * n for a, n in zip(alone, self.norms, strict=True)]  # of chi-square with this one alone
        return np.array([alone[0], 0.0] if drop[0] >= drop[1] else [0.0, alone[1]])


def deblend(image: np.ndarray, sources: list[Source]) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Fit all sources twice, brightest first, each on what the others leave.

    Returns
    -------
    residual : ndarray
        The image without the fitted sources.
    amplitudes : list of ndarray
        Fluxes (nanomaggies) of each source's templates.
    fitted : list of ndarray
        The fit of each source on its window.
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
    """Flux of a unit template by unweighted least squares, and its error from sky and photons (nanomaggies)."""
    squared = template * template
    norm = _dot(template, template) + 1e-30
    flux = _dot(template, pixels) / norm
    photons = max(flux, 0) * photon_variance * _dot(squared, template)
    return flux, np.sqrt(sky_noise**2 * norm + photons) / norm


@dataclass
class GrowthCurve:
    """Light inside circles round a source."""

    radius: np.ndarray  # pixels
    flux: np.ndarray  # nanomaggies

    @classmethod
    def of(cls, pixels, source: Source) -> "GrowthCurve":
        """Sum rings of pixels; a ring that the frame's edge cuts counts as if it went on alike."""
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
        """Flux within a radius (pixels)."""
        return np.interp(radius, self.radius, self.flux)

    def petrosian_radius(self) -> float:
        """Radius (pixels) where the brightness of the ring 0.8-1.25 R falls to a fifth of the mean within R."""
        radius = np.arange(2.0, self.radius[-1] / 1.25, 0.25)
        ring = (self.within(1.25 * radius) - self.within(0.8 * radius)) / (1.25**2 - 0.8**2)
        low = np.flatnonzero(ring < PETROSIAN_RATIO * self.within(radius))
        return float(radius[low[0]]) if len(low) else float(self.radius[-1] / 2)

    def holding(self, fraction: float, total_radius: float) -> float:
        """Radius (pixels) that holds a fraction of the flux within `total_radius`."""
        radius = np.linspace(0, total_radius, 200)
        share = np.maximum.accumulate(self.within(radius)) / max(self.within(total_radius), 1e-9)
        return float(np.interp(fraction, share, radius))


def measure_band(
    image, sources, wanted, band, sky_noise, photon_variance, petrosian_radii=None
) -> dict[str, np.ndarray]:
    """Measure sources in one band.

    Parameters
    ----------
    image : ndarray (rows, columns) of float32
        Pixels of the finished frame (nanomaggies).
    sources : list of Source
        All objects whose light reaches those to be measured.
    wanted : sequence of int
        Which of them to measure.
    band : str
        One of ugriz.
    sky_noise, photon_variance : float
        Noise of an empty pixel (nanomaggies); variance per nanomaggy of light.
    petrosian_radii : array, optional
        Petrosian radii (pixels) of the wanted from the r band; measured here where not given.

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
            shape = np.float32(source.share) * shape + np.float32(1 - source.share) * source.templates[1]
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
                "petro_rad": petrosian * PIXEL_SCALE,
                "petro_r50": growth.holding(0.5, circle) * PIXEL_SCALE,
                "petro_r90": growth.holding(0.9, circle) * PIXEL_SCALE,
                "frac_dev": amplitude[0] / max(cmodel, 1e-9) if len(amplitude) == 2 else 1.0,
            }
        )
    return {key: np.array([row[key] for row in rows]) for key in (rows[0] if rows else ())}


def _cut(pixels, window, part):
    """Those pixels of a window of the frame that lie in another window inside it, zero where it reaches out."""
    cut = np.zeros([axis.stop - axis.start for axis in part], dtype=np.float32)
    first = [max(w.start, p.start) for w, p in zip(window, part, strict=True)]
    last = [max(min(w.stop, p.stop), f) for w, p, f in zip(window, part, first, strict=True)]
    inner = tuple(slice(f - p.start, e - p.start) for f, e, p in zip(first, last, part, strict=True))
    cut[inner] = pixels[tuple(slice(f - w.start, e - w.start) for f, e, w in zip(first, last, window, strict=True))]
    return cut
