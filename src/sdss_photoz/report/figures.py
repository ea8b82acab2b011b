"""The report's figures: colours that survive colour blindness and print, the same bytes for the same numbers.

Each is drawn from a table, and from nothing else that is measured: ``figures/X.png`` shows ``tables/X.csv``.
"""

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
CELLS = 80  # across a panel of the density
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


def redshift_table(photoz: pd.DataFrame) -> pd.DataFrame:
    """Galaxies in each of 80 x 80 cells of z_spec and z_phot, for each method; empty cells are left out.

    Returns
    -------
    DataFrame
        method; z_spec_low, z_spec_high, z_phot_low, z_phot_high; galaxies. A row without limits (NaN) counts the
        galaxies whose z_phot lies in none of the cells.
    """
    limit = float(np.clip(photoz["z_spec"].max() * 1.1, 0.1, pdfs.Z_RANGE))
    edges = np.linspace(0, limit, CELLS + 1)
    parts = []
    for column in known_methods(photoz):
        count = np.histogram2d(photoz["z_spec"], photoz[column], bins=edges)[0].astype(int)  # NaN falls in no bin
        spec, phot = np.nonzero(count)
        cells = {"z_spec_low": edges[spec], "z_spec_high": edges[spec + 1]}
        cells |= {"z_phot_low": edges[phot], "z_phot_high": edges[phot + 1], "galaxies": count[spec, phot]}
        beyond = {"galaxies": [photoz[column].notna().sum() - count.sum()]}
        parts.append(pd.concat([pd.DataFrame(cells), pd.DataFrame(beyond)]).assign(method=METHODS[column][0]))
    columns = ["method", "z_spec_low", "z_spec_high", "z_phot_low", "z_phot_high", "galaxies"]
    return pd.concat(parts, ignore_index=True)[columns]


@styled
def redshifts(table: pd.DataFrame, outlier: float) -> Figure:
    """z_phot against z_spec as a density, from `redshift_table`: a panel for each method, with lines |dz| = outlier."""
    parts = dict(iter(table.groupby("method", sort=False)))
    cells = table.dropna()
    step = (cells["z_spec_high"] - cells["z_spec_low"]).mean() if len(cells) else pdfs.Z_RANGE / CELLS
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


def residual_table(photoz: pd.DataFrame, step: float = 0.02, fewest: int = 20) -> pd.DataFrame:
    """Median and sigma_MAD of dz in bins of spectroscopic redshift with at least `fewest` galaxies, for each method.

    Their errors are those of a Gaussian sample: 1.2533 sigma / sqrt(n) of the median, 1.166 sigma / sqrt(n) of
    sigma_MAD.
    """
    number = np.floor(photoz["z_spec"] / step).astype(int)
    rows = []
    for column in known_methods(photoz):
        dz = pd.Series(residuals(photoz[column], photoz["z_spec"]), photoz.index)
        for index, part in dz.dropna().groupby(number):
            if len(part) >= fewest:
                scatter = sigma_mad(part.to_numpy())
                of_mean = scatter / np.sqrt(len(part))
                rows.append((METHODS[column][0], index * step, (index + 1) * step, len(part), part.median(),
                             1.2533 * of_mean, scatter, 1.166 * of_mean))  # fmt: skip
    columns = ["median_dz", "median_dz_error", "sigma_mad", "sigma_mad_error"]
    return pd.DataFrame(rows, columns=["method", "z_low", "z_high", "galaxies", *columns])


@styled
def residual_curves(table: pd.DataFrame) -> Figure:
    """Median and scatter of the residuals against redshift, from `residual_table`."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    colours = dict(METHODS.values())
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
        figure.legend(loc="outside upper center", ncols=len(METHODS))
    else:
        left.text(0.5, 0.5, "too few galaxies in every bin", transform=left.transAxes, ha="center")
    return figure


def pit_table(photoz: pd.DataFrame) -> pd.DataFrame:
    """Galaxies in each of 20 bins of PIT.

    Returns
    -------
    DataFrame
        pit_low, pit_high; flat, flat_low and flat_high: the galaxies of a bin of calibrated distributions, minus and
        plus two standard deviations; ensemble, member_0, ...: those that there are.
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


def training_table(histories: Mapping[str, pd.DataFrame], entropy: float) -> pd.DataFrame:
    """The histories of all networks, one below the other.

    Parameters
    ----------
    histories : dict of DataFrame
        As `sdss_photoz.training.fit.train_member` writes them.
    entropy : float
        Of the redshifts (nat).

    Returns
    -------
    DataFrame
        network (the key), epoch, train_loss, validation_loss, best, entropy.
    """
    columns = ["network", "epoch", "train_loss", "validation_loss", "best", "entropy"]
    parts = [history.assign(network=name, entropy=entropy)[columns] for name, history in histories.items()]
    return pd.concat(parts, ignore_index=True)


@styled
def training(table: pd.DataFrame, descended: str) -> Figure:
    """Loss against epoch of each network, with the entropy of the redshift histogram, from `training_table`.

    Parameters
    ----------
    table : DataFrame
    descended : str
        What the training loss is called.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    networks = [history for _, history in table.groupby("network", sort=False)]
    opaque = 0.9 if len(networks) <= 8 else 0.4
    for index, history in enumerate(networks):
        first = index == 0
        axis.plot(history["epoch"], history["train_loss"], color=ORANGE, lw=1, alpha=opaque,
                  label=descended if first else None)  # fmt: skip
        axis.plot(history["epoch"], history["validation_loss"], color=BLUE, lw=1.3, alpha=opaque,
                  label="validation (cross-entropy)" if first else None)  # fmt: skip
        best = history[history["best"]]
        axis.plot(best["epoch"], best["validation_loss"], "o", color=BLUE, ms=4,
                  label="best epoch" if first else None)  # fmt: skip
    axis.axhline(table["entropy"].iloc[0], color=BLACK, lw=1, ls="--", label="entropy of the redshifts")
    axis.set(xlabel="epoch", ylabel="loss (nat)", xlim=(0, max(1, table["epoch"].max()) + 0.5))
    axis.legend(ncols=2)
    return figure


@styled
def controls(table: pd.DataFrame) -> Figure:
    """sigma_MAD of each negative control beside that of the prior, and of networks, for scale.

    Parameters
    ----------
    table : DataFrame
        Of `report.controls.with_networks`.
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


def examples_table(galaxies: pd.DataFrame, distributions: np.ndarray) -> pd.DataFrame:
    """Distributions of a few galaxies, a row for each bin: object_id, z_spec, z_phot, z_low, z_high, density.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, z_spec, z_phot.
    distributions : ndarray (galaxy, bin)
        Probabilities.
    """
    bins = distributions.shape[1]
    edges = pdfs.bin_edges(bins)
    columns = {name: np.repeat(galaxies[name].to_numpy(), bins) for name in ("object_id", "z_spec", "z_phot")}
    columns |= {"z_low": np.tile(edges[:-1], len(galaxies)), "z_high": np.tile(edges[1:], len(galaxies))}
    return pd.DataFrame(columns | {"density": (distributions / np.diff(edges)).ravel()})


@styled
def examples(images: Sequence[np.ndarray], table: pd.DataFrame) -> Figure:
    """Colour images of galaxies, each beside its distribution.

    Parameters
    ----------
    images : sequence of ndarray (y, x, 3), uint8
        North up, East left once row 0 is drawn at the bottom.
    table : DataFrame
        Of `examples_table`, galaxies in the order of the images.
    """
    across = 2
    down = -(-len(images) // across)
    figure = Figure(figsize=(WIDTH, 1.55 * down), layout="constrained")
    axes = figure.subplots(down, 2 * across, squeeze=False, width_ratios=[1, 1.9] * across)
    for axis in axes.ravel():
        axis.set_visible(False)
    galaxies = table.groupby("object_id", sort=False)
    for index, (image, (_, galaxy)) in enumerate(zip(images, galaxies, strict=True)):
        left, right = axes[index // across, 2 * (index % across) :][:2]
        for axis in (left, right):
            axis.set_visible(True)
        left.imshow(image, origin="lower", interpolation="nearest")
        left.set(xticks=[], yticks=[])
        left.spines[:].set_visible(False)
        z_spec, z_phot = galaxy[["z_spec", "z_phot"]].iloc[0]
        right.stairs(
            galaxy["density"], [*galaxy["z_low"], galaxy["z_high"].iloc[-1]], color=BLUE, fill=True, alpha=0.75
        )
        right.axvline(z_spec, color=VERMILLION, lw=1.5)
        right.axvline(z_phot, color=BLACK, lw=1, ls=":")
        start = float(np.clip(z_phot - 0.1, 0, pdfs.Z_RANGE - 0.2))
        right.set(xlim=(start, start + 0.2), ylim=(0, None), yticks=[])
        right.spines["left"].set_visible(False)
        if index >= len(images) - across:
            right.set_xlabel("redshift")
    return figure
