"""What the page and the figures call each method, and the method's colour."""

import pandas as pd
from markupsafe import Markup

from sdss_photoz.report.section import Trial
from sdss_photoz.report.style import BLUE, GREEN, VERMILLION

LABELS = {  # name in metrics.json: label
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
DRAWN = {  # column of photoz.parquet: label and colour in the figures
    "z_phot": ("network", BLUE),
    "z_phot_local_linear": ("local-linear regression", VERMILLION),
    "z_phot_archive": ("archive", GREEN),
}
OTHERS = {"network": "", "local_linear": "_local_linear"}  # drawn where no redshift is predicted: end of its key above


def drawn_columns(photoz: pd.DataFrame) -> list[str]:
    """Columns of the methods that the figures draw: those of `DRAWN` with any redshift."""
    return [column for column in DRAWN if photoz[column].notna().any()]


def drawn_methods(trial: Trial) -> dict[str, tuple[str, str]]:
    """Label and colour of the methods that figures of a trial draw which predicts no redshift, by their columns."""
    return {trial.kind.column(method): DRAWN[f"z_phot{suffix}"] for method, suffix in OTHERS.items()}


def quantity(trial: Trial) -> str | Markup:
    """What a trial predicts, for a caption."""
    return "redshift" if trial.kind.name == "redshift" else Markup("<code>{}</code>").format(trial.target.column)
