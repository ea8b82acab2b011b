"""Stacks of the frames that overlap one galaxy: the unweighted median, as SWarp takes it, or the mean."""

from collections.abc import Hashable, Sequence

import numpy as np

from sdss_photoz.cubes.jit import cached_njit


@cached_njit
def median_stack(layers):
    """Median over the frames that cover a pixel; an even count takes the mean of the two middle values.

    Parameters
    ----------
    layers : ndarray
        (frame, y, x) float32, nanomaggies, NaN where a frame does not cover a pixel.

    Returns
    -------
    flux : ndarray
        (y, x) float32, NaN where no frame covers the pixel.
    depth : int
        Largest number of frames on any pixel.
    covered : int
        Pixels that at least one frame covers.
    """
    frames, height, width = layers.shape
    flux = np.empty((height, width), np.float32)
    values = np.empty(frames, np.float32)
    depth = 0
    covered = 0
    for j in range(height):
        for i in range(width):
            count = 0
            for k in range(frames):
                value = layers[k, j, i]
                if np.isnan(value):
                    continue
                place = count  # insertion keeps the values sorted
                while place > 0 and values[place - 1] > value:
                    values[place] = values[place - 1]
                    place -= 1
                values[place] = value
                count += 1
            if count == 0:
                flux[j, i] = np.nan
                continue
            covered += 1
            depth = max(depth, count)
            middle = count // 2
            if count % 2:
                flux[j, i] = values[middle]
            else:
                flux[j, i] = np.float32(0.5) * (values[middle - 1] + values[middle])
    return flux, depth, covered


def mean_stack(layers):
    """Mean over the frames that cover a pixel, summed in double precision; otherwise as :func:`median_stack`."""
    covered = np.isfinite(layers)
    count = np.count_nonzero(covered, axis=0)
    total = np.sum(layers, axis=0, dtype=float, where=covered)
    flux = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return flux.astype(np.float32), int(count.max(initial=0)), np.count_nonzero(count)


STACKS = {"median": median_stack, "mean": mean_stack}


def trim(layers: np.ndarray, strips: Sequence[Hashable]) -> None:
    """Set pixels to NaN, in place, that an earlier field of the same strip covers.

    Adjacent fields of a run repeat 128 rows of the same camera pixels, which would count twice in the stack.

    Parameters
    ----------
    layers : ndarray
        (frame, y, x) float32, NaN where a frame does not cover a pixel; fields of a strip in the order of their number.
    strips : sequence
        (frame,) identifier of the strip: run and camera column.
    """
    covered = {}
    for layer, strip in zip(layers, strips, strict=True):
        earlier = covered.setdefault(strip, np.zeros(layer.shape, bool))
        layer[earlier] = np.nan
        earlier |= np.isfinite(layer)
