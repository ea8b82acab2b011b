"""The prior: the same redshift for every galaxy, the median of its training galaxies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz.config import Evaluation


def features(galaxies: pd.DataFrame, quality: Sequence[Path], fields: Path | None) -> np.ndarray:
    """No features: float64 (galaxy, 0)."""
    return np.empty((len(galaxies), 0))


def estimate(train: np.ndarray, train_z: np.ndarray, test: np.ndarray, settings: Evaluation) -> dict[str, np.ndarray]:
    """``z_phot_prior``: the median of the training redshifts, float64 (test galaxy,)."""
    return {"z_phot_prior": np.full(len(test), np.median(train_z))}
