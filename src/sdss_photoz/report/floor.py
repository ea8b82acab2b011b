"""What the report says of a trial beside the floor of its population."""

import pandas as pd
from markupsafe import Markup

from sdss_photoz.evaluation.gap import ASKED_OF, CLOSED, KS_ENSEMBLE, KS_MEMBER
from sdss_photoz.report.tables import SCORES, number, score_of


def gap_verdict(gap: dict, floor: dict, comparison: dict) -> Markup:
    """One sentence that says how much of the gap between local-linear regression and the floor the ensemble closes.

    Parameters
    ----------
    gap : dict
        Of `gap.gap_closed`.
    floor : dict
        ``value`` and ``error`` of the floor's sigma_MAD.
    comparison : dict
        ``headline`` of metrics.json; with fewer galaxies than `gap.ASKED_OF` nothing is asked of it.
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
    asked = f"At least {100 * CLOSED:.0f} % are asked"
    if (galaxies := comparison["galaxies"]) < ASKED_OF:
        asked += (
            f" of a run with {ASKED_OF:,} test galaxies, such as config/embedded-large.yaml; this one has {galaxies:,}"
        )
    else:
        asked += ": pass" if gap["value"] >= CLOSED else ": fail"
    return Markup(f"The ensemble closes {closed} % of the gap in {SCORES['sigma_mad'][0]} {ends}. {asked}.")


def calibration_verdict(calibration: pd.DataFrame, galaxies: int) -> Markup:
    """A few sentences on the PIT of the ensemble and its members, from a table of `gap.calibration`."""
    asked = galaxies >= ASKED_OF
    whom = "this run" if asked else f"a run with {ASKED_OF:,} test galaxies"
    word = {True: " (pass)", False: " (fail)"} if asked else {True: "", False: ""}
    each = [f"{row.ks:.4f}{word[row.passed]}" for row in calibration.itertuples()]
    ensemble = calibration.iloc[0]
    wide = abs(ensemble["dispersion"]) > 2 * ensemble["error"]
    kind = "neither too wide nor too narrow" if not wide else "too narrow" if ensemble["dispersion"] > 0 else "too wide"
    error = "" if pd.isna(ensemble["error"]) else f" ± {100 * ensemble['error']:.1f}"
    off = f"{100 * ensemble['dispersion']:+.1f}{error} %".replace("-", "−")
    return Markup(
        f"Kolmogorov-Smirnov distance of PIT from that of calibrated distributions: ensemble {each[0]}; its "
        f"distributions are {kind} (variance of PIT {off} off). Members {', '.join(each[1:])}. Calibrated ones of "
        f"{galaxies:,} galaxies have {0.8687 / galaxies**0.5:.4f} on average. "
        f"Of {whom} at most {KS_ENSEMBLE} is asked for the ensemble, and that it is not too narrow, and at most "
        f"{KS_MEMBER} for each member."
    )


def gap_table(trial: str, gap: dict, floor: dict, calibration: pd.DataFrame) -> pd.DataFrame:
    """The same as rows of `scores_table`."""
    rows = [("floor", "sigma_mad", floor["value"], floor["error"])]
    rows += [("network", "gap_closed", gap["value"], gap["error"])]
    rows += [(row.method, "pit_ks", row.ks, None) for row in calibration.itertuples()]
    rows += [(row.method, "pit_dispersion", row.dispersion, row.error) for row in calibration.itertuples()]
    rows = [(trial, "headline", *row) for row in rows]
    return pd.DataFrame(rows, columns=["trial", "galaxies", "method", "score", "value", "error"])
