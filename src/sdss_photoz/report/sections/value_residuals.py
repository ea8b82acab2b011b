"""Residuals of predicted values: their histogram, and their median and scatter against the true value."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sdss_photoz.report.labels import DRAWN, drawn_methods, quantity
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, WIDTH, styled
from sdss_photoz.scores import values

BINS = 50
TAIL = 0.005  # of the residuals of a method on each side may lie beyond the histogram
TEMPLATE = """\
{% call figure(figures.residual_histogram, "Histogram of the residuals of each method") %}Residuals, predicted \
&minus; true {{ quantity }}{% if beyond %}; {{ "{:,}".format(beyond) }} lie beyond{% endif %}.{% endcall %}
{% call figure(figures.residuals, "Median and scatter of residuals against the true value") %}Median of the residuals \
with their 16 to 84 % (left), and half the width of that interval (right), in twentieths of the range of true \
{{ quantity }} with at least {{ fewest }} galaxies.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content:
    """Residuals of the scored galaxies."""
    methods, name = drawn_methods(trial), trial.target.column
    histogram = histogram_table(trial.scored, methods)
    beyond = int(histogram.loc[histogram["low"].isna(), "galaxies"].sum())
    return Content(
        values={"quantity": quantity(trial), "fewest": values.FEWEST, "beyond": beyond},
        tables={"residual_histogram": histogram, "residuals": residual_table(trial.scored, methods)},
        figures={
            "residual_histogram": partial(residual_histogram, name=name),
            "residuals": partial(residual_curves, name=name),
        },
    )


def histogram_table(photoz: pd.DataFrame, methods: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Galaxies in each of 50 bins of the residual, for each method: method, low, high, galaxies.

    A row without limits (NaN) counts the galaxies beyond the bins. `methods`: label and colour by column.
    """
    residual = {column: (photoz[column] - photoz["true"]).to_numpy() for column in methods}
    far = max(np.abs(np.quantile(each, (TAIL, 1 - TAIL))).max() for each in residual.values()) or 1.0
    edges = np.linspace(-far, far, BINS + 1)
    parts = []
    for column, each in residual.items():
        count = np.histogram(each, edges)[0]
        inside = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "galaxies": count})
        beyond = pd.DataFrame({"galaxies": [len(each) - count.sum()]})
        parts.append(pd.concat([inside, beyond]).assign(method=methods[column][0]))
    return pd.concat(parts, ignore_index=True)[["method", "low", "high", "galaxies"]]


@styled
def residual_histogram(table: pd.DataFrame, name: str) -> Figure:
    """Histogram of the residuals of each method, from `histogram_table`; `name` is that of the column."""
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axis = figure.subplots()
    colours = dict(DRAWN.values())
    for place, (method, part) in enumerate(table.dropna().groupby("method", sort=False)):
        edges = [*part["low"], part["high"].iloc[-1]]
        style = {"fill": True, "alpha": 0.45} if place == 0 else {"lw": 1.5}
        axis.stairs(part["galaxies"], edges, color=colours[method], label=method, **style)
    axis.axvline(0, color=BLACK, lw=0.8)
    axis.set(xlim=(table["low"].min(), table["high"].max()), xlabel=f"predicted − true {name}", ylabel="galaxies")
    axis.legend()
    return figure


def residual_table(photoz: pd.DataFrame, methods: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Median, 16 and 84 % of the residuals in intervals of the true value, for each method.

    Returns
    -------
    DataFrame
        method, and the columns of `scores.values.running`.
    """
    true = photoz["true"].to_numpy()
    parts = [values.running(true, photoz[column] - true).assign(method=methods[column][0]) for column in methods]
    table = pd.concat(parts, ignore_index=True)
    return table[["method", *(name for name in table if name != "method")]]


@styled
def residual_curves(table: pd.DataFrame, name: str) -> Figure:
    """Median and scatter of the residuals against the true value, from `residual_table`."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    colours = dict(DRAWN.values())
    for marker, (method, part) in zip("os", table.groupby("method", sort=False), strict=False):
        centre = (part["true_low"] + part["true_high"]) / 2
        style = {"color": colours[method], "marker": marker, "ms": 4, "lw": 1.2}
        left.plot(centre, part["median"], label=method, **style)
        left.fill_between(centre, part["low"], part["high"], color=colours[method], alpha=0.18, lw=0)
        right.plot(centre, (part["high"] - part["low"]) / 2, **style)
    left.axhline(0, color=BLACK, lw=0.8)
    left.set(xlabel=f"true {name}", ylabel=f"predicted − true {name}")
    right.set(xlabel=f"true {name}", ylabel="half of the 16 to 84 % interval")
    right.set_ylim(bottom=0)
    if len(table):
        figure.legend(loc="outside upper center", ncols=len(DRAWN))
    else:
        left.text(0.5, 0.5, "too few galaxies in every interval", transform=left.transAxes, ha="center")
    return figure
