"""The simulated camera and observing conditions: calibration, gain, sky and seeing, as in the survey's imaging data."""

import numpy as np

from sdss_photoz.surveys import SDSS

NANOMAGGY_PER_COUNT = dict(zip(SDSS.band_names, (0.0098, 0.0037, 0.0050, 0.0065, 0.0365), strict=True))
SKY_COUNTS = dict(zip(SDSS.band_names, (22.0, 80.0, 130.0, 175.0, 95.0), strict=True))  # per pixel
SEEING = dict(zip(SDSS.band_names, (1.13, 1.06, 1.0, 0.96, 0.97), strict=True))  # relative to r: u is worst
CAMERA_ROW = {"r": 1, "i": 2, "u": 3, "z": 4, "g": 5}  # the order in which the sky drifts across the filters
GAIN = {  # electrons per count, by camera column (https://data.sdss.org/datamodel, frame)
    "u": (1.62, 1.595, 1.59, 1.6, 1.47, 2.17),
    "g": (3.32, 3.855, 3.845, 3.995, 4.05, 4.035),
    "r": (4.71, 4.6, 4.72, 4.76, 4.725, 4.895),
    "i": (5.165, 6.565, 4.86, 4.885, 4.64, 4.76),
    "z": (4.745, 5.155, 4.885, 4.775, 3.48, 4.69),
}
DARK_VARIANCE = {  # counts^2, by camera column (same page)
    "u": (9.61, 12.6025, 8.7025, 12.6025, 9.3025, 7.0225),
    "g": (15.6025, 1.44, 1.3225, 1.96, 1.1025, 1.8225),
    "r": (1.8225, 1.0, 1.3225, 1.3225, 0.81, 0.9025),
    "i": (7.84, 5.76, 4.6225, 6.5536, 7.84, 5.0625),
    "z": (0.81, 1.0, 1.0, 9.61, 1.8225, 1.21),
}


def draw_conditions(camcol: int, blocks: int, rng: np.random.Generator) -> list[dict]:
    """Draw the conditions of one run, one entry per block of 1361 rows along its strip.

    Returns
    -------
    list of dict
        By band: nmgy (nanomaggies per count), sky (counts per pixel), gain, dark_variance, fwhm (arcsec), and shear
        (g1, g2) of the point spread function. Variations along a strip are some per cent, between runs and bands some
        ten per cent.
    """
    moon, seeing = rng.normal(0, 0.12), rng.uniform(1.12, 1.42)
    run = {
        band: {
            "nmgy": NANOMAGGY_PER_COUNT[band] * np.exp(rng.normal(0, 0.04)),
            "sky": SKY_COUNTS[band] * np.exp(moon + rng.normal(0, 0.06)),
            "fwhm": seeing * SEEING[band] * np.exp(rng.normal(0, 0.02)),
            "shear": rng.normal(0, 0.015, 2),
            "gain": GAIN[band][camcol - 1],
            "dark_variance": DARK_VARIANCE[band][camcol - 1],
        }
        for band in SDSS.band_names
    }
    along = []
    for _ in range(blocks):
        drift = {band: rng.normal(0, 0.015, 2) for band in SDSS.band_names}
        along.append(
            {
                band: {
                    **values,
                    "sky": values["sky"] * np.exp(drift[band][0]),
                    "fwhm": values["fwhm"] * np.exp(drift[band][1]),
                }
                for band, values in run.items()
            }
        )
    return along


def sky_noise(conditions: dict) -> float:
    """Return the standard deviation of a pixel without objects (nanomaggies)."""
    counts = conditions["sky"] / conditions["gain"] + conditions["dark_variance"]
    return float(np.sqrt(counts) * conditions["nmgy"])


def quantum(conditions: dict) -> float:
    """Return the quantisation step of a frame (nanomaggies): the power of two nearest to a fifth of the sky noise."""
    return float(2.0 ** np.rint(np.log2(sky_noise(conditions) / 5)))


def photon_variance(conditions: dict) -> float:
    """Return the photon noise variance per flux (nanomaggies^2 per nanomaggy)."""
    return float(conditions["nmgy"] / conditions["gain"])


def sky_brightness(conditions: dict) -> float:
    """Return the sky brightness (nanomaggies per square arcsec)."""
    return float(conditions["sky"] * conditions["nmgy"] / SDSS.pixel_scale**2)
