"""The stack of the frames that overlap one galaxy, by SWarp's rule: their unweighted median."""

import numpy as np

from sdss_photoz.cubes.compiled import compiled


@compiled
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
