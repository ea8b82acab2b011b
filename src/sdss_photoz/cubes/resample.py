"""Lanczos-3 resampling of frames onto a galaxy's grid, by SWarp's rules.

The grid is a TAN projection of 64 x 64 pixels of 0.396 arcsec with the galaxy on the corner of its four middle pixels;
row 0 is South, column 0 is East. TAN to TAN is exactly a 3 x 3 homography. A pixel takes 6 x 6 frame pixels with
weights L(t) = sinc(t) sinc(t / 3), those of each axis normalised to unit sum, and is not covered where any of the 36
lies outside the frame or is not finite. Flux is scaled by the ratio of pixel areas on the sky.
"""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from sdss_photoz.cubes import kernel
from sdss_photoz.cubes.frame import Tan
from sdss_photoz.survey import CUBE_SIZE, FRAME_SHAPE, PIXEL_SCALE

CENTRE = (CUBE_SIZE - 1) / 2
SCALE = math.radians(PIXEL_SCALE / 3600)


def lanczos3(fraction) -> np.ndarray:
    """Weights of the six taps at floor(x) - 2 … floor(x) + 3.

    Parameters
    ----------
    fraction : array_like
        x - floor(x).

    Returns
    -------
    ndarray
        (..., 6) float64, unit sum.
    """
    distance = np.asarray(fraction, dtype=float)[..., None] - np.arange(-2, 4)
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return weights / weights.sum(axis=-1, keepdims=True)


_TABLE = lanczos3(np.linspace(0, 1, kernel.TABLE_STEPS + 1)).astype(np.float32)
_TABLE = np.ascontiguousarray(np.stack([_TABLE[:-1], np.diff(_TABLE, axis=0)], axis=1))  # (step, value or slope, tap)


class Projection:
    """The map from any galaxy's grid to one frame's pixels.

    Parameters
    ----------
    wcs : Tan
        The frame's projection.

    Attributes
    ----------
    from_sky : ndarray
        (3, 3) from unit vectors on the sky to the frame's pixels (x w, y w, w).
    """

    def __init__(self, wcs: Tan):
        cd = np.radians(np.array(wcs.cd).reshape(2, 2))
        to_pixels = np.eye(3)
        to_pixels[:2, :2] = np.linalg.inv(cd)
        to_pixels[:2, 2] = wcs.x, wcs.y
        basis = _bases(wcs.ra, wcs.dec)
        self.from_sky = to_pixels @ basis
        self._outward = basis[2]
        self._area = SCALE**2 / abs(np.linalg.det(cd))

    def centre(self, shape=FRAME_SHAPE) -> tuple[float, float]:
        """Position of the frame's middle (ra, dec in degrees)."""
        middle = np.linalg.solve(self.from_sky, [(shape[1] - 1) / 2, (shape[0] - 1) / 2, 1])
        ra = math.degrees(math.atan2(middle[1], middle[0])) % 360
        return ra, math.degrees(math.atan2(middle[2], math.hypot(middle[0], middle[1])))

    def homography(self, ra, dec) -> np.ndarray:
        """Matrix from a galaxy's grid to the frame.

        Parameters
        ----------
        ra, dec : float or ndarray
            The galaxy, or (n,) galaxies (degrees).

        Returns
        -------
        ndarray
            (3, 3), or (n, 3, 3): (x w, y w, w) = matrix (column, row, 1), all pixels 0-based. w is the cosine of the
            angle from the frame's CRVAL, positive on its side of the sky.
        """
        east, north, outward = np.moveaxis(_bases(ra, dec), -2, 0)
        corner = outward + CENTRE * SCALE * (east - north)
        return self.from_sky @ np.stack([-SCALE * east, SCALE * north, corner], axis=-1)

    def flux_factor(self, ra, dec):
        """Area of an output pixel over that of a frame pixel at galaxies (degrees), as SWarp takes it.

        s^2 cos^3(rho) / |det CD|, rho the angle from the frame's CRVAL. On the sky the ratio is s^2 / (cos^3(rho)
        |det CD|), within a frame at most 2e-5 larger.
        """
        # No product of matrices, and no power, which numpy computes in another way for a number than for an array: the
        # last bit would depend on which galaxies are given together.
        cosine = np.maximum((_bases(ra, dec)[..., 2, :] * self._outward).sum(axis=-1), 0)
        return self._area * (cosine * cosine * cosine)


def _bases(ra, dec) -> np.ndarray:
    """East, north and outward at one position or many, (3, 3) or (n, 3, 3)."""
    shape = np.broadcast_shapes(np.shape(ra), np.shape(dec))
    flat = [np.broadcast_to(np.asarray(angle, dtype=float), shape).ravel() for angle in (ra, dec)]
    return kernel.basis(*flat).reshape(*shape, 3, 3)


def window(homography: np.ndarray, shape=FRAME_SHAPE) -> tuple[slice, slice] | None:
    """Rows and columns of a frame that a galaxy's grid reads; None where the frame cannot cover any pixel of it.

    Parameters
    ----------
    homography : ndarray
        (3, 3) from grid to frame, of :meth:`Projection.homography`.
    shape : tuple of int
        Rows and columns of the frame.
    """
    first_row, end_row, first_column, end_column = kernel.window(homography, *shape)
    return (slice(first_row, end_row), slice(first_column, end_column)) if end_row else None


def resample_grids(image, homographies, factors, out=None, *, exact=False, shape=FRAME_SHAPE, threads=1):
    """Resample one frame onto the grids of many galaxies.

    Parameters
    ----------
    image : ndarray
        (rows read, columns) float32 of any byte order, nanomaggies: the frame, at least to the last row that a grid
        reads (`window`).
    homographies : ndarray
        (n, 3, 3) from grid to frame, of :meth:`Projection.homography`.
    factors : ndarray
        (n,) flux factors, of :meth:`Projection.flux_factor`.
    out : ndarray, optional
        (n, y, x) float32 to fill.
    exact : bool
        Weights by their formula in float64, instead of a table of 4,096 steps with linear interpolation.
    shape : tuple of int
        Rows and columns of the whole frame.
    threads : int
        Threads that share the galaxies; their number changes no bit.

    Returns
    -------
    out : ndarray
        (n, y, x) float32, nanomaggies, NaN where the frame does not cover a pixel.
    covered : ndarray
        (n,) int64: pixels that the frame covers.
    missing : ndarray
        (n,) int64: pixels whose 36 taps lie inside the frame, but one of them is not finite.

    Raises
    ------
    ValueError
        Where the image ends before the last row that a grid reads.
    """
    homographies = np.ascontiguousarray(homographies, dtype=float).reshape(-1, 3, 3)
    weight = np.float64 if exact else np.float32
    factors = np.ascontiguousarray(np.broadcast_to(factors, len(homographies)), dtype=weight)
    out = np.empty((len(homographies), CUBE_SIZE, CUBE_SIZE), np.float32) if out is None else out
    covered, missing = np.empty((2, len(homographies)), np.int64)
    last = max((kernel.window(homography, *shape)[1] for homography in homographies), default=0)
    if image.shape[0] < last:
        raise ValueError(f"the image has {image.shape[0]} rows, the grids read {last}")
    bits, swap = _bits(image)

    def share(part):
        table = None if exact else _TABLE
        kernel.resample(
            bits, swap, *shape, homographies[part], factors[part], table, out[part], covered[part], missing[part]
        )

    bounds = np.linspace(0, len(homographies), threads + 1).astype(int)
    parts = [slice(*pair) for pair in pairwise(bounds)]
    if threads == 1:
        share(parts[0])
    else:
        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(share, parts))
    return out, covered, missing


def _bits(image) -> tuple[np.ndarray, bool]:
    """A float32 image as read-only integers of this machine's byte order, and whether their bytes must be swapped."""
    image = np.asarray(image)
    if image.dtype.newbyteorder("=") != np.float32:
        image = image.astype(np.float32)
    swap = image.dtype.byteorder == (">" if sys.byteorder == "little" else "<")
    bits = np.ascontiguousarray(image).view(np.uint32)
    bits.flags.writeable = False  # as the image of a file is: one compilation serves both
    return bits, swap


def resample_positions(image, x, y, *, exact=False) -> np.ndarray:
    """Resample an image at any of its pixel positions: kernel and edges of :func:`resample_grids`, no flux factor.

    Parameters
    ----------
    image : ndarray
        (rows, columns) of any shape, taken as float32.
    x, y : ndarray
        Columns and rows (0-based) of one shape; NaN stands for nowhere.
    exact : bool
        As in :func:`resample_grids`.

    Returns
    -------
    ndarray
        Values, of the shape of x, float32 (float64 with `exact`); NaN where a tap is outside the image or not finite.
    """
    image = np.ascontiguousarray(image, dtype=np.float32).view()
    image.flags.writeable = False
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    out = np.empty(x.shape, np.float64 if exact else np.float32)
    kernel.resample_positions(image, x.ravel(), y.ravel(), None if exact else _TABLE, out.reshape(-1))
    return out


def resample(image, homography, factor: float, out=None, exact: bool = False, shape=FRAME_SHAPE):
    """Resample one frame onto one galaxy's grid: :func:`resample_grids` of one.

    Returns
    -------
    out : ndarray
        (y, x) float32, nanomaggies, NaN where the frame does not cover a pixel.
    covered : int
        Pixels that the frame covers.
    """
    out = None if out is None else out[None]
    found, covered, _ = resample_grids(image, homography[None], [factor], out, exact=exact, shape=shape)
    return found[0], int(covered[0])
