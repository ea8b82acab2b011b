"""Completeness and purity of the galaxies from each probability on."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sdss_photoz.report.labels import DRAWN, drawn_methods, quantity
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, WIDTH, styled
from sdss_photoz.scores import yes_no

TEMPLATE = """\
{% call figure(figures.completeness_purity, "Completeness and purity against the threshold") %}Of the galaxies whose \
probability is at least the threshold: completeness, the fraction of all that are {{ quantity }} which they hold, and \
purity, the fraction of them that are.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content:
    """Curves of the scored galaxies."""
    return Content(
        values={"quantity": quantity(trial)},
        tables={"completeness_purity": selection_table(trial.scored, drawn_methods(trial))},
        figures={"completeness_purity": completeness_purity},
    )


def selection_table(photoz: pd.DataFrame, methods: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Completeness and purity at thresholds from 0 to 1: method, threshold, selected, completeness, purity."""
    grid = np.arange(101) / 100
    parts = [
        yes_no.selection(photoz[column], photoz["true"] > 0.5, grid).assign(method=label)
        for column, (label, _) in methods.items()
    ]
    return pd.concat(parts, ignore_index=True)[["method", "threshold", "selected", "completeness", "purity"]]


@styled
def completeness_purity(table: pd.DataFrame) -> Figure:
    """Completeness and purity against the threshold, from `selection_table`."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    colours = dict(DRAWN.values())
    for axis, score in zip(axes, ("completeness", "purity"), strict=True):
        for method, part in table.groupby("method", sort=False):
            axis.plot(part["threshold"], part[score], color=colours[method], lw=1.5, label=method)
        axis.axvline(yes_no.THRESHOLD, color=BLACK, lw=0.8, ls="--", alpha=0.6)
        axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="least probability", ylabel=score)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(DRAWN))
    return figure
