"""The contact sheet: the worst cubes and random ones, with what is wrong with each; and the cubes' quality by band."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from sdss_photoz.cubes.great_circle import some
from sdss_photoz.report.figures import BLACK, WIDTH, styled
from sdss_photoz.sample.folds import draw
from sdss_photoz.survey import BANDS, CUBE_SIZE

ACROSS = 5
RANDOM = 10
PIXELS = CUBE_SIZE**2
WORST = {  # kind of flaw: heading, words for a share of the pixels
    "uncovered": ("Least covered", "not covered"),
    "saturated": ("Most saturated pixels", "saturated"),
    "missing": ("Most missing pixels", "missing"),
}
QUANTITIES = {  # columns of the quality tables: heading, unit, factor, digits
    "coverage": ("covered", "%", 100, 1),
    "frames": ("frames", "", 1, 0),
    "seeing": ("seeing", "arcsec", 1, 2),
    "sky": ("sky", "nmgy/arcsec²", 1, 2),
}
HEADERS = ("by_terms", "unchecked")  # columns of the quality tables: frames whose header does not stand
IMAGE, GAP, HEADING, LABEL = 1.28, 0.2, 0.3, 0.42  # inches: at 150 dots an inch a pixel of a cube is 3 x 3 dots


def read_quality(paths: Iterable[Path]) -> pd.DataFrame:
    """Read what the report needs of the quality tables of all chunks; columns that they lack are left out."""
    kinds = (*QUANTITIES, "saturated", "missing", *HEADERS)
    wanted = ["object_id", "row", *(f"{kind}_{band}" for kind in kinds for band in BANDS)]
    parts = []
    for path in paths:
        there = pq.read_schema(path).names
        parts.append(pd.read_parquet(path, columns=[name for name in wanted if name in there]))
    return pd.concat(parts, ignore_index=True)


def flawed_pixels(quality: pd.DataFrame) -> dict[str, np.ndarray]:
    """Pixels of each cube that have each kind of flaw that the tables know, (galaxy, band) float64; NaN is none."""
    found = {"uncovered": (1 - _by_band(quality, "coverage")) * PIXELS}
    found |= {kind: _by_band(quality, kind) for kind in ("saturated", "missing")}
    return {kind: np.nan_to_num(pixels) for kind, pixels in found.items() if not np.isnan(pixels).all()}


def headers_off(quality: pd.DataFrame) -> dict[str, dict]:
    """Frames that do not lie by a header that was checked: for each kind of them that there is, what to say.

    Returns
    -------
    dict
        Kind, as in `HEADERS`: cubes and number (of frames), frames (their names, each after its band).
    """
    found = {}
    for kind in HEADERS:
        columns = {band: quality[f"{kind}_{band}"].fillna("") for band in BANDS if f"{kind}_{band}" in quality}
        names = {band: sorted(set(" ".join(column.unique()).split())) for band, column in columns.items()}
        frames = [f"{band} {name}" for band, of_band in names.items() for name in of_band]
        if frames:
            cubes = np.any([column != "" for column in columns.values()], axis=0).sum()
            found[kind] = {"cubes": int(cubes), "number": len(frames), "frames": some(frames)}
    return found


def _by_band(quality, kind):
    columns = [quality.get(f"{kind}_{band}", pd.Series(np.nan, quality.index)) for band in BANDS]
    return np.stack([column.to_numpy(float) for column in columns], axis=1)


def flaws(pixels: Mapping[str, np.ndarray]) -> list[str]:
    """What is wrong with each cube, in a few words: bands without any frame, or the largest flaw in its worst band.

    Parameters
    ----------
    pixels : mapping of str to ndarray
        Kinds of flaws with their pixels (galaxy, band), as `flawed_pixels` gives them.
    """
    kinds = list(pixels)
    said = []
    for of_galaxy in np.stack(list(pixels.values()), axis=1):  # (kind, band)
        empty = [band for band, count in zip(BANDS, of_galaxy[0], strict=True) if count >= PIXELS]
        kind, band = np.unravel_index(of_galaxy.argmax(), of_galaxy.shape)
        count = of_galaxy[kind, band]
        if empty and kinds[0] == "uncovered":
            said.append(f"no frame in {' '.join(empty)}")
        elif count < 0.5:
            said.append("complete")
        else:
            share = f"{count:.0f} px" if count < PIXELS / 100 else f"{100 * count / PIXELS:.0f} %"
            said.append(f"{BANDS[band]}: {share} {WORST[kinds[kind]][1]}")
    return said


def by_hash(object_id) -> np.ndarray:
    """Order of galaxies, int64 (galaxy,), that nobody chose: that of a hash of their object ids."""
    return np.argsort(draw(np.asarray(object_id, np.int64), 0, "contact sheet"), kind="stable")


def choose(quality: pd.DataFrame) -> pd.DataFrame:
    """Choose the worst cubes of each kind and random ones.

    Parameters
    ----------
    quality : DataFrame
        object_id, row; coverage_{b}, and where there are any saturated_{b} and missing_{b} (pixels).

    Returns
    -------
    DataFrame
        object_id, row, group (heading), flaw: at most 5 of each kind of flaw, worst first, each cube once; and 10 by
        their hash, whatever else they are.
    """
    groups, said = {}, []
    left = np.ones(len(quality), bool)
    flawed = flawed_pixels(quality)
    for kind, pixels in flawed.items():
        worst = pixels.max(axis=1) + pixels.sum(axis=1) / (len(BANDS) * PIXELS + 1)  # the worst band, then all of them
        worst = np.where(left, worst, 0)
        order = np.lexsort([quality["object_id"], -worst])[:ACROSS]
        groups[WORST[kind][0]] = chosen = order[worst[order] >= 0.5]
        said += flaws({kind: pixels[chosen]})
        left[chosen] = False
    groups["Random"] = chosen = by_hash(quality["object_id"])[:RANDOM]
    said += flaws({kind: pixels[chosen] for kind, pixels in flawed.items()})
    table = quality.iloc[np.concatenate(list(groups.values()))][["object_id", "row"]].reset_index(drop=True)
    return table.assign(group=np.repeat(list(groups), [len(group) for group in groups.values()]), flaw=said)


def summary(quality: pd.DataFrame) -> pd.DataFrame:
    """Median and extremes over all cubes: band, quantity, unit, median, least, greatest; quantities that are known."""
    rows = []
    for quantity, (_, unit, factor, _) in QUANTITIES.items():
        values = factor * _by_band(quality, quantity)
        for band, column in zip(BANDS, values.T, strict=True):
            column = column[np.isfinite(column)]
            if column.size:
                rows.append((band, quantity, unit, np.median(column), column.min(), column.max()))
    return pd.DataFrame(rows, columns=["band", "quantity", "unit", "median", "least", "greatest"])


def summary_text(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each band of "median (least to greatest)", of the table of `summary`."""
    kinds = list(table["quantity"].unique())
    headings = [f"{QUANTITIES[kind][0]} ({QUANTITIES[kind][1]})".removesuffix(" ()") for kind in kinds]
    places = table.set_index(["band", "quantity"])[["median", "least", "greatest"]]
    rows = []
    for band in BANDS:
        row = [band]
        for kind in kinds:
            if (band, kind) not in places.index:
                row.append("–")
                continue
            digits = QUANTITIES[kind][3]
            median, least, greatest = (f"{value:.{digits}f}" for value in places.loc[(band, kind)])
            row.append(f"{median} ({least} to {greatest})")
        rows.append(row)
    return headings, rows


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
