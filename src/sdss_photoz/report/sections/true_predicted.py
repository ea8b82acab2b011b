"""Predicted against true value of each method, as a density with its running median."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from sdss_photoz.report.labels import drawn_methods, quantity
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, VERMILLION, WIDTH, styled
from sdss_photoz.scores import values

CELLS = 60  # across a panel
TAIL = 0.002  # of the predictions on each side may lie beyond the panel
TEMPLATE = """\
{% call figure(figures.true_predicted, "Density of predicted against true value, a panel for each method") %}\
Predicted against true {{ quantity }}. Black: equality. Red: running median (solid), and 16 and 84 % (dashed), in \
twentieths of the range of true values with at least {{ fewest }} galaxies. What the images do not tell leans towards \
the sample&rsquo;s middle.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content:
    """Density and running median of each method."""
    return Content(
        values={"quantity": quantity(trial), "fewest": values.FEWEST},
        tables={"true_predicted": true_predicted_table(trial.scored, drawn_methods(trial))},
        figures={"true_predicted": partial(true_predicted, name=trial.target.column)},
    )


def true_predicted_table(photoz: pd.DataFrame, methods: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Galaxies in cells of true and predicted value, and the running median of the predictions, for each method.

    Parameters
    ----------
    photoz : DataFrame
        The scored galaxies: ``true``, and a column for each method.
    methods : dict of str to (label, colour)
        By column.

    Returns
    -------
    DataFrame
        method; part: "panel" (the limits of all cells, and the galaxies beyond), "cell" (one of 60 x 60 with galaxies)
        or "running" (an interval of the true value); true_low, true_high, predicted_low, predicted_high; galaxies;
        median, low (16 %) and high (84 %) of the predictions in an interval.
    """
    true = photoz["true"].to_numpy()
    ends = np.quantile(photoz[list(methods)].to_numpy(), (TAIL, 1 - TAIL), axis=0)
    low, high = min(true.min(), ends[0].min()), max(true.max(), ends[1].max())
    edges = np.linspace(low, high if high > low else low + 1, CELLS + 1)
    parts = []
    for column, (label, _) in methods.items():
        count = np.histogram2d(true, photoz[column], bins=edges)[0].astype(int)
        spec, phot = np.nonzero(count)
        panel = {"true_low": edges[0], "true_high": edges[-1], "predicted_low": edges[0], "predicted_high": edges[-1]}
        cells = {"true_low": edges[spec], "true_high": edges[spec + 1], "galaxies": count[spec, phot]}
        cells |= {"predicted_low": edges[phot], "predicted_high": edges[phot + 1]}
        tables = {
            "panel": pd.DataFrame([panel | {"galaxies": len(photoz) - count.sum()}]),
            "cell": pd.DataFrame(cells),
            "running": values.running(true, photoz[column]),
        }
        parts += [table.assign(method=label, part=part) for part, table in tables.items() if len(table)]
    names = ["true_low", "true_high", "predicted_low", "predicted_high", "galaxies", "median", "low", "high"]
    return pd.concat(parts, ignore_index=True).reindex(columns=["method", "part", *names])


@styled
def true_predicted(table: pd.DataFrame, name: str) -> Figure:
    """Predicted against true value as a density, from `true_predicted_table`; `name` is that of the column."""
    methods = dict(iter(table.groupby("method", sort=False)))
    most = max(2, table.loc[table["part"] == "cell", "galaxies"].max())
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots(1, len(methods), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (method, part) in zip(axes, methods.items(), strict=True):
        panel, cells, running = (part[part["part"] == kind] for kind in ("panel", "cell", "running"))
        low, high, beyond = panel[["true_low", "true_high", "galaxies"]].iloc[0]
        step = (high - low) / CELLS
        true, predicted = (np.rint((cells[f"{of}_low"] - low) / step).astype(int) for of in ("true", "predicted"))
        count = np.zeros((CELLS, CELLS))
        count[predicted, true] = cells["galaxies"]  # row, column: y, x
        edges = low + step * np.arange(CELLS + 1)
        mesh = axis.pcolormesh(
            edges, edges, np.ma.masked_equal(count, 0), norm=LogNorm(1, most), cmap="viridis_r", rasterized=True
        )
        axis.plot([low, high], [low, high], color=BLACK, lw=0.8)
        middle = (running["true_low"] + running["true_high"]) / 2
        axis.plot(middle, running["median"], color=VERMILLION, lw=1.6)
        for end in ("low", "high"):
            axis.plot(middle, running[end], color=VERMILLION, lw=1, ls="--")
        axis.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=f"true {name}")
        axis.set_title(method)
        if beyond:
            axis.text(0.03, 0.97, f"{beyond:.0f} not shown", transform=axis.transAxes, va="top", size=7, color=BLACK)
    axes[0].set_ylabel(f"predicted {name}")
    figure.colorbar(mesh, ax=list(axes), label="galaxies per cell", pad=0.02)
    return figure
