"""Residuals of photometric redshifts, and their scatter."""

import numpy as np
from numpy.typing import ArrayLike

MAD_TO_SIGMA = 1.4826  # of a Gaussian


def residuals(z_phot: ArrayLike, z_spec: ArrayLike) -> np.ndarray:
    """Residuals dz = (z_phot - z_spec) / (1 + z_spec), float64, of the shape of the arguments."""
    z_spec = np.asarray(z_spec, dtype=np.float64)
    return (np.asarray(z_phot, dtype=np.float64) - z_spec) / (1 + z_spec)


def sigma_mad(dz: ArrayLike) -> float:
    """Scaled median absolute deviation, 1.4826 x median |dz - median(dz)|."""
    return float(MAD_TO_SIGMA * np.median(np.abs(dz - np.median(dz))))
