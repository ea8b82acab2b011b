"""Colour images of a few galaxies, each beside its distribution of the redshift or of another value."""

from collections.abc import Sequence
from functools import partial

import h5py
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation.kinds import KINDS, Kind
from sdss_photoz.report.colour import colour_image, describe
from sdss_photoz.report.labels import quantity
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, BLUE, VERMILLION, WIDTH, styled
from sdss_photoz.scores import pdfs
from sdss_photoz.scores.grid import Grid

STRETCH = 0.2  # in redshift
TEMPLATE = """\
{% call figure(figures.examples, "Colour images of galaxies, each beside its " ~ which ~ "distribution") %}Galaxies \
at evenly spaced ranks of {{ quantity }}, not chosen by eye: {{ picture }} ({{ wide }}&Prime; wide, North up, East \
left) beside the ensemble&rsquo;s distribution over a stretch of {{ "%g" | format(stretch) }} in {{ quantity }}. \
Solid: {{ truth }}. Dotted: {{ prediction }}.{% endcall %}"""


def content(run: Run, trial: Trial) -> Content | None:
    """Galaxies evenly spaced in the rank of the true value, as many as `report.examples` says; None where that is 0.

    Raises
    ------
    UserError
        Where ``photoz.hdf5`` and ``photoz.parquet`` hold different numbers of galaxies.
    """
    if not run.config.report.examples:
        return None
    kind, grid, redshifts = trial.kind, trial.grid, trial.kind.name == "redshift"
    once = trial.scored[trial.scored["repeat"] == 0].sort_values([kind.true, "object_id"])
    number = min(run.config.report.examples, len(once))
    chosen = once.iloc[((np.arange(number) + 0.5) / number * len(once)).astype(int)]
    cube_rows = run.galaxies.set_index("object_id").loc[chosen["object_id"], "row"].to_numpy()
    images = [colour_image(cube, bands=run.grid.bands) for cube in load_cubes(run.store, cube_rows)]
    stretch = min(STRETCH if redshifts else (grid.high - grid.low) / 2, grid.high - grid.low)
    name = "redshift" if redshifts else trial.target.column
    return Content(
        values={
            "picture": describe(run.grid.bands),
            "wide": run.wide,
            "quantity": quantity(trial),
            "which": "redshift " if redshifts else "",
            "stretch": stretch,
            "truth": "spectroscopic redshift" if redshifts else "the true value",
            "prediction": "photometric redshift" if redshifts else "the prediction",
        },
        tables={"examples": examples_table(chosen, _distributions(trial, chosen.index.to_numpy()), grid, kind)},
        figures={"examples": partial(examples, images, kind=kind, stretch=stretch, name=name)},
    )


def _distributions(trial, rows) -> np.ndarray:
    """Normalised distributions (row, bin) of some rows of ``photoz.parquet``, from the ensemble beside it."""
    ordered = np.sort(rows)  # h5py reads rows in order
    with h5py.File(trial.files.ensemble) as file:
        stored = file["data/pdfs"]
        if len(stored) != len(trial.photoz):
            raise UserError(
                f"{trial.files.ensemble} and photoz.parquet beside it hold different galaxies: evaluate again."
            )
        return pdfs.normalise(stored[ordered][np.searchsorted(ordered, rows)])


def examples_table(
    galaxies: pd.DataFrame, distributions: np.ndarray, grid: Grid | None = None, kind: Kind = KINDS["redshift"]
) -> pd.DataFrame:
    """Distributions of a few galaxies, a row for each bin: object_id, z_spec, z_phot, z_low, z_high, density.

    Of another kind true and predicted, low and high.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, and the true and the predicted values.
    distributions : ndarray (galaxy, bin)
        Probabilities.
    grid : Grid, optional
        The bins; by default equal bins from 0 to 0.4.
    kind : Kind
        What is predicted.
    """
    bins = distributions.shape[1]
    edges, (low, high) = (Grid(bins=bins) if grid is None else grid).edges(), _ends(kind)
    columns = {name: np.repeat(galaxies[name].to_numpy(), bins) for name in ("object_id", kind.true, kind.point)}
    columns |= {low: np.tile(edges[:-1], len(galaxies)), high: np.tile(edges[1:], len(galaxies))}
    return pd.DataFrame(columns | {"density": (distributions / np.diff(edges)).ravel()})


def _ends(kind: Kind) -> tuple[str, str]:
    """Names of the columns with the lower and the upper edges of the bins."""
    return ("z_low", "z_high") if kind.name == "redshift" else ("low", "high")


@styled
def examples(
    images: Sequence[np.ndarray],
    table: pd.DataFrame,
    kind: Kind = KINDS["redshift"],
    stretch: float = STRETCH,
    name: str = "redshift",
) -> Figure:
    """Colour images of galaxies, each beside its distribution.

    Parameters
    ----------
    images : sequence of ndarray (y, x, 3), uint8
        North up, East left once row 0 is drawn at the bottom.
    table : DataFrame
        Of `examples_table`, galaxies in the order of the images.
    kind : Kind
        What is predicted.
    stretch : float
        How much of the axis each panel shows.
    name : str
        What is predicted, for the axis.
    """
    low, high = _ends(kind)
    first, last = table[low].min(), table[high].max()
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
        true, predicted = galaxy[[kind.true, kind.point]].iloc[0]
        right.stairs(galaxy["density"], [*galaxy[low], galaxy[high].iloc[-1]], color=BLUE, fill=True, alpha=0.75)
        right.axvline(true, color=VERMILLION, lw=1.5)
        right.axvline(predicted, color=BLACK, lw=1, ls=":")
        middle = predicted if kind.name == "redshift" else (true + predicted) / 2  # so that both are seen
        start = float(np.clip(middle - stretch / 2, first, last - stretch))
        right.set(xlim=(start, start + stretch), ylim=(0, None), yticks=[])
        right.spines["left"].set_visible(False)
        if index >= len(images) - across:
            right.set_xlabel(name)
    return figure
