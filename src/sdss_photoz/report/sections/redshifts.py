"""Photometric against spectroscopic redshift of each method, as a density."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from sdss_photoz.report.labels import DRAWN, drawn_columns
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, VERMILLION, WIDTH, styled
from sdss_photoz.scores.grid import Grid

CELLS = 80  # across a panel
TEMPLATE = """\
{% call figure(figures.redshifts, "Density of photometric against spectroscopic redshift, a panel for each method") %}\
Photometric against spectroscopic redshift. Solid: equality. Dashed: |&Delta;z|/(1+z) = {{ outlier }}, beyond which \
a galaxy is an outlier.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content:
    """Density of each method, with the outlier limit of the trial's scores."""
    outlier = trial.metrics["outlier"]
    return Content(
        values={"outlier": outlier},
        tables={"redshifts": redshift_table(trial.scored, trial.grid.high)},
        figures={"redshifts": partial(redshifts, outlier=outlier)},
    )


def redshift_table(photoz: pd.DataFrame, highest: float = Grid().high) -> pd.DataFrame:
    """Galaxies in each of 80 x 80 cells of z_spec and z_phot, for each method; empty cells are left out.

    The cells end a tenth above the highest z_spec, and at `highest`, where the bins end.

    Returns
    -------
    DataFrame
        method; z_spec_low, z_spec_high, z_phot_low, z_phot_high; galaxies. A row without limits (NaN) counts the
        galaxies whose z_phot lies in none of the cells.
    """
    limit = float(np.clip(photoz["z_spec"].max() * 1.1, 0.1, highest))
    edges = np.linspace(0, limit, CELLS + 1)
    parts = []
    for column in drawn_columns(photoz):
        count = np.histogram2d(photoz["z_spec"], photoz[column], bins=edges)[0].astype(int)  # NaN falls in no bin
        spec, phot = np.nonzero(count)
        cells = {"z_spec_low": edges[spec], "z_spec_high": edges[spec + 1]}
        cells |= {"z_phot_low": edges[phot], "z_phot_high": edges[phot + 1], "galaxies": count[spec, phot]}
        beyond = {"galaxies": [photoz[column].notna().sum() - count.sum()]}
        parts.append(pd.concat([pd.DataFrame(cells), pd.DataFrame(beyond)]).assign(method=DRAWN[column][0]))
    columns = ["method", "z_spec_low", "z_spec_high", "z_phot_low", "z_phot_high", "galaxies"]
    return pd.concat(parts, ignore_index=True)[columns]


@styled
def redshifts(table: pd.DataFrame, outlier: float) -> Figure:
    """z_phot against z_spec as a density, from `redshift_table`: a panel for each method, with lines |dz| = outlier."""
    parts = dict(iter(table.groupby("method", sort=False)))
    cells = table.dropna()
    step = (cells["z_spec_high"] - cells["z_spec_low"]).mean() if len(cells) else Grid().high / CELLS
    bins = np.arange(CELLS + 1) * step
    limit = bins[-1]
    figure = Figure(figsize=(WIDTH, {1: 5.6, 2: 3.4}.get(len(parts), 2.5)), layout="constrained")
    axes = figure.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    line = np.array([0, limit])
    for axis, (method, part) in zip(axes, parts.items(), strict=True):
        inside = part.dropna()
        spec, phot = (np.rint(inside[f"z_{kind}_low"] / step).astype(int) for kind in ("spec", "phot"))
        count = np.zeros((CELLS, CELLS))
        count[phot, spec] = inside["galaxies"]  # row, column: y, x
        mesh = axis.pcolormesh(
            bins, bins, np.ma.masked_equal(count, 0), norm=LogNorm(1, max(2, cells["galaxies"].max())),
            cmap="viridis_r", rasterized=True,
        )  # fmt: skip
        axis.plot(line, line, color=BLACK, lw=0.8)
        for sign in (-1, 1):
            axis.plot(line, line + sign * outlier * (1 + line), color=VERMILLION, lw=0.9, ls="--")
        axis.set(xlim=(0, limit), ylim=(0, limit), aspect="equal", xlabel="spectroscopic redshift")
        axis.set_title(method)
        if beyond := int(part.loc[part["z_phot_low"].isna(), "galaxies"].sum()):
            axis.text(0.03, 0.97, f"{beyond} not shown", transform=axis.transAxes, va="top", size=7, color=BLACK)
    axes[0].set_ylabel("photometric redshift")
    figure.colorbar(mesh, ax=list(axes), label="galaxies per cell", pad=0.02)
    return figure
