"""What the page and the figures call each method, and the method's colour."""

import pandas as pd

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


def drawn_columns(photoz: pd.DataFrame) -> list[str]:
    """Columns of the methods that the figures draw: those of `DRAWN` with any redshift."""
    return [column for column in DRAWN if photoz[column].notna().any()]
