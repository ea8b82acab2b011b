"""Negative controls beside the prior: a table, a figure, and a warning where one scores better."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sdss_photoz.report.score_text import number
from sdss_photoz.report.section import Content, Run
from sdss_photoz.report.style import BLACK, BLUE, GREEN, VERMILLION, WIDTH, styled

CONTROLS = {
    "forest": "forest on place, depth, noise, seeing and order",
    "target_removed": "networks, galaxies removed",
    "shuffled_labels": "networks, redshifts shuffled",
}
UNKNOWN = {"value": None, "error": None}
TEMPLATE = """\
<p{% if better %} class="notice"{% endif %}>{% if better %}<strong>A negative control scores better than the \
prior.</strong> By chance one does in about one run of twenty; else something other than the galaxies&rsquo; light \
tells their redshifts, and the scores above cannot be trusted before it is found.{% else %}No negative control \
scores better than the prior.{% endif %} These estimators are trained and tested like those above, but on what \
should tell nothing of redshift. The prior gives every galaxy the median redshift of its training galaxies.</p>
<div class="wide"><table>
<caption>Differences are taken on the same galaxies and bootstrap resamples of sky cells. Correlation: \
Spearman&rsquo;s, of the control&rsquo;s redshifts with the true ones; not told where networks see galaxies. A \
control is called better where its score is lower than the prior&rsquo;s by more than twice its error, or by more \
than twice the difference&rsquo;s error while its redshifts follow the true ones.</caption>
<thead><tr><td></td><th scope="col">&sigma;<sub>MAD</sub></th><th scope="col">prior</th><th \
scope="col">difference</th><th scope="col">correlation</th><th scope="col">finding</th></tr></thead>
{{ table_body(rows) }}
</table></div>
{% call figure(figures.controls, "Scatter of each negative control beside that of the prior") %}&sigma;<sub>MAD</sub> \
of each control (point, with its error) on that of the prior (line, with its error in grey). Squares: what networks \
reach that see galaxies and redshifts.{% endcall %}"""


def content(run: Run) -> Content | None:
    """Negative controls beside the prior; None without any."""
    trials = {name: trial for name, trial in run.trials.items() if trial.kind.name == "redshift"}
    found = {name: trial.metrics for name, trial in trials.items()}
    kinds = {name: trial.control for name, trial in trials.items()}
    table = control_table(found, kinds)
    if table.empty:
        return None
    return Content(
        values={"rows": control_rows(table), "better": table["better"].any()},
        tables={"controls": with_networks(table, found, kinds)},
        figures={"controls": controls},
    )


def control_table(trials: dict[str, dict], kinds: dict[str, str]) -> pd.DataFrame:
    """Scores of the negative controls of all trials beside the prior, each with a finding.

    Parameters
    ----------
    trials : dict
        metrics.json of each trial.
    kinds : dict
        ``control`` of each trial, as the configuration has it.

    Returns
    -------
    DataFrame
        trial, control (``forest``, ``target_removed``, ``shuffled_labels``), galaxies; sigma_mad, that of the prior
        (``prior``), their difference and Spearman's correlation of the control's redshifts with the true ones, each
        with its error (the correlation not of networks that learned from shuffled redshifts); ``better`` (bool), and
        ``finding``, in words.
    """
    rows = []
    for trial, found in trials.items():
        if "controls" not in found:
            continue
        part, control = found["controls"], "forest" if kinds[trial] == "none" else kinds[trial]
        entries = {
            "sigma_mad": part["scores"]["control"]["sigma_mad"],
            "prior": part["scores"]["prior"]["sigma_mad"],
            "difference": part["differences"]["control - prior"]["sigma_mad"],
            # networks trained on shuffled redshifts follow brightness or colour by chance, and with them redshift
            "correlation": UNKNOWN if control == "shuffled_labels" else part["correlation"],
        }
        row = {"trial": trial, "control": control, "galaxies": part["galaxies"]}
        for name, entry in entries.items():
            row |= {name: entry["value"], f"{name}_error": entry["error"]}
        better, finding = _finding(*(entries[name] for name in ("sigma_mad", "difference", "correlation")))
        rows.append(row | {"better": better, "finding": finding})
    return pd.DataFrame(rows)


def _finding(sigma_mad, difference, correlation) -> tuple[bool, str]:
    """Whether a control scores better than the prior, and the finding in words.

    sigma_MAD grows with 1 + z_phot, so a lower constant redshift has a lower sigma_MAD. A difference smaller than twice
    the error of the score itself therefore counts only where the control's redshifts correlate with the true ones.
    """
    if sigma_mad["error"] is None:
        return False, "no error: the galaxies lie in a single sky cell"
    correlated = correlation["value"] is not None and correlation["value"] > 2 * correlation["error"]
    if difference["value"] < -2 * sigma_mad["error"] or (difference["value"] < -2 * difference["error"] and correlated):
        return True, "BETTER than the prior"
    if difference["value"] > 2 * sigma_mad["error"]:
        return False, "worse than the prior"
    return False, "the prior's, within its error"


def control_rows(table: pd.DataFrame) -> list[list[str]]:
    """Rows of `control_table` as text: name, score, prior, difference, correlation, finding."""
    rows = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        score, prior, difference = (
            number("sigma_mad", row[name], row[f"{name}_error"], signed=name == "difference")
            for name in ("sigma_mad", "prior", "difference")
        )
        correlation = "–" if row["correlation"] is None else f"{row['correlation']:+.3f}".replace("-", "−")
        correlation += "" if row["correlation_error"] is None else f" ± {row['correlation_error']:.3f}"
        rows.append(
            [f"{CONTROLS[row['control']]} ({row['trial']})", score, prior, difference, correlation, row["finding"]]
        )
    return rows


def with_networks(table: pd.DataFrame, trials: dict[str, dict], kinds: dict[str, str]) -> pd.DataFrame:
    """Append the networks that see galaxies and redshifts to `control_table`, for scale, and label each row.

    Parameters
    ----------
    table : DataFrame
        Of `control_table`.
    trials, kinds : dict
        As there.

    Returns
    -------
    DataFrame
        The columns of `table` and ``label``; of networks (``control`` is ``network``) only trial, label, galaxies,
        sigma_mad and its error are known.
    """
    table = table.assign(label=[row[0] for row in control_rows(table)])
    rows = table.to_dict("records")
    for trial, found in trials.items():
        if kinds[trial] == "none":
            score = found["headline"]["scores"]["network"]["sigma_mad"]
            row = {"trial": trial, "control": "network", "label": f"networks ({trial})", "better": False}
            row |= {"galaxies": found["headline"]["galaxies"], "sigma_mad": score["value"]}
            rows.append(row | {"sigma_mad_error": score["error"]})
    return pd.DataFrame(rows, columns=table.columns)


@styled
def controls(table: pd.DataFrame) -> Figure:
    """sigma_MAD of each negative control beside that of the prior, and of networks, for scale.

    Parameters
    ----------
    table : DataFrame
        Of `with_networks`.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 0.38 * len(table)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(table.astype(object).where(table.notna(), None).itertuples()):
        y = -place
        if row.control == "network":
            axis.errorbar(row.sigma_mad, y, xerr=row.sigma_mad_error, fmt="s", ms=5, color=GREEN)
            continue
        error = row.prior_error or 0
        axis.fill_betweenx([y - 0.42, y + 0.42], row.prior - error, row.prior + error, color=BLACK, alpha=0.15, lw=0)
        axis.plot([row.prior, row.prior], [y - 0.42, y + 0.42], color=BLACK, lw=1)
        colour = VERMILLION if row.better else BLUE
        axis.errorbar(row.sigma_mad, y, xerr=row.sigma_mad_error, fmt="o", ms=5, color=colour)
    axis.set(yticks=-np.arange(len(table)), yticklabels=table["label"], xlabel="$\\sigma_{\\mathrm{MAD}}$")
    axis.set_xlim(left=0)
    axis.set_ylim(-len(table) + 0.4, 0.6)
    return figure
