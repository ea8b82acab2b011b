"""Map of the sample: the whole sky, and each patch of it enlarged where patches are small and few."""

import numpy as np
import pandas as pd
from astropy import units as u
from astropy_healpix import healpix_to_xyz, lonlat_to_healpix
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sdss_photoz.report.section import Content, Run
from sdss_photoz.report.style import BLACK, CYCLE, WIDTH, styled

NSIDE = 64  # cells of 0.9 degrees, of which patches are made
LINK = 2.0  # degrees: cells no farther apart are one patch
SMALL = 5.0  # degrees across: a larger patch is seen well enough on the map
MOST_PATCHES = 12
ACROSS = 4
TEMPLATE = """\
{% call figure(figures.sky, "Positions of the galaxies on the sky") %}Positions of the galaxies, coloured by the \
fold that tests them (first trial); small patches also close up.{% endcall %}"""


def content(run: Run) -> Content:
    """Positions of all galaxies, with the fold that tests them in the first trial."""
    first = next(iter(run.trials.values())).photoz.drop_duplicates("object_id").set_index("object_id")["fold"]
    return Content(tables={"sky": sky_table(run.galaxies, run.galaxies["object_id"].map(first))}, figures={"sky": sky})


def patches(ra: ArrayLike, dec: ArrayLike) -> np.ndarray:
    """Number of the patch of each galaxy, int64 (galaxy,): connected cells of 0.9 degrees, linked within 2 degrees.

    Parameters
    ----------
    ra, dec : array_like (galaxy,)
        Degrees.
    """
    pixels = lonlat_to_healpix(np.asarray(ra) * u.deg, np.asarray(dec) * u.deg, NSIDE, order="nested")
    cells, cell = np.unique(pixels, return_inverse=True)
    tree = cKDTree(np.stack(healpix_to_xyz(cells, NSIDE, order="nested"), axis=1))
    near = tree.sparse_distance_matrix(tree, 2 * np.sin(np.radians(LINK) / 2))
    return connected_components(near, directed=False)[1][cell].astype(np.int64)


def sky_table(galaxies: pd.DataFrame, fold: pd.Series) -> pd.DataFrame:
    """Positions of the galaxies on the sky and within their patch.

    Parameters
    ----------
    galaxies : DataFrame
        With object_id, ra and dec (deg).
    fold : Series (galaxy,)
        Fold in which each galaxy is tested; NaN where in none.

    Returns
    -------
    DataFrame
        object_id, ra, dec, fold, patch (its number), and east, north: offsets (deg) from the middle of the patch.
    """
    table = galaxies[["object_id", "ra", "dec"]].reset_index(drop=True)
    table["fold"] = fold.to_numpy(float)
    table["patch"] = patches(table["ra"], table["dec"])
    return pd.concat([_flat(part) for _, part in table.groupby("patch")]).sort_index().astype({"fold": "Int64"})


@styled
def sky(table: pd.DataFrame) -> Figure:
    """Positions of the galaxies, a colour for each fold, from `sky_table`."""
    parts = [part for _, part in table.groupby("patch")]
    close = len(parts) <= MOST_PATCHES and all(np.ptp(part[["east", "north"]], axis=0).max() < SMALL for part in parts)
    down = -(-len(parts) // ACROSS) if close else 0
    figure = Figure(figsize=(WIDTH, 3 + 1.9 * down), layout="constrained")
    grid = figure.add_gridspec(1 + down, ACROSS, height_ratios=[3, *[1.9] * down])
    whole = figure.add_subplot(grid[0, :])
    _scatter(whole, table["ra"], table["dec"], table["fold"], float(np.clip(4000 / len(table), 0.3, 6)))
    whole.invert_xaxis()
    whole.set(xlabel="right ascension (deg)", ylabel="declination (deg)")
    handles = whole.get_legend_handles_labels()
    whole.legend(*handles, title="fold", markerscale=4, loc="center left", bbox_to_anchor=(1, 0.5))
    half = 1.05 * max(part[["east", "north"]].abs().max().max() for part in parts)  # one scale for all patches
    for index, part in enumerate(parts if close else []):
        label = chr(ord("A") + index)
        whole.annotate(label, part[["ra", "dec"]].mean(), (4, 4), textcoords="offset points", color=BLACK)
        axis = figure.add_subplot(grid[1 + index // ACROSS, index % ACROSS])
        _scatter(axis, part["east"], part["north"], part["fold"], 1.5)
        axis.set(xlim=(half, -half), ylim=(-half, half), aspect="equal")
        axis.locator_params(nbins=3)
        axis.set_title(label, loc="left")
        axis.set_xlabel("East (deg)")
        if index % ACROSS == 0:
            axis.set_ylabel("North (deg)")
    return figure


def _flat(part):
    """Offsets to the East and the North (deg) from the middle of a patch; flat-sky, for patches of a few degrees."""
    ra = (part["ra"] - part["ra"].iloc[0] + 180) % 360 - 180
    middle = (part["dec"].min() + part["dec"].max()) / 2
    east = (ra - (ra.min() + ra.max()) / 2) * np.cos(np.radians(middle))
    return part.assign(east=east, north=part["dec"] - middle)


def _scatter(axis, x, y, fold, size):
    for index, number in enumerate(sorted(fold.dropna().unique())):
        chosen = (fold == number).fillna(False).to_numpy(bool)
        axis.scatter(x[chosen], y[chosen], s=size, color=CYCLE[index % len(CYCLE)], lw=0, label=f"{number:.0f}")
    rest = fold.isna().to_numpy()
    if rest.any():
        axis.scatter(x[rest], y[rest], s=size, color="#BBBBBB", lw=0, label="none", zorder=0.5)
