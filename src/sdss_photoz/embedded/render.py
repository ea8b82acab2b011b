"""Render galaxies and stars, and write corrected frames in the archive's format.

Profiles and point spread functions are GalSim's. Their Fourier images are computed once per galaxy and once per band
and multiplied, as in GalSim itself, so that the costly profile is evaluated once for all five bands.
"""

import bz2
import io
from dataclasses import dataclass, field
from functools import cache

import galsim
import numpy as np
import scipy.fft
from astropy.io import fits

from sdss_photoz.embedded import camera
from sdss_photoz.embedded.astrometry import Strip, band_delay, tangent_wcs
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE, RERUN

STAMP_SIZES = (48, 64, 96, 128, 192, 256, 384, 512, 768)
VANISHING = 0.02  # of the sky noise: surface brightness at which a profile is cut off
MOFFAT_BETA = 3.5
_RADII = np.geomspace(4, 400, 120)  # pixels
BZ2_LEVEL = 1  # level 9 gives files 3 % smaller in 15 % more time


def fourier_image(profile: galsim.GSObject, size: int) -> np.ndarray:
    """Return the Fourier image of a GalSim profile in pixels, on the half plane of ``scipy.fft.irfft2``."""
    image = galsim.ImageCF(galsim.BoundsI(0, size // 2, -size // 2, size // 2 - 1), scale=2 * np.pi / size)
    profile.drawKImage(image=image, recenter=False)
    return np.fft.ifftshift(image.array, axes=0)


def stamp_size(radius: float) -> int:
    """Return the smallest stamp size (pixels) that contains a circle of this radius (pixels)."""
    return next((size for size in STAMP_SIZES if size >= 2 * radius), STAMP_SIZES[-1])


def vanishing_radius(flux, bulge_r50, disc_r50, bulge_fraction, limit):
    """Return the radius (pixels) beyond which a bulge and disc of this flux are fainter than `limit` per pixel."""
    radius = _RADII
    bulge = bulge_fraction * flux / (22.666 * bulge_r50**2) * np.exp(-7.669 * ((radius / bulge_r50) ** 0.25 - 1))
    scale = disc_r50 / 1.678
    disc = (1 - bulge_fraction) * flux / (2 * np.pi * scale**2) * np.exp(-radius / scale)
    return float(radius[np.count_nonzero(bulge + disc > limit) - 1]) if (bulge + disc)[0] > limit else 4.0


@dataclass
class PointSpread:
    """Point spread function of one band and block of rows: seeing, optics and pixel response."""

    fwhm: float  # arcsec
    shear: tuple[float, float]
    _images: dict[int, np.ndarray] = field(default_factory=dict)

    def fourier(self, size: int) -> np.ndarray:
        """Return the Fourier image, with the pixel response, for a stamp of this size."""
        if size not in self._images:
            star = galsim.Moffat(beta=MOFFAT_BETA, fwhm=self.fwhm / SDSS.pixel_scale)
            star = star.shear(g1=float(self.shear[0]), g2=float(self.shear[1]))
            self._images[size] = fourier_image(star, size) * fourier_image(galsim.Pixel(1.0), size)
        return self._images[size]


@cache
def _waves(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the exponents of a shift by one pixel along y and x, on the half plane of ``irfft2``."""
    return np.fft.fftfreq(size) * -2j * np.pi, np.fft.rfftfreq(size) * -2j * np.pi


def stamp(fourier: np.ndarray, x: float, y: float) -> tuple[np.ndarray, int, int]:
    """Transform a Fourier image centred at (x, y) to float32 pixels; return them, and row and column of the first."""
    size = len(fourier)
    row, column = int(np.floor(y)) - size // 2, int(np.floor(x)) - size // 2
    waves_y, waves_x = _waves(size)
    phase_y, phase_x = np.exp(waves_y * (y - row)).astype("c8"), np.exp(waves_x * (x - column)).astype("c8")
    return scipy.fft.irfft2(fourier * phase_y[:, None] * phase_x, s=(size, size), workers=1), row, column


def overlap(row: int, column: int, size: int, shape) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the overlap of a stamp and an image as slices of the image and of the stamp; empty without overlap."""
    top, bottom = (min(max(edge, 0), shape[0]) for edge in (row, row + size))
    left, right = (min(max(edge, 0), shape[1]) for edge in (column, column + size))
    part = slice(top - row, bottom - row), slice(left - column, right - column)
    return (slice(top, bottom), slice(left, right)), part


def sky_noise_pixels(seed, strip: Strip, band: str, block: int, rows: int) -> np.ndarray:
    """Draw unit normal noise for the first rows of a block of 1361 rows, the same for both fields that contain it."""
    rng = np.random.default_rng([seed, 3, strip.run, strip.camcol, strip.first_field + block, "ugriz".index(band)])
    return rng.standard_normal((rows, FRAME_SHAPE[1]), dtype=np.float32)


def read_out(light: np.ndarray, noise: np.ndarray, now: dict) -> np.ndarray:
    """Compute pixels of a corrected frame (nanomaggies) from light and unit normal noise, under one block's conditions.

    Noise is that of sky and photons. Values are quantised to about a fifth of the sky noise, like the camera's integer
    counts, and rounded to ten bits of mantissa, like those of the archive.
    """
    variance = np.maximum(light, 0)
    variance *= np.float32(camera.photon_variance(now))
    variance += np.float32(camera.sky_noise(now) ** 2)
    pixels = noise * np.sqrt(variance, out=variance)
    pixels += light
    step = np.float32(camera.quantum(now))
    pixels *= 1 / step
    np.floor(pixels, out=pixels)
    pixels += np.float32(0.5)
    pixels *= step
    pixels.view(np.uint32)[...] &= np.uint32(0xFFFFE000)
    return pixels


def expose(light: np.ndarray, strip: Strip, number: int, band: str, conditions: list[dict], seed: int) -> np.ndarray:
    """Convert the noise-free light of a field (nanomaggies) to the pixels of a corrected frame: see `read_out`."""
    frame = np.empty(FRAME_SHAPE, dtype=np.float32)
    for block, rows in ((number, slice(0, FIELD_ROWS)), (number + 1, slice(FIELD_ROWS, FRAME_SHAPE[0]))):
        noise = sky_noise_pixels(seed, strip, band, block, rows.stop - rows.start)
        frame[rows] = read_out(light[rows], noise, conditions[block][band])
    return frame


def frame_header(strip: Strip, number: int, band: str, conditions: dict) -> fits.Header:
    """Return the primary header of a corrected frame, with the keys of real frames that describe the image."""
    row = camera.CAMERA_ROW[band]
    frame = strip.first_field + number + 2 * (row - 1)
    header = fits.Header()
    header["TAI"] = (round((strip.mjd + band_delay(band)) * 86_400 + 36 * number, 2), "1st row - Number of seconds")
    header["ORIGIN"], header["TELESCOP"], header["TIMESYS"] = "SDSS", "simulated", "TAI"
    header["RUN"] = (strip.run, "Run number")
    header["FRAME"] = (frame, "Frame sequence number within the run")
    header["CCDLOC"] = (10 * row + strip.camcol, "Survey location of CCD (e.g., rowCol)")
    header["STRIPE"] = (strip.stripe, "Stripe index number")
    header["STRIP"] = (strip.strip, "Strip in the stripe being tracked.")
    header["FLAVOR"], header["OBSERVER"], header["SYS_SCN"], header["EQNX_SCN"] = "science", "galsim", "mean", 2000.0
    header["NODE"] = (round(strip.node), "RA of the great circle's ascending node (deg)")
    header["INCL"] = (round(strip.incl * 2) / 2, "Great circle's inclination wrt cel. eq. (deg)")
    header["EXPTIME"], header["SYSTEM"], header["CCDMODE"] = "53.907456", "FK5", "DRIFT"
    header["CAMROW"], header["EQUINOX"], header["SOFTBIAS"] = row, 2000.0, 1000
    header["BUNIT"] = ("nanomaggy", "1 nanomaggy = 3.631e-6 Jy")
    header["FILTER"], header["CAMCOL"] = band, strip.camcol
    header["RADECSYS"], header["CTYPE1"], header["CTYPE2"] = "ICRS", "RA---TAN", "DEC--TAN"
    header["CUNIT1"], header["CUNIT2"], header["CRPIX1"], header["CRPIX2"] = "deg", "deg", 1025.0, 745.0
    for key, value in tangent_wcs(strip, number, band).items():
        header[key] = value
    header["NMGY"] = (float(f"{conditions['nmgy']:.6g}"), "Calibration factor [nMgy per count]")
    header["RERUN"] = (str(RERUN), "rerun")
    return header


def astrometric_terms(strip: Strip, number: int, band: str) -> np.ndarray:
    """Return the fourth HDU of a frame: great-circle terms, without distortion (DROW, DCOL and colour terms are 0)."""
    values = {"RUN": (">i4", strip.run), "RERUN": ("S3", str(RERUN)), "CAMCOL": (">i4", strip.camcol)}
    values |= {"FILTER": ("S1", band), "NODE": (">f8", strip.node), "INCL": (">f8", strip.incl)}
    values |= {"NAXIS": ((">i4", 2), FRAME_SHAPE[::-1]), "FIELD": (">i4", strip.first_field + number)}
    values |= {name: (">f8", term) for name, term in zip("ABCDEF", strip.field_terms(number, band), strict=True)}
    distortions = [*(f"D{axis}{k}" for axis in ("ROW", "COL") for k in range(4)), "CSROW", "CSCOL", "CCROW", "CCCOL"]
    values |= dict.fromkeys(distortions, (">f8", 0.0))
    values |= {"RICUT": (">f8", 100.0), "MJD": (">f8", strip.mjd + band_delay(band)), "AIRMASS": (">f8", 1.1)}
    values |= {"MUERR": (">f4", 0.03), "NUERR": (">f4", 0.03)}
    row = np.zeros(1, [(name, form) for name, (form, _) in values.items()])
    for name, (_, value) in values.items():
        row[name] = value
    return row


def _table_bytes(rows: np.ndarray) -> bytes:
    """Return a complete table HDU of big-endian rows; astropy would swap their bytes twice."""
    content = fits.BinTableHDU(rows).header.tostring().encode("ascii") + rows.tobytes()
    return content + bytes(-len(content) % 2880)


def frame_bytes(frame: np.ndarray, strip: Strip, number: int, band: str, conditions: dict) -> bytes:
    """Return a corrected frame as a compressed file: image, calibration vector, sky, astrometric terms."""
    sky = np.zeros(1, [("ALLSKY", ">f4", (192, 256)), ("XINTERP", ">f4", (2048,)), ("YINTERP", ">f4", (1489,))])
    sky["ALLSKY"] = conditions["sky"]
    sky["XINTERP"], sky["YINTERP"] = (np.arange(2048) - 3.5) / 8, (np.arange(1489) + 4.5) / 8
    primary = fits.PrimaryHDU(frame.astype(">f4"), header=frame_header(strip, number, band, conditions))
    calibration = fits.ImageHDU(np.full(FRAME_SHAPE[1], conditions["nmgy"], ">f4"))
    buffer = io.BytesIO()
    fits.HDUList([primary, calibration]).writeto(buffer)
    content = buffer.getvalue() + _table_bytes(sky) + _table_bytes(astrometric_terms(strip, number, band))
    return bz2.compress(content, BZ2_LEVEL)
