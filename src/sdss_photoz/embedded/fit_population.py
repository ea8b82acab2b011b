"""Fit the population of the simulated sky to real galaxies: ``python -m sdss_photoz.embedded.fit_population TABLE…``.

A Gaussian mixture describes redshift, r and colours of Main Galaxy Sample galaxies without the catalogue's noise: the
mean noise covariance of each component's galaxies is subtracted from its covariance (the solution of extreme
deconvolution for equal noise; Bovy, Hogg & Roweis 2011). Only means, covariances and weights are saved, no galaxy.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.mixture import GaussianMixture

from sdss_photoz.files import write_json

POPULATION = Path(__file__).with_name("population.json")
COORDINATES = ("log10_z", "r", "u-g", "g-r", "r-i", "i-z")
EDGE = 17.77  # faint limit of the Main Galaxy Sample, mag
COMPONENTS = 80
SMALLEST_SCATTER = np.array([0.007, 0.015, 0.015, 0.004, 0.002, 0.003])  # of a component, in each coordinate
PLAUSIBLE = {"u-g": (0.3, 2.9), "g-r": (-0.1, 1.6), "r-i": (-0.1, 0.75), "i-z": (-0.15, 0.65)}


def read_training_table(path) -> pd.DataFrame:
    """Read a table of MLZ's example data: redshift ``zs``, magnitudes, colours, and their errors (``e…``).

    The file's header lacks ``eu`` and is not used.
    """
    values = [*"ugriz", *COORDINATES[2:]]
    return pd.read_csv(path, sep=r"\s+", skiprows=1, names=["zs", *values, *(f"e{name}" for name in values)])


def coordinates(table: pd.DataFrame) -> np.ndarray:
    """Return the mixture's coordinates `COORDINATES`, shape (galaxies, 6)."""
    return np.column_stack([np.log10(table["zs"]), *(table[name] for name in COORDINATES[1:])])


def noise_covariances(table: pd.DataFrame) -> np.ndarray:
    """Propagate the errors of five magnitudes to covariances of the coordinates, shape (galaxies, 6, 6)."""
    to_coordinates = np.zeros((6, 5))
    to_coordinates[1, 2] = 1
    for colour in range(4):
        to_coordinates[2 + colour, colour], to_coordinates[2 + colour, colour + 1] = 1, -1
    variances = table[[f"e{band}" for band in "ugriz"]].to_numpy() ** 2
    return np.einsum("cb,gb,db->gcd", to_coordinates, variances, to_coordinates)


def floor_scatter(covariance: np.ndarray, smallest: np.ndarray) -> np.ndarray:
    """Raise eigenvalues of a covariance so that, in units of `smallest`, the scatter along each axis is at least 1."""
    values, axes = np.linalg.eigh(covariance / np.outer(smallest, smallest))
    return (axes * np.maximum(values, 1)) @ axes.T * np.outer(smallest, smallest)


def fit(table: pd.DataFrame, components: int = COMPONENTS) -> dict:
    """Fit the mixture.

    Parameters
    ----------
    table : DataFrame
        As returned by `read_training_table`; magnitudes are dereddened.
    components : int
        Number of Gaussians.

    Returns
    -------
    dict
        ``weights`` (components), ``means`` (components, 6) and ``covariances`` (components, 6, 6) as lists.
    """
    kept = np.all([table[name].between(*limits) for name, limits in PLAUSIBLE.items()], axis=0)
    table = table[kept & (table["r"] < EDGE + 0.1)]
    x, noise = coordinates(table), noise_covariances(table)
    mirrored = x.copy()  # reflected at the faint limit, or the mixture's density would decline before it
    mirrored[:, 1] = 2 * EDGE - mirrored[:, 1]
    scale = x.std(axis=0)
    mixture = GaussianMixture(components, reg_covar=1e-4, max_iter=500, random_state=1)
    mixture.fit(np.concatenate([x, mirrored]) / scale)
    responsibilities = mixture.predict_proba(np.concatenate([x, mirrored]) / scale)
    noise = np.concatenate([noise, noise])
    covariances = [
        floor_scatter(covariance * np.outer(scale, scale) - np.average(noise, axis=0, weights=weight), SMALLEST_SCATTER)
        for covariance, weight in zip(mixture.covariances_, responsibilities.T, strict=True)
    ]
    return {
        "coordinates": list(COORDINATES),
        "weights": np.round(mixture.weights_ / mixture.weights_.sum(), 7).tolist(),
        "means": np.round(mixture.means_ * scale, 5).tolist(),
        "covariances": np.round(covariances, 8).tolist(),
    }


def main(paths: list[str]) -> None:
    """Fit the joined tables at `paths` and replace the population in the package."""
    write_json(POPULATION, fit(pd.concat([read_training_table(path) for path in paths], ignore_index=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
