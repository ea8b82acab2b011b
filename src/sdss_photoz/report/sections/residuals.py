"""Median and scatter of the residuals of each method against spectroscopic redshift."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sdss_photoz.report.labels import DRAWN, drawn_columns
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, WIDTH, styled
from sdss_photoz.scores.residuals import residuals, sigma_mad

TEMPLATE = """\
{% call figure(figures.residuals, "Median and scatter of residuals against redshift") %}Median (left) and scatter \
(right) of &Delta;z/(1+z) in bins of 0.02 in spectroscopic redshift with at least 20 galaxies. A method that knows \
the redshift poorly leans towards the sample&rsquo;s middle: positive at low redshift, negative at \
high.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content:
    """Residuals of the scored galaxies."""
    return Content(tables={"residuals": residual_table(trial.scored)}, figures={"residuals": residual_curves})


def residual_table(photoz: pd.DataFrame, step: float = 0.02, fewest: int = 20) -> pd.DataFrame:
    """Median and sigma_MAD of dz in bins of spectroscopic redshift with at least `fewest` galaxies, for each method.

    Their errors are those of a Gaussian sample: 1.2533 sigma / sqrt(n) of the median, 1.166 sigma / sqrt(n) of
    sigma_MAD.
    """
    number = np.floor(photoz["z_spec"] / step).astype(int)
    rows = []
    for column in drawn_columns(photoz):
        dz = pd.Series(residuals(photoz[column], photoz["z_spec"]), photoz.index)
        for index, part in dz.dropna().groupby(number):
            if len(part) >= fewest:
                scatter = sigma_mad(part.to_numpy())
                of_mean = scatter / np.sqrt(len(part))
                rows.append((DRAWN[column][0], index * step, (index + 1) * step, len(part), part.median(),
                             1.2533 * of_mean, scatter, 1.166 * of_mean))  # fmt: skip
    columns = ["median_dz", "median_dz_error", "sigma_mad", "sigma_mad_error"]
    return pd.DataFrame(rows, columns=["method", "z_low", "z_high", "galaxies", *columns])


@styled
def residual_curves(table: pd.DataFrame) -> Figure:
    """Median and scatter of the residuals against redshift, from `residual_table`."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    colours = dict(DRAWN.values())
    for marker, (method, part) in zip("osD", table.groupby("method", sort=False), strict=False):
        centre = (part["z_low"] + part["z_high"]) / 2
        style = {"color": colours[method], "marker": marker, "ms": 4, "lw": 1.2}
        left.errorbar(centre, part["median_dz"], part["median_dz_error"], label=method, **style)
        right.errorbar(centre, part["sigma_mad"], part["sigma_mad_error"], **style)
    left.axhline(0, color=BLACK, lw=0.8)
    left.set(xlabel="spectroscopic redshift", ylabel="median of $\\Delta z/(1+z)$")
    right.set(xlabel="spectroscopic redshift", ylabel="$\\sigma_{\\mathrm{MAD}}$")
    right.set_ylim(bottom=0)
    if len(table):
        figure.legend(loc="outside upper center", ncols=len(DRAWN))
    else:
        left.text(0.5, 0.5, "too few galaxies in every bin", transform=left.transAxes, ha="center")
    return figure
