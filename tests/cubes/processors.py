"""Cubes, frames, folds and a simulated sky of a few galaxies, made by a process that plays another kind of processor.

`python -m tests.cubes.processors FILE` writes them to an npz file: those of galaxies that are taken together, and cubes
of the same galaxies taken in other groups.
"""

import math
import sys
from itertools import pairwise

import numpy as np
import pandas as pd

from sdss_photoz.config import Embedded, Folds
from sdss_photoz.cubes.frame import Tan
from sdss_photoz.cubes.resample import Projection, resample_grids
from sdss_photoz.cubes.stack import mean_stack, median_stack
from sdss_photoz.embedded.scene import draw_scenes
from sdss_photoz.frames.footprint import overlapping_frames
from sdss_photoz.sample.folds import assign_folds
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import great_circle
from sdss_photoz.surveys.sdss import FRAME_SHAPE

COUNT = 60
GROUPS = ([1] * (COUNT - 1), [7] * 7)  # one by one, and lengths that no vector register has
PIXELS = np.random.default_rng(0).normal(size=(3, *FRAME_SHAPE)).astype(np.float32)


def _projections():
    """Three frames, turned."""
    for angle in map(math.radians, (0.0, 33.0, 190.0)):
        cos, sin = (SDSS.pixel_scale / 3600 * turn(angle) for turn in (math.cos, math.sin))
        yield Projection(Tan(180.0, 30.0, 1024.0, 744.0, (-cos, sin, sin, cos)))


def _terms(ra, dec):
    """Homographies and flux factors, (galaxy, frame, 10)."""
    place = (ra, dec) if len(ra) > 1 else (ra[0], dec[0])  # numbers: NumPy has loops of their own for them
    terms = [(frame.homography(*place).reshape(-1, 9), frame.flux_factor(*place)) for frame in _projections()]
    return np.stack([np.column_stack(of_frame) for of_frame in terms], axis=1)


def _images(ra, dec):
    """Stacked images, (galaxy, median or mean, y, x)."""
    each = zip(PIXELS, np.moveaxis(_terms(ra, dec), 1, 0), strict=True)
    layers = np.stack([resample_grids(pixels, terms[:, :9], terms[:, 9])[0] for pixels, terms in each], axis=1)
    return np.stack([[stack(galaxy)[0] for stack in (median_stack, mean_stack)] for galaxy in layers])


def _frames(ra, dec):
    """Frames that overlap each galaxy, of fields dealt along one great circle."""
    count = 12
    fields = pd.DataFrame({"run": 94, "camcol": 3, "field": np.arange(count), "node": 95.0, "incl": 32.5})
    mu, nu, _, _ = great_circle(180.0, 30.0, 95.0, 32.5)
    step = SDSS.pixel_scale / 3600
    terms = mu + step * 1361 * (np.arange(count) - count / 2), step, 0.0, nu - step * 1024, 0.0, step
    fields = fields.assign(**dict(zip("abcdef", terms, strict=True)))
    found = overlapping_frames(ra, dec, fields)
    return np.stack([found["galaxy"], found["field"], found["band"].map("ugriz".index)])


def _folds(ra, dec):
    galaxies = pd.DataFrame({"object_id": 10_000 + np.arange(len(ra)), "ra": ra, "dec": dec})
    folds = Folds(count=2, by="group", group_radius=60.0, validation_fraction=0.3)
    table = assign_folds(galaxies, folds, {})
    return np.stack([table["fold"], table["group"], table["role_0"] == "train", table["role_1"] == "train"])


def _sky():
    """Numbers of all objects of a simulated sky."""
    scenes = draw_scenes(Embedded(fields=2, galaxies_per_field=30, visits=1))
    return np.concatenate([scene.objects.select_dtypes("number").to_numpy(float) for scene in scenes])


def _grouped(make, ra, dec, lengths):
    """What is made of groups of galaxies, the last of which takes all that are left, put together again."""
    bounds = [0, *np.cumsum(lengths), len(ra)]
    return np.concatenate([make(ra[first:last], dec[first:last]) for first, last in pairwise(bounds)])


def main() -> None:
    """Make and write them."""
    rng = np.random.default_rng(1)
    ra, dec = 180 + rng.uniform(-0.1, 0.1, COUNT), 30 + rng.uniform(-0.07, 0.07, COUNT)
    found = {"terms": _terms(ra, dec), "images": _images(ra, dec), "frames": _frames(ra, dec), "folds": _folds(ra, dec)}
    found["sky"] = _sky()
    for number, lengths in enumerate(GROUPS):
        found |= {f"{make.__name__[1:]}-{number}": _grouped(make, ra, dec, lengths) for make in (_terms, _images)}
    np.savez(sys.argv[1], **found)


if __name__ == "__main__":
    main()
