"""The report's tables: scores as numbers for programs, and as text for people."""

import pandas as pd
from markupsafe import Markup

LABELS = {
    "network": "network (ensemble)",
    "local_linear": "local-linear regression",
    "archive": "the archive's redshifts",
    "mean": "mean of network and regression",
}
SHORT = {"network": "network", "local_linear": "local-linear", "archive": "archive", "mean": "mean"}
CONTROLS = {
    "forest": "forest on place, depth, noise, seeing and order",
    "target_removed": "networks, galaxies removed",
    "shuffled_labels": "networks, redshifts shuffled",
}
SCORES = {  # score: heading, factor, digits, unit
    "sigma_mad": ("σ<sub>MAD</sub>", 1, 5, ""),
    "bias": ("bias", 1, 5, ""),
    "outliers": ("outliers", 100, 2, " %"),
    "crps": ("CRPS", 1, 5, ""),
}


def number(score: str, value: float | None, error: float | None = None, signed: bool = False) -> str:
    """A score as text, with its error where it has one."""
    if value is None:
        return "–"
    _, factor, digits, unit = SCORES[score]
    sign = "+" if signed or score == "bias" else ""
    text = f"{value * factor:{sign}.{digits}f}".replace("-", "−")
    return text + (f" ± {error * factor:.{digits}f}" if error is not None else "") + unit


def _of(found, score):
    return (found[score]["value"], found[score]["error"]) if score in found else (None,)


def score_rows(comparison: dict) -> list[list[str]]:
    """Rows (method, score, ...) of one comparison in metrics.json, then its differences."""
    methods = [method for method in LABELS if method in comparison["scores"]]
    rows = [
        [LABELS[method], *(number(score, *_of(comparison["scores"][method], score)) for score in SCORES)]
        for method in methods
    ]
    pairs = [tuple(pair.split(" - ")) for pair in comparison["differences"]]
    for first, second in sorted(pairs, key=lambda pair: [list(LABELS).index(name) for name in pair]):
        found = comparison["differences"][f"{first} - {second}"]
        label = f"{SHORT[first]} − {SHORT[second]}"
        rows.append([label, *(number(score, *_of(found, score), signed=True) for score in SCORES)])
    return rows


def verdict(comparison: dict, other: str) -> Markup:
    """One sentence that compares the network's sigma_MAD with another method's, as the numbers have it."""
    each = comparison["scores"]
    network, second = (number("sigma_mad", *_of(each[name], "sigma_mad")) for name in ("network", other))
    difference = comparison["differences"][f"network - {other}"]["sigma_mad"]
    value, error = difference["value"], difference["error"]
    if error is None:
        finding = "the galaxies lie in a single sky cell, so the difference has no error"
    elif abs(value) < 2 * error:
        finding = "the two cannot be told apart"
    else:
        finding = f"the network is {'better' if value < 0 else 'worse'}"
    return Markup(
        f"{SCORES['sigma_mad'][0]} of the network is {network}, that of {LABELS[other]} on the same "
        f"{comparison['galaxies']:,} galaxies {second}; the paired difference is "
        f"{number('sigma_mad', value, error, signed=True)}: {finding}."
    )


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
        with its error; ``better`` (bool), and ``finding``, in words.
    """
    rows = []
    for trial, found in trials.items():
        if "controls" not in found:
            continue
        part = found["controls"]
        entries = {
            "sigma_mad": part["scores"]["control"]["sigma_mad"],
            "prior": part["scores"]["prior"]["sigma_mad"],
            "difference": part["differences"]["control - prior"]["sigma_mad"],
            "correlation": part["correlation"],
        }
        row = {"trial": trial, "control": "forest" if kinds[trial] == "none" else kinds[trial]}
        row["galaxies"] = part["galaxies"]
        for name, entry in entries.items():
            row |= {name: entry["value"], f"{name}_error": entry["error"]}
        better, finding = _control_finding(**entries)
        rows.append(row | {"better": better, "finding": finding})
    return pd.DataFrame(rows)


def _control_finding(sigma_mad, prior, difference, correlation) -> tuple[bool, str]:
    """Whether a control knows more than the prior, and that in words.

    A constant redshift that is lower has a lower sigma_MAD, for that grows with 1 + z_phot, so a difference that is
    small beside the error of the score itself counts only where the control's redshifts follow the true ones.
    """
    if sigma_mad["error"] is None:
        return False, "no error: the galaxies lie in a single sky cell"
    follows = correlation["value"] > 2 * correlation["error"]
    if difference["value"] < -2 * sigma_mad["error"] or (difference["value"] < -2 * difference["error"] and follows):
        return True, "BETTER than the prior: something else than the galaxy tells its redshift"
    if difference["value"] > 2 * sigma_mad["error"]:
        return False, "worse than the prior"
    return False, "the prior's, within its error"


def control_rows(table: pd.DataFrame) -> list[list[str]]:
    """Rows of `control_table` as text, the prior's score of each trial first."""
    rows = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        score, before, apart = (
            number("sigma_mad", row[name], row[f"{name}_error"], signed=name == "difference")
            for name in ("sigma_mad", "prior", "difference")
        )
        error = "" if row["correlation_error"] is None else f" ± {row['correlation_error']:.3f}"
        follows = f"{row['correlation']:+.3f}".replace("-", "−") + error
        rows.append([f"{CONTROLS[row['control']]} ({row['trial']})", score, before, apart, follows, row["finding"]])
    return rows


def scatter_rows(found: dict) -> list[list[str]]:
    """Rows of each fold and member in metrics.json, with the scatter over them."""
    several = max((fold["repeat"] for fold in found["folds"]), default=0) > 0
    rows = []
    for method in ("network", "local_linear"):
        for fold in found["folds"]:
            name = f"fold {fold['fold']}" + (f", repeat {fold['repeat']}" if several else "")
            scores = [number(score, fold[method].get(score)) for score in SCORES]
            rows.append([f"{SHORT[method]}, {name}", f"{fold['galaxies']:,}", *scores])
        scatter = [number(score, found["scatter"]["folds"][method].get(score)).lstrip("+") for score in SCORES]
        rows.append([f"{SHORT[method]}, scatter over folds", "", *scatter])
    for member in found["members"]:
        scores = [number(score, member.get(score)) for score in SCORES]
        rows.append([f"network, member {member['member']} alone", "", *scores])
    scatter = [number(score, found["scatter"]["members"].get(score)).lstrip("+") for score in SCORES]
    return [*rows, ["network, scatter over members", "", *scatter]]


def scores_table(trials: dict[str, dict]) -> pd.DataFrame:
    """All scores and differences of all trials: trial, galaxies, method, score, value, error."""
    rows = [
        (trial, group, name, score, entry["value"], entry["error"])
        for trial, found in trials.items()
        for group in ("headline", "with_archive")
        if found[group] is not None
        for kind in ("scores", "differences")
        for name, scores in found[group][kind].items()
        for score, entry in scores.items()
    ]
    return pd.DataFrame(rows, columns=["trial", "galaxies", "method", "score", "value", "error"])


def parts_table(trials: dict[str, dict]) -> pd.DataFrame:
    """Scores of each fold and of each member: trial, part, number, repeat, method, score, value."""
    rows = []
    for trial, found in trials.items():
        for fold in found["folds"]:
            for method in ("network", "local_linear"):
                rows += [
                    (trial, "fold", fold["fold"], fold["repeat"], method, score, value)
                    for score, value in fold[method].items()
                ]
        for member in found["members"]:
            rows += [
                (trial, "member", member["member"], None, "network", score, value)
                for score, value in member.items()
                if score != "member"
            ]
    table = pd.DataFrame(rows, columns=["trial", "part", "number", "repeat", "method", "score", "value"])
    return table.astype({"repeat": "Int64"})
