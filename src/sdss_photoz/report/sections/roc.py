"""The ROC curve of each method: true against false positive rate."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sdss_photoz.report.labels import DRAWN, OTHERS, drawn_methods, quantity
from sdss_photoz.report.score_text import OTHER_SCORES, number
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, WIDTH, styled
from sdss_photoz.scores import yes_no

POINTS = 1000  # of a curve, at most
TEMPLATE = """\
{% call figure(figures.roc, "ROC curve of each method") %}ROC curve: of the galaxies from each probability on, the \
fraction of all that are {{ quantity }} (true positives) against that of all that are not (false positives). AUC is \
the area under it. Grey: a probability that tells nothing.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content:
    """Curves of the scored galaxies, with the areas of the trial's scores."""
    methods, scores = drawn_methods(trial), trial.metrics["headline"]["scores"]
    areas = {
        methods[trial.kind.column(name)][0]: number("auc", scores[name]["auc"]["value"], formats=OTHER_SCORES["yes_no"])
        for name in OTHERS
    }
    return Content(
        values={"quantity": quantity(trial)},
        tables={"roc": roc_table(trial.scored, methods)},
        figures={"roc": partial(roc, areas=areas)},
    )


def roc_table(photoz: pd.DataFrame, methods: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Points of the ROC curve of each method, at most 1000: method, threshold, false_positive_rate, completeness.

    `methods`: label and colour by column of the scored galaxies `photoz`.
    """
    parts = []
    for column, (label, _) in methods.items():
        curve = yes_no.selection(photoz[column], photoz["true"] > 0.5)
        kept = np.unique(np.linspace(0, len(curve) - 1, POINTS).astype(int))
        parts.append(curve.iloc[kept].assign(method=label))
    return pd.concat(parts, ignore_index=True)[["method", "threshold", "false_positive_rate", "completeness"]]


@styled
def roc(table: pd.DataFrame, areas: dict[str, str]) -> Figure:
    """ROC curves, from `roc_table`; `areas` are the areas under them, as text, by method."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    axis = figure.subplots()
    colours = dict(DRAWN.values())
    for method, part in table.groupby("method", sort=False):
        label = f"{method} (AUC {areas[method]})"
        axis.plot(part["false_positive_rate"], part["completeness"], color=colours[method], lw=1.5, label=label)
    axis.plot([0, 1], [0, 1], color=BLACK, lw=0.8, alpha=0.4)
    axis.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal", xlabel="false positive rate", ylabel="true positive rate")
    axis.legend(loc="lower right")
    return figure
