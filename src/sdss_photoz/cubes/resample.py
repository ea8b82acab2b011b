"""Lanczos-3 resampling of frames onto a galaxy's grid, by SWarp's rules.

The grid is a TAN projection with the galaxy in its middle: for an even number of pixels, the corner of the four middle
ones. Row 0 is South, column 0 is East. The map from TAN to TAN is a 3 x 3 homography. A pixel is the sum of 6 x 6 frame
pixels with weights L(t) = sinc(t) sinc(t / 3), normalised to unit sum on each axis; it is not covered if any of the 36
lies outside the frame or is not finite. Flux is scaled by the ratio of pixel areas on the sky.
"""

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from sdss_photoz.cubes import kernel
from sdss_photoz.cubes.frame import Tan
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.surveys.sdss import FRAME_SHAPE


def lanczos3(fraction) -> np.ndarray:
    """Compute the weights of the six taps at floor(x) - 2 … floor(x) + 3.

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
    grid : PixelGrid
        Pixels of a cube.

    Attributes
    ----------
    from_sky : ndarray
        (3, 3) from unit vectors on the sky to the frame's pixels (x w, y w, w).
    """

    def __init__(self, wcs: Tan, grid: PixelGrid = CUBE):
        cd = np.radians(np.array(wcs.cd).reshape(2, 2))
        to_pixels = np.eye(3)
        to_pixels[:2, :2] = np.linalg.inv(cd)
        to_pixels[:2, 2] = wcs.x, wcs.y
        basis = _bases(wcs.ra, wcs.dec)
        self.from_sky = to_pixels @ basis
        self._outward = basis[2]
        self._step = math.radians(grid.pixel_scale / 3600)
        self._centre = grid.centre
        self._area = self._step**2 / abs(np.linalg.det(cd))

    def centre(self, shape=FRAME_SHAPE) -> tuple[float, float]:
        """Return the position of the frame's centre (ra, dec in degrees)."""
        middle = np.linalg.solve(self.from_sky, [(shape[1] - 1) / 2, (shape[0] - 1) / 2, 1])
        ra = math.degrees(math.atan2(middle[1], middle[0])) % 360
        return ra, math.degrees(math.atan2(middle[2], math.hypot(middle[0], middle[1])))

    def homography(self, ra, dec) -> np.ndarray:
        """Compute the homography from a galaxy's grid to the frame.

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
        corner = outward + self._centre * self._step * (east - north)
        return self.from_sky @ np.stack([-self._step * east, self._step * north, corner], axis=-1)

    def flux_factor(self, ra, dec):
        """Return the area of an output pixel over that of a frame pixel at positions (degrees), as SWarp computes it.

        s^2 cos^3(rho) / |det CD|, rho the angle from the frame's CRVAL. On the sky the ratio is s^2 / (cos^3(rho)
        |det CD|), within a frame at most 2e-5 larger.
        """
        # No matrix product and no power: numpy computes them differently for scalars and arrays, so the last bit would
        # depend on which galaxies are computed together.
        cosine = np.maximum((_bases(ra, dec)[..., 2, :] * self._outward).sum(axis=-1), 0)
        return self._area * (cosine * cosine * cosine)


def _bases(ra, dec) -> np.ndarray:
    """Return the unit vectors east, north and outward at one position or n, (3, 3) or (n, 3, 3)."""
    shape = np.broadcast_shapes(np.shape(ra), np.shape(dec))
    flat = [np.broadcast_to(np.asarray(angle, dtype=float), shape).ravel() for angle in (ra, dec)]
    return kernel.basis(*flat).reshape(*shape, 3, 3)


def window(homography: np.ndarray, shape=FRAME_SHAPE, size: int = CUBE.size) -> tuple[slice, slice] | None:
    """Return the rows and columns of a frame that a galaxy's grid reads; None if the frame covers no pixel of it.

    Parameters
    ----------
    homography : ndarray
        (3, 3) from grid to frame, of :meth:`Projection.homography`.
    shape : tuple of int
        Rows and columns of the frame.
    size : int
        Pixels of the grid's side.
    """
    first_row, end_row, first_column, end_column = kernel.window(homography, size, *shape)
    return (slice(first_row, end_row), slice(first_column, end_column)) if end_row else None


def resample_grids(
    image, homographies, factors, out=None, *, exact=False, shape=FRAME_SHAPE, threads=1, size=CUBE.size
):
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
        Compute weights in float64, instead of interpolating a table of 4,096 steps.
    shape : tuple of int
        Rows and columns of the whole frame.
    threads : int
        Number of threads; the result does not depend on it.
    size : int
        Pixels of a grid's side, unless `out` is given.

    Returns
    -------
    out : ndarray
        (n, y, x) float32, nanomaggies, NaN where the frame does not cover a pixel.
    covered : ndarray
        (n,) int64: number of pixels that the frame covers.
    missing : ndarray
        (n,) int64: number of pixels whose 36 taps lie inside the frame, but are not all finite.

    Raises
    ------
    ValueError
        If the image ends before the last row that a grid reads.
    """
    homographies = np.ascontiguousarray(homographies, dtype=float).reshape(-1, 3, 3)
    weight = np.float64 if exact else np.float32
    factors = np.ascontiguousarray(np.broadcast_to(factors, len(homographies)), dtype=weight)
    out = np.empty((len(homographies), size, size), np.float32) if out is None else out
    covered, missing = np.empty((2, len(homographies)), np.int64)
    last = max((kernel.window(homography, out.shape[1], *shape)[1] for homography in homographies), default=0)
    if image.shape[0] < last:
        raise ValueError(f"the image has {image.shape[0]} rows, the grids read {last}")
    bits, swap = _bits(image)

    def resample_part(part):
        table = None if exact else _TABLE
        kernel.resample(
            bits, swap, *shape, homographies[part], factors[part], table, out[part], covered[part], missing[part]
        )

    bounds = np.linspace(0, len(homographies), threads + 1).astype(int)
    parts = [slice(*pair) for pair in pairwise(bounds)]
    if threads == 1:
        resample_part(parts[0])
    else:
        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(resample_part, parts))
    return out, covered, missing


def _bits(image) -> tuple[np.ndarray, bool]:
    """View a float32 image as read-only uint32, and return whether their bytes must be swapped."""
    image = np.asarray(image)
    if image.dtype.newbyteorder("=") != np.float32:
        image = image.astype(np.float32)
    swap = image.dtype.byteorder == (">" if sys.byteorder == "little" else "<")
    bits = np.ascontiguousarray(image).view(np.uint32)
    bits.flags.writeable = False  # like the image of a file, so that numba compiles once
    return bits, swap


def resample_positions(image, x, y, *, exact=False) -> np.ndarray:
    """Resample an image at any pixel positions, as :func:`resample_grids` does but without flux factor.

    Parameters
    ----------
    image : ndarray
        (rows, columns) of any shape, converted to float32.
    x, y : ndarray
        Columns and rows (0-based), which broadcast; NaN gives NaN.
    exact : bool
        As in :func:`resample_grids`.

    Returns
    -------
    ndarray
        Values of the shape of x and y, float32 (float64 with `exact`); NaN if a tap is outside the image or not finite.
    """
    image = np.ascontiguousarray(image, dtype=np.float32).view()
    image.flags.writeable = False
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    out = np.empty(x.shape, np.float64 if exact else np.float32)
    kernel.resample_positions(image, x.ravel(), y.ravel(), None if exact else _TABLE, out.reshape(-1))
    return out


def resample(image, homography, factor: float, out=None, exact: bool = False, shape=FRAME_SHAPE, size: int = CUBE.size):
    """Resample one frame onto one galaxy's grid: see :func:`resample_grids`.

    Returns
    -------
    out : ndarray
        (y, x) float32, nanomaggies, NaN where the frame does not cover a pixel.
    covered : int
        Number of pixels that the frame covers.
    """
    out = None if out is None else out[None]
    found, covered, _ = resample_grids(image, homography[None], [factor], out, exact=exact, shape=shape, size=size)
    return found[0], int(covered[0])
