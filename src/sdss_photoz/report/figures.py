"""The report's figures: colours that survive colour blindness and print, the same bytes for the same numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from sdss_photoz.evaluation import pdfs
from sdss_photoz.evaluation.residuals import residuals, sigma_mad

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BLACK = (  # Okabe & Ito 2008
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#222222"
)  # fmt: skip
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BLACK)
METHODS = {  # column of photoz.parquet: label, colour
    "z_phot": ("network", BLUE),
    "z_phot_local_linear": ("local-linear regression", VERMILLION),
    "z_phot_archive": ("archive", GREEN),
}
PIT_BINS = 20
WIDTH = 7.2  # inches: of every figure, so that letters have one size on the page
STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that the bytes do not depend on the machine's fonts
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": BLACK,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "savefig.dpi": 150,
}


def save(figure: Figure, path) -> None:
    """Write a figure as PNG without dates or the program's version."""
    with rc_context(STYLE):
        figure.savefig(path, format="png", metadata={"Software": None})


def styled(function):
    """Draw with the report's style whatever the caller's matplotlib settings are."""

    def wrapped(*args, **kwargs):
        with rc_context(STYLE):
            return function(*args, **kwargs)

    wrapped.__doc__ = function.__doc__
    return wrapped


def known_methods(photoz: pd.DataFrame) -> list[str]:
    """Columns of the methods that have redshifts."""
    return [column for column in METHODS if photoz[column].notna().any()]


@styled
def redshifts(photoz: pd.DataFrame, outlier: float) -> Figure:
    """z_phot against z_spec as a density, a panel for each method, with the lines |dz| = `outlier`."""
    columns = known_methods(photoz)
    limit = float(np.clip(photoz["z_spec"].max() * 1.1, 0.1, pdfs.Z_RANGE))
    figure = Figure(figsize=(WIDTH, {1: 5.6, 2: 3.4}.get(len(columns), 2.5)), layout="constrained")
    axes = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    bins = np.linspace(0, limit, 81)
    counts = [
        np.histogram2d(photoz["z_spec"], photoz[column], bins=bins)[0].T for column in columns
    ]  # NaN falls in no bin
    top = max(2, *(count.max() for count in counts))
    line = np.array([0, limit])
    for axis, column, count in zip(axes, columns, counts, strict=True):
        mesh = axis.pcolormesh(
            bins, bins, np.ma.masked_equal(count, 0), norm=LogNorm(1, top), cmap="viridis_r", rasterized=True
        )
        axis.plot(line, line, color=BLACK, lw=0.8)
        for sign in (-1, 1):
            axis.plot(line, line + sign * outlier * (1 + line), color=VERMILLION, lw=0.9, ls="--")
        axis.set(xlim=(0, limit), ylim=(0, limit), aspect="equal", xlabel="spectroscopic redshift")
        axis.set_title(METHODS[column][0])
    axes[0].set_ylabel("photometric redshift")
    figure.colorbar(mesh, ax=list(axes), label="galaxies per cell", pad=0.02)
    return figure


def residual_table(photoz: pd.DataFrame, step: float = 0.02, fewest: int = 20) -> pd.DataFrame:
    """Median and sigma_MAD of dz in bins of spectroscopic redshift with at least `fewest` galaxies, for each method."""
    number = np.floor(photoz["z_spec"] / step).astype(int)
    rows = []
    for column in known_methods(photoz):
        dz = pd.Series(residuals(photoz[column], photoz["z_spec"]), photoz.index)
        for index, part in dz.dropna().groupby(number):
            if len(part) >= fewest:
                rows.append((METHODS[column][0], index * step, (index + 1) * step, len(part), part.median(),
                             sigma_mad(part.to_numpy())))  # fmt: skip
    return pd.DataFrame(rows, columns=["method", "z_low", "z_high", "galaxies", "median_dz", "sigma_mad"])


@styled
def residual_curves(table: pd.DataFrame) -> Figure:
    """Median and scatter of the residuals against redshift, from `residual_table`."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    colours = dict(METHODS.values())
    for marker, (method, part) in zip("osD", table.groupby("method", sort=False), strict=False):
        centre = (part["z_low"] + part["z_high"]) / 2
        error = part["sigma_mad"] / np.sqrt(part["galaxies"])
        style = {"color": colours[method], "marker": marker, "ms": 4, "lw": 1.2}
        left.errorbar(centre, part["median_dz"], 1.2533 * error, label=method, **style)  # of a Gaussian's median
        right.errorbar(centre, part["sigma_mad"], 1.166 * error, **style)  # of a Gaussian's MAD
    left.axhline(0, color=BLACK, lw=0.8)
    left.set(xlabel="spectroscopic redshift", ylabel="median of $\\Delta z/(1+z)$")
    right.set(xlabel="spectroscopic redshift", ylabel="$\\sigma_{\\mathrm{MAD}}$")
    right.set_ylim(bottom=0)
    if len(table):
        figure.legend(loc="outside upper center", ncols=len(METHODS))
    else:
        left.text(0.5, 0.5, "too few galaxies in every bin", transform=left.transAxes, ha="center")
    return figure


def pit_table(photoz: pd.DataFrame) -> pd.DataFrame:
    """Galaxies in each of 20 bins of PIT: columns pit_low, pit_high, ensemble, member_0, ..."""
    edges = np.linspace(0, 1, PIT_BINS + 1)
    table = pd.DataFrame({"pit_low": edges[:-1], "pit_high": edges[1:]})
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
            mean = table[name].sum() / PIT_BINS
            colour = BLUE if name == "ensemble" else CYCLE[index % len(CYCLE)]
            axis.stairs(table[name] / mean, edges, color=colour, fill=name == "ensemble", alpha=0.85, lw=1.2,
                        baseline=0 if name == "ensemble" else None)  # fmt: skip
        mean = table[names[0]].sum() / PIT_BINS
        spread = 2 * np.sqrt((1 - 1 / PIT_BINS) / mean)
        axis.axhspan(1 - spread, 1 + spread, color=BLACK, alpha=0.15, lw=0)
        axis.axhline(1, color=BLACK, lw=0.8)
        axis.set(xlim=(0, 1), xlabel="PIT", title=title)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("galaxies relative to flat")
    return figure


@styled
def training(histories: Mapping[str, pd.DataFrame], entropy: float, descended: str) -> Figure:
    """Loss against epoch of each network, with the entropy of the redshift histogram.

    Parameters
    ----------
    histories : dict of DataFrame
        As `sdss_photoz.training.fit.train_member` writes them.
    entropy : float
        Of the redshifts (nat).
    descended : str
        What the training loss is called.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    opaque = 0.9 if len(histories) <= 8 else 0.4
    last = 1
    for index, history in enumerate(histories.values()):
        first = index == 0
        axis.plot(history["epoch"], history["train_loss"], color=ORANGE, lw=1, alpha=opaque,
                  label=descended if first else None)  # fmt: skip
        axis.plot(history["epoch"], history["validation_loss"], color=BLUE, lw=1.3, alpha=opaque,
                  label="validation (cross-entropy)" if first else None)  # fmt: skip
        best = history.loc[history["validation_loss"].idxmin()]
        axis.plot(best["epoch"], best["validation_loss"], "o", color=BLUE, ms=4,
                  label="best epoch" if first else None)  # fmt: skip
        last = max(last, history["epoch"].max())
    axis.axhline(entropy, color=BLACK, lw=1, ls="--", label="entropy of the redshifts")
    axis.set(xlabel="epoch", ylabel="loss (nat)", xlim=(0, last + 0.5))
    axis.legend(ncols=2)
    return figure


@styled
def controls(table: pd.DataFrame, labels: Sequence[str], known: Mapping[str, tuple[float, float | None]]) -> Figure:
    """sigma_MAD of each negative control beside that of the prior.

    Parameters
    ----------
    table : DataFrame
        With sigma_mad, prior and their errors, and better, a row for each control.
    labels : sequence of str
        What each row is called.
    known : mapping
        Score and error of what does know redshifts, by name, for scale.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 0.38 * (len(table) + len(known))), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(table.itertuples()):
        y, error = -place, 0 if row.prior_error is None else row.prior_error
        axis.fill_betweenx([y - 0.42, y + 0.42], row.prior - error, row.prior + error, color=BLACK, alpha=0.15, lw=0)
        axis.plot([row.prior, row.prior], [y - 0.42, y + 0.42], color=BLACK, lw=1)
        colour = VERMILLION if row.better else BLUE
        axis.errorbar(row.sigma_mad, y, xerr=row.sigma_mad_error, fmt="o", ms=5, color=colour)
    for place, (value, error) in enumerate(known.values(), len(table)):
        axis.errorbar(value, -place, xerr=error, fmt="s", ms=5, color=GREEN)
    names = [*labels, *known]
    axis.set(yticks=-np.arange(len(names)), yticklabels=names, xlabel="$\\sigma_{\\mathrm{MAD}}$")
    axis.set_xlim(left=0)
    axis.set_ylim(-len(names) + 0.4, 0.6)
    return figure


@styled
def examples(images: Sequence[np.ndarray], galaxies: pd.DataFrame, distributions: np.ndarray) -> Figure:
    """Colour images of galaxies, each beside its distribution.

    Parameters
    ----------
    images : sequence of ndarray (y, x, 3), uint8
        North up, East left once row 0 is drawn at the bottom.
    galaxies : DataFrame
        With z_spec and z_phot, a row for each image.
    distributions : ndarray (galaxy, bin)
        Probabilities.
    """
    across = 2
    down = -(-len(images) // across)
    figure = Figure(figsize=(WIDTH, 1.55 * down), layout="constrained")
    axes = figure.subplots(down, 2 * across, squeeze=False, width_ratios=[1, 1.9] * across)
    edges = pdfs.bin_edges(distributions.shape[1])
    for axis in axes.ravel():
        axis.set_visible(False)
    for index, (image, (_, galaxy)) in enumerate(zip(images, galaxies.iterrows(), strict=True)):
        left, right = axes[index // across, 2 * (index % across) :][:2]
        for axis in (left, right):
            axis.set_visible(True)
        left.imshow(image, origin="lower", interpolation="nearest")
        left.set(xticks=[], yticks=[])
        left.spines[:].set_visible(False)
        density = distributions[index] / np.diff(edges)
        right.stairs(density, edges, color=BLUE, fill=True, alpha=0.75)
        right.axvline(galaxy["z_spec"], color=VERMILLION, lw=1.5)
        right.axvline(galaxy["z_phot"], color=BLACK, lw=1, ls=":")
        start = float(np.clip(galaxy["z_phot"] - 0.1, 0, pdfs.Z_RANGE - 0.2))
        right.set(xlim=(start, start + 0.2), ylim=(0, None), yticks=[])
        right.spines["left"].set_visible(False)
        if index >= len(images) - across:
            right.set_xlabel("redshift")
    return figure
