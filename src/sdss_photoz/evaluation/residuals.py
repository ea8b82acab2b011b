"""Residuals of point redshifts, and their width."""

import numpy as np

MAD_TO_SIGMA = 1.4826  # of a Gaussian


def residuals(z_phot, z_spec) -> np.ndarray:
    """dz = (z_phot - z_spec) / (1 + z_spec), float64, the shape of its arguments."""
    z_spec = np.asarray(z_spec, dtype=np.float64)
    return (np.asarray(z_phot, dtype=np.float64) - z_spec) / (1 + z_spec)


def sigma_mad(dz) -> float:
    """1.4826 x median |dz - median(dz)|."""
    return float(MAD_TO_SIGMA * np.median(np.abs(dz - np.median(dz))))
