"""The contact sheet: colour images of the worst cubes and of random ones, with the largest flaw of each."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.report.colour import BLANK, bands_drawn, colour_image, describe
from sdss_photoz.report.section import Content, Run
from sdss_photoz.report.sections.cubes import flawed_pixels
from sdss_photoz.report.style import BLACK, WIDTH, styled
from sdss_photoz.sample.folds import hash_uniform
from sdss_photoz.surveys import CUBE, PixelGrid

ACROSS = 5
RANDOM = 10
WORST = {  # kind of flaw: heading, words for a fraction of the pixels
    "uncovered": ("Least covered", "not covered"),
    "saturated": ("Most saturated pixels", "saturated"),
    "missing": ("Most missing pixels", "missing"),
}
IMAGE, GAP, HEADING, LABEL = 1.28, 0.2, 0.3, 0.42  # inches: at 150 dots an inch a pixel of a cube is 3 x 3 dots
TEMPLATE = """\
{% call figure(figures.contact_sheet, "Contact sheet: colour images of the worst cubes and of random ones") %}The \
worst cubes, and random ones chosen by a hash of their object ids: {{ picture }} \
({{ wide }}&Prime; wide, North up, East left), object id, redshift, and the largest flaw in the worst band; grey where \
{{ blank }} is not covered.{% endcall %}"""


def content(run: Run) -> Content | None:
    """Chosen cubes and their images; None where no quality table is given."""
    if run.quality is None:
        return None
    chosen = choose(run.quality, run.grid).merge(run.galaxies[["object_id", "z_spec"]], on="object_id", how="left")
    images = [colour_image(cube, BLANK, run.grid.bands) for cube in load_cubes(run.store, chosen["row"])]
    blank = "one of the three bands" if len(bands_drawn(run.grid.bands)) == 3 else "the band"
    return Content(
        values={"picture": describe(run.grid.bands), "wide": run.wide, "blank": blank},
        tables={"contact_sheet": chosen},
        figures={"contact_sheet": partial(contact_sheet, images)},
    )


def flaws(pixels: Mapping[str, np.ndarray], grid: PixelGrid = CUBE) -> list[str]:
    """The flaw of each cube in a few words: bands without any frame, or the largest flaw in its worst band.

    Parameters
    ----------
    pixels : mapping of str to ndarray
        Kinds of flaws with their pixels (galaxy, band), as `flawed_pixels` gives them.
    grid : PixelGrid
        Pixels and bands of the cubes.
    """
    kinds, all_pixels = list(pixels), grid.size**2
    words = []
    for of_galaxy in np.stack(list(pixels.values()), axis=1):  # (kind, band)
        empty = [band for band, count in zip(grid.bands, of_galaxy[0], strict=True) if count >= all_pixels]
        kind, band = np.unravel_index(of_galaxy.argmax(), of_galaxy.shape)
        count = of_galaxy[kind, band]
        if empty and kinds[0] == "uncovered":
            words.append(f"no frame in {' '.join(empty)}")
        elif count < 0.5:
            words.append("complete")
        else:
            amount = f"{count:.0f} px" if count < all_pixels / 100 else f"{100 * count / all_pixels:.0f} %"
            words.append(f"{grid.bands[band]}: {amount} {WORST[kinds[kind]][1]}")
    return words


def by_hash(object_id: ArrayLike) -> np.ndarray:
    """Pseudo-random order of galaxies, int64 (galaxy,): that of a hash of their object ids."""
    return np.argsort(hash_uniform(np.asarray(object_id, np.int64), 0, "contact sheet"), kind="stable")


def choose(quality: pd.DataFrame, grid: PixelGrid = CUBE) -> pd.DataFrame:
    """Choose the worst cubes of each kind and random ones.

    Parameters
    ----------
    quality : DataFrame
        object_id, row, coverage_{b}, and optionally saturated_{b} and missing_{b} (pixels).
    grid : PixelGrid
        Pixels and bands of the cubes.

    Returns
    -------
    DataFrame
        object_id, row, group (heading), flaw: at most 5 of each kind of flaw, worst first, each cube once; and the
        first 10 in the order of `by_hash`, flawed or not.
    """
    groups, words = {}, []
    free = np.ones(len(quality), bool)  # of a group
    flawed = flawed_pixels(quality, grid)
    for kind, pixels in flawed.items():
        # order by the worst band, ties by all bands
        worst = pixels.max(axis=1) + pixels.sum(axis=1) / (len(grid.bands) * grid.size**2 + 1)
        worst = np.where(free, worst, 0)
        order = np.lexsort([quality["object_id"], -worst])[:ACROSS]
        groups[WORST[kind][0]] = chosen = order[worst[order] >= 0.5]
        words += flaws({kind: pixels[chosen]}, grid)
        free[chosen] = False
    groups["Random"] = chosen = by_hash(quality["object_id"])[:RANDOM]
    words += flaws({kind: pixels[chosen] for kind, pixels in flawed.items()}, grid)
    table = quality.iloc[np.concatenate(list(groups.values()))][["object_id", "row"]].reset_index(drop=True)
    return table.assign(group=np.repeat(list(groups), [len(group) for group in groups.values()]), flaw=words)


@styled
def contact_sheet(images: Sequence[np.ndarray], galaxies: pd.DataFrame) -> Figure:
    """Colour images of cubes, group by group.

    Parameters
    ----------
    images : sequence of ndarray (y, x, 3), uint8
        North up, East left once row 0 is drawn at the bottom.
    galaxies : DataFrame
        object_id, z_spec, group, flaw; a row for each image, groups in order.
    """
    groups = list(galaxies.groupby("group", sort=False).indices.items())
    rows = {name: -(-len(members) // ACROSS) for name, members in groups}
    height = sum(HEADING + count * (IMAGE + LABEL) for count in rows.values())
    figure = Figure(figsize=(WIDTH, height))
    top = height
    for name, members in groups:
        figure.text(0, (top - 0.1) / height, name, va="top", size=9, weight="bold", color=BLACK)
        top -= HEADING
        for place, index in enumerate(members):
            galaxy = galaxies.iloc[index]
            left = (place % ACROSS) * (IMAGE + GAP)
            bottom = top - (place // ACROSS) * (IMAGE + LABEL) - IMAGE
            axis = figure.add_axes((left / WIDTH, bottom / height, IMAGE / WIDTH, IMAGE / height))
            axis.imshow(images[index], origin="lower", interpolation="nearest")
            axis.set_axis_off()
            words = f"{galaxy['object_id']}\nz = {galaxy['z_spec']:.3f}\n{galaxy['flaw']}"
            figure.text(left / WIDTH, (bottom - 0.04) / height, words, va="top", size=6.5, color=BLACK, linespacing=1.2)
        top -= rows[name] * (IMAGE + LABEL)
    return figure
