"""Refuse galaxies that no network can use, by name."""

from typing import TYPE_CHECKING

import numpy as np

from sdss_photoz.errors import UserError

if TYPE_CHECKING:  # the benchmark of training runs without pandas
    import pandas as pd


def refuse(galaxies: "pd.DataFrame", bad: np.ndarray, what: str, remedy: str) -> None:
    """Raise a `UserError` that names at most five of the galaxies that are `bad` (n,) bool, if there are any.

    By their object_id, or without that column by their row, counted from 1.
    """
    if bad.any():
        key, names = "row", np.arange(1, len(galaxies) + 1)
        if "object_id" in galaxies:
            key, names = "object_id", galaxies["object_id"].to_numpy()
        named = ", ".join(map(str, names[bad][:5])) + (" …" if bad.sum() > 5 else "")
        raise UserError(f"no network can use {key} {named}, whose {what}: {remedy}.")
