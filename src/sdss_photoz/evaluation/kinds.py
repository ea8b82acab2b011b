"""How the predictions of each kind of target are named in ``photoz.parquet``, and scored."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz.config import Evaluation
from sdss_photoz.scores import metrics, values, yes_no
from sdss_photoz.scores.residuals import residuals


class Kind(NamedTuple):
    """A kind of target.

    Attributes
    ----------
    name : {"redshift", "value", "yes_no"}
    true, point : str
        Columns of ``photoz.parquet``: the true value, and the ensemble's prediction; the names of other predictions
        begin with it.
    best : str
        The score by which methods are compared in words.
    """

    name: str
    true: str
    point: str
    best: str

    def column(self, method: str) -> str:
        """Column of the predictions of a method of ``metrics.json``."""
        return self.point if method == "network" else f"{self.point}_{method}"

    def scored(self, photoz: pd.DataFrame) -> pd.DataFrame:
        """The rows that enter scores: galaxies with a frame in each band that is read, and a true value."""
        return photoz[photoz["has_frames"] & photoz[self.true].notna()]

    def arrays(self, photoz: pd.DataFrame, method: str) -> dict[str, np.ndarray]:
        """Arguments of the score of a method, (galaxy,) each: with CRPS where it has distributions."""
        predicted, true = photoz[self.column(method)].to_numpy(), photoz[self.true].to_numpy()
        if self.name == "yes_no":
            return {"probability": predicted, "yes": true > 0.5}
        found = {"dz": residuals(predicted, true)} if self.name == "redshift" else {"residual": predicted - true}
        crps = "crps" if method == "network" else f"crps_{method}"
        return found | ({"crps": photoz[crps].to_numpy()} if crps in photoz else {})

    def score(self, settings: Evaluation) -> Callable[..., dict[str, float]]:
        """The function of `arrays` that returns the scores."""
        if self.name == "redshift":
            return partial(metrics.scores, outlier=settings.outlier)
        return values.scores if self.name == "value" else yes_no.scores


KINDS = {
    "redshift": Kind("redshift", "z_spec", "z_phot", "sigma_mad"),
    "value": Kind("value", "true", "predicted", "rmse"),
    "yes_no": Kind("yes_no", "true", "predicted", "auc"),
}
