"""The report's tables: scores as numbers for programs, and as text for people."""

import pandas as pd
from markupsafe import Markup

LABELS = {
    "network": "network (ensemble)",
    "local_linear": "local-linear regression",
    "archive": "the archive's redshifts",
    "mean": "mean of network and regression",
    "regressed": "regressed from the network's distributions",
}
SHORT = {
    "network": "network",
    "local_linear": "local-linear",
    "archive": "archive",
    "mean": "mean",
    "regressed": "regressed",
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


def score_of(found: dict, score: str) -> tuple:
    """Value and error of a score of one method in metrics.json, as `number` takes them."""
    return (found[score]["value"], found[score]["error"]) if score in found else (None,)


def score_rows(comparison: dict) -> list[list[str]]:
    """Rows (method, score, ...) of one comparison in metrics.json, then its differences."""
    methods = [method for method in LABELS if method in comparison["scores"]]
    rows = [
        [LABELS[method], *(number(score, *score_of(comparison["scores"][method], score)) for score in SCORES)]
        for method in methods
    ]
    pairs = [tuple(pair.split(" - ")) for pair in comparison["differences"]]
    for first, second in sorted(pairs, key=lambda pair: [list(LABELS).index(name) for name in pair]):
        found = comparison["differences"][f"{first} - {second}"]
        label = f"{SHORT[first]} − {SHORT[second]}"
        rows.append([label, *(number(score, *score_of(found, score), signed=True) for score in SCORES)])
    return rows


def verdict(comparison: dict, other: str) -> Markup:
    """One sentence that compares the network's sigma_MAD with another method's, as the numbers have it."""
    each = comparison["scores"]
    network, second = (number("sigma_mad", *score_of(each[name], "sigma_mad")) for name in ("network", other))
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
