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

from sdss_photoz.cubes.compiled import compiled
from sdss_photoz.cubes.frame import Tan
from sdss_photoz.survey import CUBE_SIZE, FRAME_SHAPE, PIXEL_SCALE

TABLE_STEPS = 4096
CENTRE = (CUBE_SIZE - 1) / 2
SCALE = math.radians(PIXEL_SCALE / 3600)
ROUNDING = 1e-6  # pixels: far more than that of a mapped position


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


@compiled
def _basis(ra, dec):
    """East, north and outward unit vectors at positions (degrees): (position, vector, axis)."""
    basis = np.empty((len(ra), 3, 3))
    for k in range(len(ra)):
        a, d = math.radians(ra[k]), math.radians(dec[k])
        basis[k, 0] = -math.sin(a), math.cos(a), 0.0
        basis[k, 1] = -math.sin(d) * math.cos(a), -math.sin(d) * math.sin(a), math.cos(d)
        basis[k, 2] = math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)
    return basis


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
        """Area of an output pixel over that of a frame pixel at galaxies (degrees): s^2 cos^3(rho) / |det CD|."""
        cosine = (_bases(ra, dec)[..., 2, :] * self._outward).sum(axis=-1)  # as a product of matrices it would depend,
        return self._area * np.maximum(cosine, 0) ** 3  # in its last bit, on which galaxies are given together


def _bases(ra, dec) -> np.ndarray:
    """East, north and outward at one position or many, (3, 3) or (n, 3, 3)."""
    shape = np.broadcast_shapes(np.shape(ra), np.shape(dec))
    flat = [np.broadcast_to(np.asarray(angle, dtype=float), shape).ravel() for angle in (ra, dec)]
    return _basis(*flat).reshape(*shape, 3, 3)


def window(homography: np.ndarray, shape=FRAME_SHAPE) -> tuple[slice, slice] | None:
    """Rows and columns of a frame that a galaxy's grid reads; None where the frame cannot cover any pixel of it.

    Parameters
    ----------
    homography : ndarray
        (3, 3) from grid to frame, of :meth:`Projection.homography`.
    shape : tuple of int
        Rows and columns of the frame.
    """
    first_row, end_row, first_column, end_column = _window(homography, *shape)
    return (slice(first_row, end_row), slice(first_column, end_column)) if end_row else None


@compiled
def _mapped(homography, column, row):
    """Frame position of a pixel of the grid, and the cosine that must be positive."""
    w = homography[2, 0] * column + homography[2, 1] * row + homography[2, 2]
    x = (homography[0, 0] * column + homography[0, 1] * row + homography[0, 2]) / w
    y = (homography[1, 0] * column + homography[1, 1] * row + homography[1, 2]) / w
    return x, y, w


@compiled
def _window(homography, rows, columns):
    """First and end row, first and end column of a grid's window; zeros where the frame covers none of it.

    The grid's edges are straight lines on the frame, so its corners bound it. The window ends where the frame does, or
    where no tap of the grid reaches: the kernel's rule for edges, applied to the window, is that of the frame.
    """
    left, right, bottom, top = np.inf, -np.inf, np.inf, -np.inf
    for row in (0, CUBE_SIZE - 1):
        for column in (0, CUBE_SIZE - 1):
            x, y, w = _mapped(homography, column, row)
            if not w > 0:
                return 0, 0, 0, 0
            left, right, bottom, top = min(left, x), max(right, x), min(bottom, y), max(top, y)
    if not (right >= 2 and left < columns - 3 and top >= 2 and bottom < rows - 3):
        return 0, 0, 0, 0
    return (
        max(math.floor(bottom - ROUNDING) - 2, 0),
        min(math.floor(top + ROUNDING) + 4, rows),
        max(math.floor(left - ROUNDING) - 2, 0),
        min(math.floor(right + ROUNDING) + 4, columns),
    )


@compiled
def _inside(x, y, rows, columns):
    """Whether all 36 taps of a position lie in an image: no partial kernels."""
    return x >= 2 and x < columns - 3 and y >= 2 and y < rows - 3


@compiled
def _tabled(fraction, table):
    """Weights of the six taps from the table, float32."""
    place = fraction * TABLE_STEPS
    step = np.intp(place)
    rest = np.float32(place - step)
    value, slope = table[np.uintp(step), 0], table[np.uintp(step), 1]
    return (
        value[0] + rest * slope[0],
        value[1] + rest * slope[1],
        value[2] + rest * slope[2],
        value[3] + rest * slope[3],
        value[4] + rest * slope[4],
        value[5] + rest * slope[5],
    )


@compiled
def _exact(fraction):
    """Weights of the six taps by their formula, float64.

    sin(pi (f - k)) is the same for all taps but for its sign, so it cancels in the normalisation.
    """
    if fraction < 1e-7:
        return 0.0, 0.0, 1.0, 0.0, 0.0, 0.0
    if fraction > 1 - 1e-7:
        return 0.0, 0.0, 0.0, 1.0, 0.0, 0.0
    sine, cosine = math.sin(math.pi / 3 * fraction), math.cos(math.pi / 3 * fraction)
    plus, minus = 0.5 * sine + ROOT * cosine, 0.5 * sine - ROOT * cosine  # sin(pi / 3 (f + 1)), sin(pi / 3 (f - 1))
    a = (plus - sine) / (fraction + 2) ** 2
    b = -plus / (fraction + 1) ** 2
    c = sine / fraction**2
    d = -minus / (fraction - 1) ** 2
    e = (minus - sine) / (fraction - 2) ** 2
    f = sine / (fraction - 3) ** 2
    total = a + b + c + d + e + f
    return a / total, b / total, c / total, d / total, e / total, f / total


ROOT = math.sqrt(3) / 2


@compiled
def _sum(image, x0, y0, wx, wy):
    """Weighted sum of the 36 taps, in the precision of the weights."""
    left, bottom = np.uintp(x0 - 2), np.uintp(y0 - 2)  # unsigned: no index can count from the end
    total = np.float32(0)
    for m in range(np.uintp(6)):
        part = np.float32(0)
        for k in range(np.uintp(6)):
            part += wx[k] * image[bottom + m, left + k]
        total += wy[m] * part
    return total


@compiled
def _sample(image, x, y, table):
    """Value at a position inside an image, not finite where a tap is not; exact weights where there is no table."""
    x0, y0 = np.intp(x), np.intp(y)  # signed: unsigned conversions would take a fifth of the time
    if table is None:
        return _sum(image, x0, y0, _exact(x - x0), _exact(y - y0))
    return _sum(image, x0, y0, _tabled(x - x0, table), _tabled(y - y0, table))


@compiled
def _copied(bits, swap, first_row, end_row, first_column, end_column):
    """A window of an image that is given as the bits of its float32 values, bytes swapped where `swap` says so."""
    tile = np.empty((end_row - first_row, end_column - first_column), np.uint32)
    for row in range(tile.shape[0]):
        for column in range(tile.shape[1]):
            value = bits[first_row + row, first_column + column]
            if swap:
                value = (value >> 24) | (value >> 8 & 0xFF00) | (value << 8 & 0xFF0000) | (value << 24)
            tile[row, column] = value
    return tile.view(np.float32)


@compiled
def _resample(bits, swap, rows, columns, homographies, factors, table, out, covered, missing):
    for n in range(len(homographies)):
        out[n] = np.nan
        covered[n] = missing[n] = 0
        homography = homographies[n].copy()
        first_row, end_row, first_column, end_column = _window(homography, rows, columns)
        if end_row == 0:
            continue
        tile = _copied(bits, swap, first_row, end_row, first_column, end_column)
        for k in range(3):
            homography[0, k] -= first_column * homography[2, k]
            homography[1, k] -= first_row * homography[2, k]
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                x, y, w = _mapped(homography, i, j)
                if not (w > 0 and _inside(x, y, *tile.shape)):
                    continue
                value = _sample(tile, x, y, table)
                if np.isfinite(value):
                    out[n, j, i] = value * factors[n]
                    covered[n] += 1
                else:
                    missing[n] += 1


@compiled
def _resample_positions(image, x, y, table, out):
    for n in range(len(x)):
        out[n] = np.nan
        if _inside(x[n], y[n], *image.shape):
            value = _sample(image, x[n], y[n], table)
            if np.isfinite(value):
                out[n] = value


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
    homographies = np.ascontiguousarray(homographies, dtype=float)
    weight = np.float64 if exact else np.float32
    factors = np.ascontiguousarray(np.broadcast_to(factors, len(homographies)), dtype=weight)
    out = np.empty((len(homographies), CUBE_SIZE, CUBE_SIZE), np.float32) if out is None else out
    covered, missing = np.empty((2, len(homographies)), np.int64)
    last = max((_window(homography, *shape)[1] for homography in homographies), default=0)
    if image.shape[0] < last:
        raise ValueError(f"the image has {image.shape[0]} rows, the grids read {last}")
    bits, swap = _bits(image)

    def share(part):
        table = None if exact else _TABLE
        _resample(bits, swap, *shape, homographies[part], factors[part], table, out[part], covered[part], missing[part])

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
    bits, swap = _bits(image)
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    out = np.empty(x.shape, np.float64 if exact else np.float32)
    whole = _copied(bits, swap, 0, bits.shape[0], 0, bits.shape[1])
    _resample_positions(whole, x.ravel(), y.ravel(), None if exact else _TABLE, out.reshape(-1))
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
