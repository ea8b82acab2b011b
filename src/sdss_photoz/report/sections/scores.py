"""All scores of all trials as tables for programs; the page shows them trial by trial (`headline`)."""

import pandas as pd

from sdss_photoz.report.section import Content, Run
from sdss_photoz.report.sections import floor

TEMPLATE = ""


def content(run: Run) -> Content:
    """``scores.csv``, with what the floor adds, and ``folds_and_members.csv``."""
    found = {name: trial.metrics for name, trial in run.trials.items()}
    beside_floor = [table for trial in run.trials.values() if (table := floor.gap_table(trial)) is not None]
    return Content(
        tables={
            "scores": pd.concat([scores_table(found), *beside_floor]),
            "folds_and_members": parts_table(found),
        }
    )


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
