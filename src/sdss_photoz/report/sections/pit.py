"""Histograms of the probability integral transform (PIT): whether the distributions are calibrated."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sdss_photoz.report.labels import quantity
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, BLUE, CYCLE, WIDTH, styled

PIT_BINS = 20
TEMPLATE = """\
{% call figure(figures.pit, "Histograms of the probability integral transform") %}Probability integral transform: \
the cumulative distribution at the true {{ quantity }}. Calibrated distributions give a flat histogram (grey: two \
standard deviations of the counts if flat). A hill in the middle means distributions that are too wide, a valley too \
narrow, a slope biased. Median width of the ensemble&rsquo;s distributions (16 to 84 %): \
{{ "%.4f" | format(width) }}.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content:
    """PIT and median width of the distributions of the scored galaxies."""
    return Content(
        values={"width": trial.scored["width_68"].median(), "quantity": quantity(trial)},
        tables={"pit": pit_table(trial.scored)},
        figures={"pit": pit},
    )


def pit_table(photoz: pd.DataFrame) -> pd.DataFrame:
    """Galaxies in each of 20 bins of PIT.

    Returns
    -------
    DataFrame
        pit_low, pit_high; flat, flat_low and flat_high: the galaxies of a bin of calibrated distributions, minus and
        plus two standard deviations; ensemble, member_0, ...: counts of the ensemble and of each member.
    """
    edges = np.linspace(0, 1, PIT_BINS + 1)
    table = pd.DataFrame({"pit_low": edges[:-1], "pit_high": edges[1:]})
    flat = len(photoz) / PIT_BINS
    spread = 2 * np.sqrt(flat * (1 - 1 / PIT_BINS))  # binomial
    table["flat"], table["flat_low"], table["flat_high"] = flat, flat - spread, flat + spread
    for column in ("pit", *(name for name in photoz if name.startswith("pit_member_"))):
        name = "ensemble" if column == "pit" else column.removeprefix("pit_")
        table[name] = np.histogram(photoz[column], bins=edges)[0]
    return table


@styled
def pit(table: pd.DataFrame) -> Figure:
    """Histograms of PIT of the ensemble and of its members, relative to flat, from `pit_table`."""
    edges = np.array([*table["pit_low"], 1.0])
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    members = [name for name in table if name.startswith("member_")]
    for axis, names, title in zip(axes, (["ensemble"], members), ("ensemble", "members"), strict=True):
        for index, name in enumerate(names):
            colour = BLUE if name == "ensemble" else CYCLE[index % len(CYCLE)]
            axis.stairs(table[name] / table["flat"], edges, color=colour, fill=name == "ensemble", alpha=0.85, lw=1.2,
                        baseline=0 if name == "ensemble" else None)  # fmt: skip
        axis.axhspan(*(table.loc[0, ["flat_low", "flat_high"]] / table.loc[0, "flat"]), color=BLACK, alpha=0.15, lw=0)
        axis.axhline(1, color=BLACK, lw=0.8)
        axis.set(xlim=(0, 1), xlabel="PIT", title=title)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("galaxies relative to flat")
    return figure
