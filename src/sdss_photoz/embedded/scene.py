"""Positions and fluxes of the objects of the simulated sky: one scene for each strip of fields, and one for the patch.

Positions are independent of redshifts: targets are random with a minimum separation, except for added pairs and
objects near edges; all other objects are uniform. The default density of 250 targets per field is some 70 times the
real one, to have enough galaxies for training in a run of minutes.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sdss_photoz.config import Embedded
from sdss_photoz.embedded.astrometry import Strip, draw_strips
from sdss_photoz.embedded.camera import draw_conditions
from sdss_photoz.embedded.population import draw_faint_galaxies, draw_galaxies, draw_stars, galactic_ebv
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE

SEPARATION = 70.0  # pixels between targets, so that few cubes of 64 pixels contain two
EDGE_MARGIN = 40.0  # pixels at the frame's edges without targets, except for EDGE_FRACTION
PAIR_FRACTION = 0.03  # of the targets have another target within 17 arcsec
EDGE_FRACTION = 0.02  # of the targets are within EDGE_MARGIN of an edge
FAINT_PER_FIELD = 80
STARS_PER_FIELD = 60
PATCH_MARGIN = 60  # pixels around the patch, which some visits cover


@dataclass(frozen=True)
class Scene:
    """Strips that observe the same objects, their conditions, and the objects."""

    strips: list[Strip]
    conditions: list[list[dict]]  # by strip and block of rows
    objects: pd.DataFrame


def _draw_separated(number, low, high, separation, rng):
    """Draw uniform points in a box, no two nearer than `separation`; fewer than `number` if they do not fit."""
    points = np.empty((0, 2))
    for candidate in rng.uniform(low, high, (60 * number, 2)):
        if len(points) == number:
            break
        if not len(points) or np.min(((points - candidate) ** 2).sum(axis=1)) > separation**2:
            points = np.concatenate([points, candidate[None]])
    return points


def draw_positions(number: int, low, high, rng: np.random.Generator) -> np.ndarray:
    """Draw the pixel positions (x, y) of targets in the box from `low` to `high`, shape (number, 2)."""
    low, high = np.array(low, float), np.array(high, float)
    paired, at_edge = round(number * PAIR_FRACTION / 2), round(number * EDGE_FRACTION)
    points = _draw_separated(number - paired - at_edge, low + EDGE_MARGIN, high - EDGE_MARGIN, SEPARATION, rng)
    distance, angle = rng.uniform(13, 42, paired), rng.uniform(0, 2 * np.pi, paired)  # 5 to 17 arcsec
    partners = points[:paired] + distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    edge = rng.uniform(low, high, (at_edge, 2))
    axis, inward = rng.integers(0, 2, at_edge), rng.uniform(0, EDGE_MARGIN, at_edge)
    chosen = np.arange(at_edge), axis
    edge[chosen] = np.where(rng.uniform(size=at_edge) < 0.5, low[axis] + inward, high[axis] - inward)
    return rng.permutation(np.concatenate([points, partners, edge]))


def _box(group: list[Strip]):
    """Return the corners (x, y) of a scene in pixels of its first strip, and its area in fields."""
    margin = PATCH_MARGIN if len(group) > 1 else 0
    low, high = (-margin, -margin), (FRAME_SHAPE[1] - 1 + margin, group[0].rows - 1 + margin)
    return low, high, (high[0] - low[0]) * (high[1] - low[1]) / (FRAME_SHAPE[1] * FIELD_ROWS)


def _draw_objects(strip: Strip, low, high, area, targets, positions, seed: int, rng) -> pd.DataFrame:
    """Draw targets, faint galaxies and stars in a box of a strip's r-band pixels, with fluxes after Galactic dust."""
    faint = draw_faint_galaxies(round(FAINT_PER_FIELD * area), rng).assign(kind="faint")
    stars = draw_stars(round(STARS_PER_FIELD * area), rng).assign(kind="star", red=False)
    objects = pd.concat([targets.assign(kind="target"), faint, stars], ignore_index=True)
    others = rng.uniform(low, high, (len(faint) + len(stars), 2))
    objects[["x", "y"]] = np.concatenate([positions, others])
    objects["ra"], objects["dec"] = strip.sky("r", objects["x"].to_numpy(), objects["y"].to_numpy())
    objects["ebv"] = galactic_ebv(objects["ra"], objects["dec"], seed)
    objects["ebv_catalog"] = objects["ebv"] * (1 + 0.1 * np.clip(rng.standard_normal(len(objects)), -3, 3))
    for band in SDSS.band_names:
        observed = objects[f"mag_{band}"] + SDSS.extinction[band] * objects["ebv"]
        objects[f"flux_{band}"] = 10 ** (0.4 * (SDSS.zero_point[band] - observed))
    return objects


def _primary(strips: list[Strip], objects: pd.DataFrame) -> pd.DataFrame:
    """Add the indices of strip and field where each object is primary; -1 if no field contains its centre."""
    found, field = np.full(len(objects), -1), np.full(len(objects), -1)
    for index, strip in enumerate(strips):
        x, y = strip.pixels("r", objects["ra"].to_numpy(), objects["dec"].to_numpy())
        inside = (x > -0.5) & (x < FRAME_SHAPE[1] - 0.5) & (y > -0.5) & (y < strip.rows - 0.5) & (found < 0)
        found[inside] = index
        middle_of_overlap = (FRAME_SHAPE[0] - FIELD_ROWS) // 2
        field[inside] = np.clip((y[inside] - middle_of_overlap) // FIELD_ROWS, 0, strip.fields - 1)
    return objects.assign(strip_index=found, field_index=field)


def draw_scenes(embedded: Embedded) -> list[Scene]:
    """Draw the whole sky: every strip, its conditions and its objects.

    Parameters
    ----------
    embedded : Embedded
        The block `embedded` of the configuration.

    Returns
    -------
    list of Scene
        One for each strip, the patch last.
    """
    strips, patch = draw_strips(embedded.fields, embedded.visits, embedded.seed)
    groups = [[strip] for strip in strips] + [patch]
    sources = [np.random.default_rng([embedded.seed, 2, number]) for number in range(len(groups))]
    boxes = [_box(group) for group in groups]
    positions = [
        draw_positions(round(embedded.galaxies_per_field * area), low, high, rng)
        for (low, high, area), rng in zip(boxes, sources, strict=True)
    ]
    # all targets in one call, then distributed: quasi-random draws cover the population evenly only as a whole
    targets = draw_galaxies(sum(map(len, positions)), np.random.default_rng([embedded.seed, 5]))
    scenes, first = [], 0
    for group, box, places, rng in zip(groups, boxes, positions, sources, strict=True):
        own, first = targets.iloc[first : first + len(places)], first + len(places)
        objects = _draw_objects(group[0], *box, own, places, embedded.seed, rng)
        conditions = [draw_conditions(strip.camcol, strip.fields + 1, rng) for strip in group]
        scenes.append(Scene(group, conditions, _primary(group, objects)))
    return scenes
