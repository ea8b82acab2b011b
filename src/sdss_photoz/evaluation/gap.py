"""A trial beside the floor: the fraction of the gap in sigma_MAD that its networks close, and their calibration."""

import numpy as np
import pandas as pd
from scipy.stats import kstest

from sdss_photoz.config import Evaluation
from sdss_photoz.scores import metrics
from sdss_photoz.scores.residuals import residuals, sigma_mad
from sdss_photoz.surveys.sdss import split_object_id

COMPARED = {"network": "z_phot", "local_linear": "z_phot_local_linear"}
REQUIRED_GAP_CLOSED = 0.7  # fraction of the gap, at least
REQUIRED_GALAXIES = 20_000  # test galaxies, as config/embedded-large.yaml has: with fewer nothing is required
MAX_KS_MEMBER, MAX_KS_ENSEMBLE = 0.015, 0.03  # Kolmogorov-Smirnov distances of PIT, at most
UNIFORM = 1 / 12  # variance of the PIT of calibrated distributions


def gap_closed(photoz: pd.DataFrame, floor: dict[str, float], settings: Evaluation) -> dict[str, float | None]:
    """Fraction of the gap in sigma_MAD between local-linear regression and the floor that the ensemble closes.

    Parameters
    ----------
    photoz : DataFrame
        The scored galaxies, as `evaluate` writes them.
    floor : dict
        ``value`` and ``error`` of the floor's sigma_MAD.
    settings : config.Evaluation
        Resamples and seed of the bootstrap.

    Returns
    -------
    dict
        ``value`` and ``error``. The error is that of a paired bootstrap over fields, with the floor's own added in
        quadrature; None where there is one field. Both are None where the regression is not above the floor.
    """
    dz = {name: residuals(photoz[column], photoz["z_spec"]) for name, column in COMPARED.items()}
    repeat = photoz["repeat"].to_numpy()
    repeats = np.unique(repeat)

    def scores(rows):
        parts = [part for number in repeats if len(part := rows[repeat[rows] == number])]
        return [np.mean([sigma_mad(dz[name][part]) for part in parts]) for name in COMPARED]

    def closed(network, regression):
        return (regression - network) / (regression - floor["value"])

    network, regression = scores(np.arange(len(photoz)))
    if regression <= floor["value"]:
        return {"value": None, "error": None}
    value = closed(network, regression)
    fields = field_numbers(photoz)
    if fields.max() == 0:
        return {"value": float(value), "error": None}
    resampled = metrics.bootstrap(
        lambda rows: {"closed": closed(*scores(rows))}, fields, settings.bootstrap, settings.seed
    )
    from_floor = floor["error"] * value / (regression - floor["value"])
    return {"value": float(value), "error": float(np.hypot(np.std(resampled["closed"], ddof=1), from_floor))}


def field_numbers(photoz: pd.DataFrame) -> np.ndarray:
    """Number (galaxy,) of the field of each galaxy, counted from 0."""
    run, camcol, field, _ = split_object_id(photoz["object_id"].to_numpy())
    return np.unique((run << 32) | (camcol << 16) | field, return_inverse=True)[1]


def calibration(photoz: pd.DataFrame, settings: Evaluation) -> pd.DataFrame:
    """Distance of PIT from a uniform distribution, and its dispersion, for the ensemble and each member.

    Parameters
    ----------
    photoz : DataFrame
        The scored galaxies, as `evaluate` writes them.
    settings : config.Evaluation
        Resamples and seed of the bootstrap, over fields.

    Returns
    -------
    DataFrame
        A row for the ``network`` (the ensemble) and each ``member_M``: method; ks, the Kolmogorov-Smirnov distance from
        the uniform distribution, and at_most, its limit; dispersion, PIT's variance over that of calibrated
        distributions minus 1 (negative where distributions are too wide), with its error (NaN in a single field);
        passed. The ensemble passes only where its distributions are not too narrow by more than twice the error.
    """
    columns = {"network": "pit"} | {
        name.removeprefix("pit_"): name for name in photoz if name.startswith("pit_member_")
    }  # fmt: skip
    pit = photoz[list(columns.values())].to_numpy()
    fields = field_numbers(photoz)
    dispersion = np.var(pit, axis=0) / UNIFORM - 1
    error = np.full(len(columns), np.nan)
    if fields.max() > 0:
        resampled = metrics.bootstrap(
            lambda rows: dict(enumerate(np.var(pit[rows], axis=0) / UNIFORM - 1)),
            fields, settings.bootstrap, settings.seed,
        )  # fmt: skip
        error = np.std(list(resampled.values()), axis=1, ddof=1)
    table = pd.DataFrame({"method": list(columns), "ks": [float(kstest(one, "uniform").statistic) for one in pit.T]})
    table["at_most"] = [MAX_KS_ENSEMBLE, *[MAX_KS_MEMBER] * (len(table) - 1)]
    table["dispersion"], table["error"] = dispersion, error
    too_narrow = (table["method"] == "network") & (table["dispersion"] > 2 * table["error"])
    table["passed"] = (table["ks"] <= table["at_most"]) & ~too_narrow
    return table
