"""Lanczos-3 resampling of frames onto a galaxy's grid, by SWarp's rules.

The grid is a TAN projection of 64 x 64 pixels of 0.396 arcsec with the galaxy on the corner of its four middle pixels;
row 0 is South, column 0 is East. TAN to TAN is exactly a 3 x 3 homography. A pixel takes 6 x 6 frame pixels with
weights L(t) = sinc(t) sinc(t / 3), those of each axis normalised to unit sum, and is not covered where any of the 36
lies outside the frame or is not finite. Flux is scaled by the ratio of pixel areas on the sky.
"""

import math

import numpy as np

from sdss_photoz.cubes.compiled import compiled
from sdss_photoz.cubes.frame import Tan
from sdss_photoz.survey import CUBE_SIZE, FRAME_SHAPE, PIXEL_SCALE

TAPS = 6
TABLE_STEPS = 4096
CENTRE = (CUBE_SIZE - 1) / 2
SCALE = math.radians(PIXEL_SCALE / 3600)
ROUNDING = 1e-6  # pixels: far more than that of a mapped position
_CORNERS = np.array([[0, CUBE_SIZE - 1, 0, CUBE_SIZE - 1], [0, 0, CUBE_SIZE - 1, CUBE_SIZE - 1], [1, 1, 1, 1]], float)


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


_TABLE = lanczos3(np.arange(TABLE_STEPS + 1) / TABLE_STEPS).astype(np.float32)
_TABLE = np.ascontiguousarray(np.stack([_TABLE[:-1], np.diff(_TABLE, axis=0)], axis=1))  # (step, value or slope, tap)


def _basis(ra: float, dec: float) -> np.ndarray:
    """East, north and outward unit vectors at a position (degrees), as rows."""
    a, d = math.radians(ra), math.radians(dec)
    return np.array(
        [
            [-math.sin(a), math.cos(a), 0],
            [-math.sin(d) * math.cos(a), -math.sin(d) * math.sin(a), math.cos(d)],
            [math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)],
        ]
    )


class Projection:
    """The map from any galaxy's grid to one frame's pixels.

    Parameters
    ----------
    wcs : Tan
        The frame's projection.
    """

    def __init__(self, wcs: Tan):
        cd = np.radians(np.array(wcs.cd).reshape(2, 2))
        to_pixels = np.eye(3)
        to_pixels[:2, :2] = np.linalg.inv(cd)
        to_pixels[:2, 2] = wcs.x, wcs.y
        self._to_frame = to_pixels @ _basis(wcs.ra, wcs.dec)
        self._outward = _basis(wcs.ra, wcs.dec)[2]
        self._area = SCALE**2 / abs(np.linalg.det(cd))

    def centre(self, shape=FRAME_SHAPE) -> tuple[float, float]:
        """Position of the frame's middle (ra, dec in degrees)."""
        middle = np.linalg.solve(self._to_frame, [(shape[1] - 1) / 2, (shape[0] - 1) / 2, 1])
        ra = math.degrees(math.atan2(middle[1], middle[0])) % 360
        return ra, math.degrees(math.atan2(middle[2], math.hypot(middle[0], middle[1])))

    def homography(self, ra: float, dec: float) -> np.ndarray:
        """Matrix from a galaxy's grid to the frame.

        Parameters
        ----------
        ra, dec : float
            The galaxy (degrees).

        Returns
        -------
        ndarray
            (3, 3): (x w, y w, w) = matrix (column, row, 1), all pixels 0-based. w is the cosine of the angle from the
            frame's CRVAL, positive on its side of the sky.
        """
        east, north, outward = _basis(ra, dec)
        corner = outward + CENTRE * SCALE * (east - north)
        return self._to_frame @ np.stack([-SCALE * east, SCALE * north, corner], axis=1)

    def flux_factor(self, ra: float, dec: float) -> float:
        """Area of an output pixel over that of a frame pixel at a galaxy (degrees): s^2 cos^3(rho) / |det CD|."""
        return self._area * max(float(self._outward @ _basis(ra, dec)[2]), 0.0) ** 3


def window(homography: np.ndarray, shape=FRAME_SHAPE) -> tuple[slice, slice] | None:
    """Rows and columns of a frame that a galaxy's grid reads; None where the frame cannot cover any pixel of it.

    The grid's edges are straight lines on the frame, so its corners bound it. The window ends where the frame does, or
    where no tap of the grid reaches: the kernel's rule for edges, applied to the window, is that of the frame.

    Parameters
    ----------
    homography : ndarray
        (3, 3) from grid to frame, of :meth:`Projection.homography`.
    shape : tuple of int
        Rows and columns of the frame.
    """
    corners = homography @ _CORNERS
    if not (corners[2] > 0).all():
        return None
    x, y = corners[:2] / corners[2]
    sides = []
    for low, high, length in ((y.min(), y.max(), shape[0]), (x.min(), x.max(), shape[1])):
        if high < 2 or low >= length - 3:
            return None
        sides.append(slice(max(math.floor(low - ROUNDING) - 2, 0), min(math.floor(high + ROUNDING) + 4, length)))
    return tuple(sides)


@compiled
def _resample(image, homography, factor, table, out):
    rows, columns = image.shape
    steps = table.shape[0]
    wx = np.empty(6, np.float32)
    covered = 0
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            w = homography[2, 0] * i + homography[2, 1] * j + homography[2, 2]
            x = (homography[0, 0] * i + homography[0, 1] * j + homography[0, 2]) / w
            y = (homography[1, 0] * i + homography[1, 1] * j + homography[1, 2]) / w
            out[j, i] = np.nan
            if not (w > 0 and x >= 2 and x < columns - 3 and y >= 2 and y < rows - 3):
                continue
            x0 = np.uintp(x)  # unsigned: a tenth faster, for no index can count from the end
            y0 = np.uintp(y)
            fx = (x - x0) * steps
            fy = (y - y0) * steps
            kx = np.uintp(fx)
            ky = np.uintp(fy)
            rx = np.float32(fx - kx)
            ry = np.float32(fy - ky)
            x0 -= np.uintp(2)
            y0 -= np.uintp(2)
            for k in range(6):
                wx[k] = table[kx, 0, k] + rx * table[kx, 1, k]
            total = np.float32(0)
            for m in range(np.uintp(6)):
                part = np.float32(0)
                for k in range(np.uintp(6)):
                    part += wx[k] * image[y0 + m, x0 + k]
                total += (table[ky, 0, m] + ry * table[ky, 1, m]) * part
            if np.isfinite(total):
                out[j, i] = total * np.float32(factor)
                covered += 1
    return covered


@compiled
def _taps(fraction, weights):
    """Exact weights: sin(pi (f - k)) is the same for all taps but for its sign, so it cancels in the normalisation."""
    if fraction < 1e-7 or fraction > 1 - 1e-7:
        weights[:] = 0
        weights[2 if fraction < 0.5 else 3] = 1
        return
    total = 0.0
    sign = 1.0
    for k in range(6):
        t = fraction - (k - 2)
        weights[k] = sign * math.sin(math.pi / 3 * t) / (t * t)
        total += weights[k]
        sign = -sign
    for k in range(6):
        weights[k] /= total


@compiled
def _resample_exact(image, homography, factor, out):
    rows, columns = image.shape
    wx = np.empty(6)
    wy = np.empty(6)
    covered = 0
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            w = homography[2, 0] * i + homography[2, 1] * j + homography[2, 2]
            x = (homography[0, 0] * i + homography[0, 1] * j + homography[0, 2]) / w
            y = (homography[1, 0] * i + homography[1, 1] * j + homography[1, 2]) / w
            out[j, i] = np.nan
            if not (w > 0 and x >= 2 and x < columns - 3 and y >= 2 and y < rows - 3):
                continue
            x0 = int(x)
            y0 = int(y)
            _taps(x - x0, wx)
            _taps(y - y0, wy)
            total = 0.0
            for m in range(6):
                part = 0.0
                for k in range(6):
                    part += wx[k] * image[y0 - 2 + m, x0 - 2 + k]
                total += wy[m] * part
            if np.isfinite(total):
                out[j, i] = total * factor
                covered += 1
    return covered


def resample(image, homography, factor: float, out=None, exact: bool = False, shape=FRAME_SHAPE):
    """Resample one frame onto one galaxy's grid.

    Parameters
    ----------
    image : ndarray
        (rows read, columns) float32 of any byte order, nanomaggies: the frame, at least to the last row that the grid
        reads (`window`).
    homography : ndarray
        (3, 3) from grid to frame, of :meth:`Projection.homography`.
    factor : float
        Flux factor, of :meth:`Projection.flux_factor`.
    out : ndarray, optional
        (y, x) float32 to fill.
    exact : bool
        Weights by their formula in float64, instead of a table of 4,096 steps with linear interpolation.
    shape : tuple of int
        Rows and columns of the whole frame.

    Returns
    -------
    out : ndarray
        (y, x) float32, nanomaggies, NaN where the frame does not cover a pixel.
    covered : int
        Pixels that the frame covers.

    Raises
    ------
    ValueError
        Where the image ends before the last row that the grid reads.
    """
    if out is None:
        out = np.empty((CUBE_SIZE, CUBE_SIZE), np.float32)
    read = window(homography, shape)
    if read is None:
        out[:] = np.nan
        return out, 0
    rows, columns = read
    if image.shape[0] < rows.stop:
        raise ValueError(f"the image has {image.shape[0]} rows, the grid reads {rows.stop}")
    tile = np.ascontiguousarray(image[rows, columns], dtype=np.float32)
    shifted = homography.copy()
    shifted[0] -= columns.start * homography[2]
    shifted[1] -= rows.start * homography[2]
    if exact:
        return out, _resample_exact(tile, shifted, factor, out)
    return out, _resample(tile, shifted, factor, _TABLE, out)
