"""Calibration of probabilities of yes: how often yes is true where it is said to be that probable."""

import pandas as pd
from matplotlib.figure import Figure

from sdss_photoz.report.labels import DRAWN, drawn_methods, quantity
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, WIDTH, styled
from sdss_photoz.scores import yes_no

TEMPLATE = """\
{% call figure(figures.reliability, "Fraction of yes against its predicted probability") %}Fraction of the galaxies \
that are {{ quantity }} against their mean probability, in tenths of it (left), with the standard deviations of \
calibrated probabilities, which lie on the line; below it the probabilities are too high. Right: the galaxies in each \
tenth.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content:
    """Calibration of the scored galaxies' probabilities."""
    return Content(
        values={"quantity": quantity(trial)},
        tables={"reliability": reliability_table(trial.scored, drawn_methods(trial))},
        figures={"reliability": reliability},
    )


def reliability_table(photoz: pd.DataFrame, methods: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Method, and the columns of `scores.yes_no.reliability`; `methods` gives label and colour by column."""
    parts = [
        yes_no.reliability(photoz[column], photoz["true"] > 0.5).assign(method=label)
        for column, (label, _) in methods.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["method", *(name for name in table if name != "method")]]


@styled
def reliability(table: pd.DataFrame) -> Figure:
    """Fraction of yes against probability, and galaxies in each interval, from `reliability_table`."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = dict(DRAWN.values())
    for marker, (method, part) in zip("os", table.groupby("method", sort=False), strict=False):
        some = part[part["galaxies"] > 0]
        style = {"color": colours[method], "marker": marker, "ms": 4, "lw": 1.2, "label": method}
        left.errorbar(some["probability"], some["yes"], some["error"], **style)
        right.stairs(part["galaxies"], [*part["low"], 1.0], color=colours[method], lw=1.4)
    left.plot([0, 1], [0, 1], color=BLACK, lw=0.8)
    left.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean probability", ylabel="fraction of yes")
    right.set(xlim=(0, 1), xlabel="probability", ylabel="galaxies")
    right.set_ylim(bottom=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=len(DRAWN))
    return figure
