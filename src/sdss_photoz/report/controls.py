"""What the report says of negative controls."""

import pandas as pd

from sdss_photoz.report.tables import number

CONTROLS = {
    "forest": "forest on place, depth, noise, seeing and order",
    "target_removed": "networks, galaxies removed",
    "shuffled_labels": "networks, redshifts shuffled",
}
UNKNOWN = {"value": None, "error": None}


def control_table(trials: dict[str, dict], kinds: dict[str, str]) -> pd.DataFrame:
    """Negative controls of all trials beside the prior, each with what its scores say.

    Parameters
    ----------
    trials : dict
        metrics.json of each trial.
    kinds : dict
        ``control`` of each trial, as the configuration has it.

    Returns
    -------
    DataFrame
        trial, control (``forest``, ``target_removed``, ``shuffled_labels``), galaxies; sigma_mad, that of the prior
        (``prior``), their difference and Spearman's correlation of the control's redshifts with the true ones, each
        with its error (the correlation not of networks that learned from shuffled redshifts); ``better`` (bool), and
        ``finding``, in words.
    """
    rows = []
    for trial, found in trials.items():
        if "controls" not in found:
            continue
        part, control = found["controls"], "forest" if kinds[trial] == "none" else kinds[trial]
        entries = {
            "sigma_mad": part["scores"]["control"]["sigma_mad"],
            "prior": part["scores"]["prior"]["sigma_mad"],
            "difference": part["differences"]["control - prior"]["sigma_mad"],
            # what networks make of shuffled redshifts follows brightness or colour by chance, and with them redshift
            "correlation": UNKNOWN if control == "shuffled_labels" else part["correlation"],
        }
        row = {"trial": trial, "control": control, "galaxies": part["galaxies"]}
        for name, entry in entries.items():
            row |= {name: entry["value"], f"{name}_error": entry["error"]}
        better, finding = _finding(*(entries[name] for name in ("sigma_mad", "difference", "correlation")))
        rows.append(row | {"better": better, "finding": finding})
    return pd.DataFrame(rows)


def _finding(sigma_mad, difference, correlation) -> tuple[bool, str]:
    """Whether a control knows more than the prior, and that in words.

    A constant redshift that is lower has a lower sigma_MAD, for that grows with 1 + z_phot, so a difference that is
    small beside the error of the score itself counts only where the control's redshifts follow the true ones.
    """
    if sigma_mad["error"] is None:
        return False, "no error: the galaxies lie in a single sky cell"
    follows = correlation["value"] is not None and correlation["value"] > 2 * correlation["error"]
    if difference["value"] < -2 * sigma_mad["error"] or (difference["value"] < -2 * difference["error"] and follows):
        return True, "BETTER than the prior"
    if difference["value"] > 2 * sigma_mad["error"]:
        return False, "worse than the prior"
    return False, "the prior's, within its error"


def control_rows(table: pd.DataFrame) -> list[list[str]]:
    """Rows of `control_table` as text: name, score, prior, difference, correlation, finding."""
    rows = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        score, before, apart = (
            number("sigma_mad", row[name], row[f"{name}_error"], signed=name == "difference")
            for name in ("sigma_mad", "prior", "difference")
        )
        follows = "–" if row["correlation"] is None else f"{row['correlation']:+.3f}".replace("-", "−")
        follows += "" if row["correlation_error"] is None else f" ± {row['correlation_error']:.3f}"
        rows.append([f"{CONTROLS[row['control']]} ({row['trial']})", score, before, apart, follows, row["finding"]])
    return rows


def with_networks(table: pd.DataFrame, trials: dict[str, dict], kinds: dict[str, str]) -> pd.DataFrame:
    """`control_table` with a label for each row, and below it the networks that see galaxies and redshifts, for scale.

    Parameters
    ----------
    table : DataFrame
        Of `control_table`.
    trials, kinds : dict
        As there.

    Returns
    -------
    DataFrame
        The columns of `table` and ``label``; of networks (``control`` is ``network``) only trial, label, galaxies,
        sigma_mad and its error are known.
    """
    table = table.assign(label=[row[0] for row in control_rows(table)])
    rows = table.to_dict("records")
    for trial, found in trials.items():
        if kinds[trial] == "none":
            score = found["headline"]["scores"]["network"]["sigma_mad"]
            row = {"trial": trial, "control": "network", "label": f"networks ({trial})", "better": False}
            row |= {"galaxies": found["headline"]["galaxies"], "sigma_mad": score["value"]}
            rows.append(row | {"sigma_mad_error": score["error"]})
    return pd.DataFrame(rows, columns=table.columns)
