"""Scores as text for the page."""

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
