"""Galaxies in their surroundings: wide colour images, coadded by reproject with the kernel of the cubes."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.wcs import WCS
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from reproject.mosaicking import reproject_and_coadd

from sdss_photoz import files
from sdss_photoz.archive.frames import OK
from sdss_photoz.cubes.frame import OpenFrame
from sdss_photoz.cubes.great_circle import doubts, locate
from sdss_photoz.cubes.lanczos3 import reproject_lanczos3
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.report.colour import BLANK, colour_image
from sdss_photoz.report.contact import by_hash
from sdss_photoz.report.figures import BLACK, WIDTH, save, styled
from sdss_photoz.sample.footprint import TERMS, fields_near, grid_on_frame
from sdss_photoz.survey import BANDS, CUBE_SIZE, FRAME_SHAPE, PIXEL_SCALE, Frame

NUMBER = 3
COLOURS = "gri"
SIDE = 180.0  # arcsec
SIZE = 348  # pixels: as many as a third of the page's figures has dots
BAR = 30  # arcsec
PROBES = 19  # across: every 10 arcsec, while two frames that meet share at least 50
PANEL, GAP, LABEL = 2.32, 0.12, 0.36  # inches


def grid(ra: float, dec: float) -> WCS:
    """TAN grid of 3 arcmin around a position (degrees), North up and East left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (SIZE + 1) / 2, (SIZE + 1) / 2
    wcs.wcs.cdelt = -SIDE / SIZE / 3600, SIDE / SIZE / 3600
    return wcs


def fields_wanted(ra: float, dec: float, fields) -> list[tuple[int, int, int]]:
    """Fields that fill the grid around a position: the nearest, and others while they cover what is not covered yet.

    Parameters
    ----------
    ra, dec : float
        Degrees.
    fields : Path
        ``archive/fields.parquet``.

    Returns
    -------
    list of (run, camcol, field)
    """
    across = np.linspace(0, SIZE - 1, PROBES)
    probes = np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2)
    positions = grid(ra, dec).wcs_pix2world(probes, 0)
    near = fields_near(fields, *positions.T).sort_values(["run", "camcol", "field"])
    inside, distance = [], []
    for field in near.itertuples():
        pixels = grid_on_frame(*positions.T, field.node, field.incl, [getattr(field, term) for term in TERMS])[:, 0]
        inside.append(((pixels >= 2) & (pixels < np.array(FRAME_SHAPE[::-1]) - 3)).all(axis=1))
        distance.append(np.hypot(*(pixels - np.array(FRAME_SHAPE[::-1]) / 2).T)[len(pixels) // 2])
    wanted, covered = [], np.zeros(len(probes), bool)
    for index in np.argsort(distance, kind="stable"):
        if (inside[index] & ~covered).any():
            covered |= inside[index]
            wanted.append(tuple(int(value) for value in near.iloc[index][["run", "camcol", "field"]]))
    return wanted


def write_context(path: Path, *, galaxies: pd.DataFrame, fields, manifests, folder, release: int) -> None:
    """Write the picture of a few galaxies in their surroundings: the first by their hash.

    Parameters
    ----------
    path : Path
        The PNG to write.
    galaxies : DataFrame
        object_id, ra, dec (degrees), z_spec of all galaxies.
    fields : Path
        ``archive/fields.parquet``.
    manifests : sequence of Path
        ``archive/frames/chunk-N.parquet`` of all chunks: frames that are not "ok" there are not looked for.
    folder : Path
        Root of the frames, in the archive's layout.
    release : int
        Data release.
    """
    chosen = galaxies.iloc[by_hash(galaxies["object_id"])[:NUMBER]]
    wanted = [fields_wanted(ra, dec, fields) for ra, dec in zip(chosen["ra"], chosen["dec"], strict=True)]
    images = wide_images(chosen, wanted, _states(manifests, wanted), Path(folder), release)
    with files.whole(path) as part:
        save(wide_pictures([colour_image(image, BLANK) for image in images], chosen), part)


def _states(manifests, wanted) -> dict[Frame, str]:
    """States of the frames of some fields, in the manifests that name them."""
    fields = pd.MultiIndex.from_tuples({field for near in wanted for field in near}, names=["run", "camcol", "field"])
    states = {}
    for path in manifests:
        table = pd.read_parquet(path, columns=[*fields.names, "band", "state"])
        for *key, state in table[table.set_index(fields.names).index.isin(fields)].itertuples(index=False):
            states[Frame(*key)] = state
    return states


def wide_images(galaxies: pd.DataFrame, wanted, states: Mapping[Frame, str], folder: Path, release: int) -> np.ndarray:
    """Coadd the frames around galaxies.

    Parameters
    ----------
    galaxies : DataFrame
        ra, dec (degrees).
    wanted : sequence of list of (run, camcol, field)
        Fields of each galaxy.
    states : mapping of Frame to str
        Only frames that are "ok" are read. One that is not, is missing or damaged is named on stderr, and its part
        stays blank.
    folder, release
        As of :func:`write_context`.

    Returns
    -------
    ndarray
        (galaxy, y, x, band) float32, nanomaggies, NaN where there is no frame, and in u and z.
    """
    images = np.full((len(galaxies), SIZE, SIZE, len(BANDS)), np.nan, np.float32)
    frames = len({field for near in wanted for field in near}) * len(COLOURS)
    with progress(total=frames, unit="frame", label="wide images") as bar:
        for band in COLOURS:
            opened = {}
            for image, ra, dec, near in zip(images, galaxies["ra"], galaxies["dec"], wanted, strict=True):
                for field in near:
                    if field not in opened:
                        frame = Frame(*field, band)
                        opened[field] = _read(frame, states.get(frame), folder / frame.path(release))
                        bar.update()
                image[..., BANDS.index(band)], _ = reproject_and_coadd(
                    [opened[field] for field in near if opened[field] is not None],
                    grid(ra, dec),
                    shape_out=(SIZE, SIZE),
                    reproject_function=reproject_lanczos3,
                    blank_pixel_value=np.nan,
                )
    return images


def _read(frame: Frame, state: str | None, path: Path):
    """Image and WCS of a frame; None, and a word on stderr, where there is none."""
    try:
        if state != OK:
            raise UserError(state or "no cube needs it")
        with OpenFrame(path, frame=frame) as opened:
            tan, off = locate(opened, frame)
            image = opened.read()
    except UserError as error:
        print(f"{frame.name} is left out of the wide images: {error}", file=sys.stderr)
        return None
    for sentence in doubts({frame: off} if off != 0 else {}, 1):
        print(sentence, file=sys.stderr)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = tan.ra, tan.dec
    wcs.wcs.crpix = tan.x + 1, tan.y + 1
    wcs.wcs.cd = np.reshape(tan.cd, (2, 2))
    return image, wcs


@styled
def wide_pictures(images: Sequence[np.ndarray], galaxies: pd.DataFrame) -> Figure:
    """Wide colour images side by side, with the cube's outline, a scale bar and the directions.

    Parameters
    ----------
    images : sequence of ndarray (y, x, 3), uint8
        As many as fit in a row: three.
    galaxies : DataFrame
        object_id, z_spec; a row for each image.
    """
    height = PANEL + LABEL
    figure = Figure(figsize=(WIDTH, height))
    outline = [withStroke(linewidth=2, foreground="black")]
    white = {"color": "white", "path_effects": outline}
    pixel = SIDE / SIZE  # arcsec
    side = CUBE_SIZE * PIXEL_SCALE / pixel
    corner = (SIZE - 1 - side) / 2
    for place, (image, galaxy) in enumerate(zip(images, galaxies.itertuples(), strict=True)):
        left = place * (PANEL + GAP) / WIDTH
        axis = figure.add_axes((left, LABEL / height, PANEL / WIDTH, PANEL / height))
        axis.imshow(image, origin="lower", interpolation="nearest")
        axis.set_axis_off()
        axis.add_patch(Rectangle((corner, corner), side, side, fill=False, lw=1, **white))
        axis.plot([14, 14 + BAR / pixel], [14, 14], lw=1.5, solid_capstyle="butt", **white)
        axis.text(14 + BAR / pixel / 2, 20, f"{BAR}″", ha="center", va="bottom", size=7, **white)
        for letter, way in (("N", (0, 1)), ("E", (-1, 0))):
            foot = np.array([SIZE - 16, 14])
            tip = foot + 30 * np.array(way)
            arrow = {"arrowstyle": "->", "lw": 1, "shrinkA": 0, "shrinkB": 0, **white}
            axis.annotate("", tip, foot, arrowprops=arrow)
            axis.text(*(tip + 9 * np.array(way)), letter, ha="center", va="center", size=7, **white)
        words = f"{galaxy.object_id}\nz = {galaxy.z_spec:.3f}"
        figure.text(left, (LABEL - 0.04) / height, words, va="top", size=6.5, color=BLACK, linespacing=1.2)
    return figure
