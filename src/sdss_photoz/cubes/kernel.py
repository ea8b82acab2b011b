"""Compiled loops of the resampling: from a frame and homographies to cutouts.

They are in one file because numba's cache is invalidated by a change of this file alone, not of files whose functions
are called from here.
"""

import math

import numpy as np
from numba import njit

from sdss_photoz.cubes.jit import cached_njit

TABLE_STEPS = 4096
ROUNDING = 1e-6  # pixels: far above the rounding error of a mapped position
ROOT = math.sqrt(3) / 2


@cached_njit
def basis(ra, dec):
    """Return east, north and outward unit vectors at positions (degrees): (position, vector, axis)."""
    out = np.empty((len(ra), 3, 3))
    for k in range(len(ra)):
        a, d = math.radians(ra[k]), math.radians(dec[k])
        out[k, 0] = -math.sin(a), math.cos(a), 0.0
        out[k, 1] = -math.sin(d) * math.cos(a), -math.sin(d) * math.sin(a), math.cos(d)
        out[k, 2] = math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)
    return out


@cached_njit
def _map_pixel(homography, column, row):
    """Return the frame position x, y of a pixel of the grid, and the cosine w, which must be positive."""
    w = homography[2, 0] * column + homography[2, 1] * row + homography[2, 2]
    x = (homography[0, 0] * column + homography[0, 1] * row + homography[0, 2]) / w
    y = (homography[1, 0] * column + homography[1, 1] * row + homography[1, 2]) / w
    return x, y, w


@cached_njit
def window(homography, size, rows, columns):
    """Return first and end row, first and end column of the part of a frame that a grid reads; zeros if it reads none.

    `size` is the number of pixels of the grid's side, `rows` and `columns` are those of the frame. The grid's edges are
    straight lines on the frame, so its corners bound it. The window is cut at the frame's edges and contains
    all taps of the grid, so the kernel covers the same pixels in the window as in the frame.
    """
    left, right, bottom, top = np.inf, -np.inf, np.inf, -np.inf
    for row in (0, size - 1):
        for column in (0, size - 1):
            x, y, w = _map_pixel(homography, column, row)
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


@cached_njit
def _inside(x, y, rows, columns):
    """Return whether all 36 taps of a position lie inside an image; there are no partial kernels."""
    return x >= 2 and x < columns - 3 and y >= 2 and y < rows - 3


@cached_njit
def _table_weights(fraction, table):
    """Interpolate the weights of the six taps in the table, float32."""
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


@cached_njit
def _exact_weights(fraction):
    """Compute the weights of the six taps by their formula, float64.

    sin(pi (f - k)) has the same magnitude for all taps, which cancels in the normalisation.
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


@njit(inline="always")  # as a call it would take 1.5 times as long
def _weighted_sum(image, x0, y0, wx, wy):
    """Return the weighted sum of the 36 taps, in the precision of the weights."""
    left, bottom = np.uintp(x0 - 2), np.uintp(y0 - 2)  # unsigned indices need no check for negative ones
    total = np.float32(0)
    for m in range(np.uintp(6)):
        part = np.float32(0)
        for k in range(np.uintp(6)):
            part += wx[k] * image[bottom + m, left + k]
        total += wy[m] * part
    return total


@cached_njit
def _sample(image, x, y, table):
    """Interpolate an image at a position inside it, with exact weights if `table` is None; a non-finite tap spreads."""
    x0, y0 = np.intp(x), np.intp(y)  # signed: conversion to unsigned would take a fifth of the total time
    if table is None:
        return _weighted_sum(image, x0, y0, _exact_weights(x - x0), _exact_weights(y - y0))
    return _weighted_sum(image, x0, y0, _table_weights(x - x0, table), _table_weights(y - y0, table))


@cached_njit
def _copy_window(bits, swap, first_row, end_row, first_column, end_column):
    """Copy a window of an image as float32; `bits` holds the values as uint32, byte-swapped if `swap` is true."""
    tile = np.empty((end_row - first_row, end_column - first_column), np.uint32)
    for row in range(tile.shape[0]):
        for column in range(tile.shape[1]):
            value = bits[first_row + row, first_column + column]
            if swap:
                value = (value >> 24) | (value >> 8 & 0xFF00) | (value << 8 & 0xFF0000) | (value << 24)
            tile[row, column] = value
    return tile.view(np.float32)


@cached_njit
def _resample_grid(image, homography, factor, table, out):
    """Resample an image onto one grid; return the numbers of pixels that it covers, and that have a non-finite tap."""
    covered = missing = 0
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[j, i] = np.nan
            x, y, w = _map_pixel(homography, i, j)
            if not (w > 0 and _inside(x, y, *image.shape)):
                continue
            value = _sample(image, x, y, table)
            if np.isfinite(value):
                out[j, i] = value * factor
                covered += 1
            else:
                missing += 1
    return covered, missing


@cached_njit
def resample(bits, swap, rows, columns, homographies, factors, table, out, covered, missing):
    """Resample a frame onto grids, see `resample.resample_grids`.

    `bits` holds the first rows of a frame of shape (rows, columns), for `_copy_window`; `out` is (grid, y, x).
    """
    for n in range(len(homographies)):
        homography = homographies[n].copy()
        first_row, end_row, first_column, end_column = window(homography, out.shape[1], rows, columns)
        if end_row == 0:
            out[n] = np.nan
            covered[n] = missing[n] = 0
            continue
        tile = _copy_window(bits, swap, first_row, end_row, first_column, end_column)
        for k in range(3):
            homography[0, k] -= first_column * homography[2, k]
            homography[1, k] -= first_row * homography[2, k]
        covered[n], missing[n] = _resample_grid(tile, homography, factors[n], table, out[n])


@cached_njit
def resample_positions(image, x, y, table, out):
    """Resample an image at positions x, y (n,) into `out` (n,), NaN if a tap is outside or not finite."""
    for n in range(len(x)):
        out[n] = np.nan
        if _inside(x[n], y[n], *image.shape):
            value = _sample(image, x[n], y[n], table)
            if np.isfinite(value):
                out[n] = value
