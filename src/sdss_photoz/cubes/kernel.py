"""The compiled loops of the resampling: from a frame and homographies to cutouts.

They stand in one file because numba uses the machine code it has kept until this file changes: it does not look at the
files of functions that are called from here.
"""

import math

import numpy as np
from numba import njit

from sdss_photoz.cubes.compiled import compiled
from sdss_photoz.survey import CUBE_SIZE

TABLE_STEPS = 4096
ROUNDING = 1e-6  # pixels: far more than that of a mapped position
ROOT = math.sqrt(3) / 2


@compiled
def basis(ra, dec):
    """East, north and outward unit vectors at positions (degrees): (position, vector, axis)."""
    out = np.empty((len(ra), 3, 3))
    for k in range(len(ra)):
        a, d = math.radians(ra[k]), math.radians(dec[k])
        out[k, 0] = -math.sin(a), math.cos(a), 0.0
        out[k, 1] = -math.sin(d) * math.cos(a), -math.sin(d) * math.sin(a), math.cos(d)
        out[k, 2] = math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)
    return out


@compiled
def _mapped(homography, column, row):
    """Frame position of a pixel of the grid, and the cosine that must be positive."""
    w = homography[2, 0] * column + homography[2, 1] * row + homography[2, 2]
    x = (homography[0, 0] * column + homography[0, 1] * row + homography[0, 2]) / w
    y = (homography[1, 0] * column + homography[1, 1] * row + homography[1, 2]) / w
    return x, y, w


@compiled
def window(homography, rows, columns):
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
        int(max(bottom - ROUNDING, 2)) - 2,
        min(int(min(top + ROUNDING, rows)) + 4, rows),
        int(max(left - ROUNDING, 2)) - 2,
        min(int(min(right + ROUNDING, columns)) + 4, columns),
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
    scale = 1 / (a + b + c + d + e + f)
    return a * scale, b * scale, c * scale, d * scale, e * scale, f * scale


@njit(inline="always")  # called, it would take half as long again
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
def _fill(image, homography, factor, table, out):
    """Resample an image onto one grid; the number of pixels that it covers, and of those where a tap is not finite."""
    covered = missing = 0
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[j, i] = np.nan
            x, y, w = _mapped(homography, i, j)
            if not (w > 0 and _inside(x, y, *image.shape)):
                continue
            value = _sample(image, x, y, table)
            if np.isfinite(value):
                out[j, i] = value * factor
                covered += 1
            else:
                missing += 1
    return covered, missing


@compiled
def resample(bits, swap, rows, columns, homographies, factors, table, out, covered, missing):
    """Resample a frame of so many rows and columns, given as for `_copied` and perhaps not to its end, onto grids."""
    for n in range(len(homographies)):
        homography = homographies[n].copy()
        first_row, end_row, first_column, end_column = window(homography, rows, columns)
        if end_row == 0:
            out[n] = np.nan
            covered[n] = missing[n] = 0
            continue
        tile = _copied(bits, swap, first_row, end_row, first_column, end_column)
        for k in range(3):
            homography[0, k] -= first_column * homography[2, k]
            homography[1, k] -= first_row * homography[2, k]
        covered[n], missing[n] = _fill(tile, homography, factors[n], table, out[n])


@compiled
def resample_positions(image, x, y, table, out):
    """Resample an image at any positions."""
    for n in range(len(x)):
        out[n] = np.nan
        if _inside(x[n], y[n], *image.shape):
            value = _sample(image, x[n], y[n], table)
            if np.isfinite(value):
                out[n] = value
