"""Scores as text for the page."""

SCORES = {  # score: heading, factor, digits, unit
    "sigma_mad": ("σ<sub>MAD</sub>", 1, 5, ""),
    "bias": ("bias", 1, 5, ""),
    "outliers": ("outliers", 100, 2, " %"),
    "crps": ("CRPS", 1, 5, ""),
}
OTHER_SCORES = {  # kind of target: its scores
    "value": {
        "sigma_mad": ("σ<sub>MAD</sub>", 1, 4, ""),
        "rmse": ("RMSE", 1, 4, ""),
        "bias": ("bias", 1, 4, ""),
        "median": ("median", 1, 4, ""),
        "outliers": ("outliers", 100, 2, " %"),
        "crps": ("CRPS", 1, 4, ""),
    },
    "yes_no": {
        "auc": ("AUC", 1, 4, ""),
        "completeness": ("completeness", 100, 1, " %"),
        "purity": ("purity", 100, 1, " %"),
        "brier": ("Brier score", 1, 4, ""),
    },
}


def number(
    score: str, value: float | None, error: float | None = None, signed: bool = False, formats: dict = SCORES
) -> str:
    """A score as text, with its error where it has one."""
    if value is None:
        return "–"
    _, factor, digits, unit = formats[score]
    sign = "+" if signed or score in ("bias", "median") else ""
    text = f"{value * factor:{sign}.{digits}f}".replace("-", "−")
    return text + (f" ± {error * factor:.{digits}f}" if error is not None else "") + unit


def score_of(found: dict, score: str) -> tuple:
    """Value and error of a score of one method in metrics.json, as `number` takes them."""
    return (found[score]["value"], found[score]["error"]) if score in found else (None,)
