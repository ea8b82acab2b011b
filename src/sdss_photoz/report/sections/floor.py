"""A trial beside the floor of its population: sentences among the headline's verdicts, rows of ``scores.csv``."""

import pandas as pd
from markupsafe import Markup

from sdss_photoz.evaluation.gap import MAX_KS_ENSEMBLE, MAX_KS_MEMBER, REQUIRED_GALAXIES, REQUIRED_GAP_CLOSED
from sdss_photoz.report.score_text import SCORES, number, score_of
from sdss_photoz.report.section import Trial


def verdicts(trial: Trial) -> list[Markup]:
    """Sentences on the gap to the floor and on calibration; none where the floor is not known."""
    if trial.floor is None:
        return []
    return [
        gap_verdict(trial.gap, trial.floor.images["sigma_mad"], trial.metrics["headline"]),
        calibration_verdict(trial.calibration, len(trial.scored)),
    ]


def gap_table(trial: Trial) -> pd.DataFrame | None:
    """The same numbers as rows of ``scores.csv``; None where the floor is not known, or of a negative control."""
    if trial.floor is None or trial.control != "none":
        return None
    floor, gap, calibration = trial.floor.images["sigma_mad"], trial.gap, trial.calibration
    rows = [("floor", "sigma_mad", floor["value"], floor["error"])]
    rows += [("network", "gap_closed", gap["value"], gap["error"])]
    rows += [(row.method, "pit_ks", row.ks, None) for row in calibration.itertuples()]
    rows += [(row.method, "pit_dispersion", row.dispersion, row.error) for row in calibration.itertuples()]
    rows = [(trial.name, "headline", *row) for row in rows]
    return pd.DataFrame(rows, columns=["trial", "galaxies", "method", "score", "value", "error"])


def gap_verdict(gap: dict, floor: dict, comparison: dict) -> Markup:
    """One sentence on the fraction of the gap that the ensemble closes between local-linear regression and the floor.

    Parameters
    ----------
    gap : dict
        Of `gap.gap_closed`.
    floor : dict
        ``value`` and ``error`` of the floor's sigma_MAD.
    comparison : dict
        ``headline`` of metrics.json; with fewer galaxies than `gap.REQUIRED_GALAXIES` nothing is required.
    """
    regression = score_of(comparison["scores"]["local_linear"], "sigma_mad")
    best = number("sigma_mad", floor["value"], floor["error"])
    ends = (
        f"between local-linear regression ({number('sigma_mad', *regression)}) and the floor ({best}), the score of "
        "the best estimator from what the images hold"
    )
    if gap["value"] is None:
        return Markup(f"There is no gap in {SCORES['sigma_mad'][0]} {ends}.")
    error = "" if gap["error"] is None else f" ± {100 * gap['error']:.1f}"
    closed = f"{100 * gap['value']:.1f}{error}".replace("-", "−")
    required = f"At least {100 * REQUIRED_GAP_CLOSED:.0f} % are asked"
    if (galaxies := comparison["galaxies"]) < REQUIRED_GALAXIES:
        required += f" of a run with {REQUIRED_GALAXIES:,} test galaxies, such as config/embedded-large.yaml; "
        required += f"this one has {galaxies:,}"
    else:
        required += ": pass" if gap["value"] >= REQUIRED_GAP_CLOSED else ": fail"
    return Markup(f"The ensemble closes {closed} % of the gap in {SCORES['sigma_mad'][0]} {ends}. {required}.")


def calibration_verdict(calibration: pd.DataFrame, galaxies: int) -> Markup:
    """A few sentences on the PIT of the ensemble and its members, from a table of `gap.calibration`."""
    judged = galaxies >= REQUIRED_GALAXIES
    which = "this run" if judged else f"a run with {REQUIRED_GALAXIES:,} test galaxies"
    verdict = {True: " (pass)", False: " (fail)"} if judged else {True: "", False: ""}
    each = [f"{row.ks:.4f}{verdict[row.passed]}" for row in calibration.itertuples()]
    ensemble = calibration.iloc[0]
    wide = abs(ensemble["dispersion"]) > 2 * ensemble["error"]
    kind = "neither too wide nor too narrow" if not wide else "too narrow" if ensemble["dispersion"] > 0 else "too wide"
    error = "" if pd.isna(ensemble["error"]) else f" ± {100 * ensemble['error']:.1f}"
    excess = f"{100 * ensemble['dispersion']:+.1f}{error} %".replace("-", "−")
    return Markup(
        f"Kolmogorov-Smirnov distance of PIT from that of calibrated distributions: ensemble {each[0]}; its "
        f"distributions are {kind} (variance of PIT {excess} off). Members {', '.join(each[1:])}. Calibrated ones of "
        f"{galaxies:,} galaxies have {0.8687 / galaxies**0.5:.4f} on average. "
        f"Of {which} at most {MAX_KS_ENSEMBLE} is asked for the ensemble, and that it is not too narrow, and at most "
        f"{MAX_KS_MEMBER} for each member."
    )
