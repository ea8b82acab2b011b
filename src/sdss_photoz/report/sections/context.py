"""Galaxies in their surroundings: wide colour images, coadded by reproject with the kernel of the cubes."""

import logging
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
from sdss_photoz.cubes.frame import OpenFrame
from sdss_photoz.cubes.frame_astrometry import header_warnings, locate
from sdss_photoz.cubes.reproject_lanczos3 import reproject_lanczos3
from sdss_photoz.errors import UserError
from sdss_photoz.frames.footprint import fields_near, grid_on_frame
from sdss_photoz.frames.mirror import OK
from sdss_photoz.progress import progress
from sdss_photoz.report.colour import BLANK, bands_drawn, colour_image
from sdss_photoz.report.section import Content, Run
from sdss_photoz.report.sections.contact_sheet import by_hash
from sdss_photoz.report.style import BLACK, WIDTH, png_data, save, styled
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.surveys.great_circle import TERMS
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame

_log = logging.getLogger(__name__)

NUMBER = 3
SIDE = 180.0  # arcsec
SIZE = 348  # pixels: as many as a third of the page's figures has dots
BAR = 30  # arcsec
PROBES = 19  # across: every 10 arcsec, while two frames that meet share at least 50
PANEL, GAP, LABEL = 2.32, 0.12, 0.36  # inches
TEMPLATE = """\
{% call figure(image, "Wide colour images around galaxies, with the outlines of their cubes") %}The first of the \
random galaxies in their surroundings of 3&prime;, coadded from the archive&rsquo;s frames in {{ drawn }} with \
reproject and the kernel of the cubes; the square is the outline of the cube, grey is where no frame was \
read.{% endcall %}"""


def content(run: Run) -> Content | None:
    """The image that `write_context` wrote; None where the run has no frames to draw it from."""
    if run.context is None:
        return None
    drawn = " and ".join(", ".join(bands_drawn(run.grid.bands)).rsplit(", ", 1))
    return Content(values={"image": png_data(run.context), "drawn": drawn})


def grid(ra: float, dec: float) -> WCS:
    """TAN grid of 3 arcmin around a position (degrees), North up and East left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = ra, dec
    wcs.wcs.crpix = (SIZE + 1) / 2, (SIZE + 1) / 2
    wcs.wcs.cdelt = -SIDE / SIZE / 3600, SIDE / SIZE / 3600
    return wcs


def fields_wanted(ra: float, dec: float, fields: Path) -> list[tuple[int, int, int]]:
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


def write_context(
    path: Path,
    *,
    galaxies: pd.DataFrame,
    fields: Path,
    manifests: Sequence[Path],
    folder: Path,
    release: int,
    cubes: PixelGrid = CUBE,
) -> None:
    """Write the picture of a few galaxies in their surroundings: the first in the order of `by_hash`.

    Parameters
    ----------
    path : Path
        The PNG to write.
    galaxies : DataFrame
        object_id, ra, dec (degrees), z_spec of all galaxies.
    fields : Path
        ``archive/fields.parquet``.
    manifests : sequence of Path
        ``archive/frames/chunk-N.parquet`` of all chunks: frames that are not "ok" there are not read.
    folder : Path
        Root of the frames, in the archive's layout.
    release : int
        Data release.
    cubes : PixelGrid
        Pixels and bands of the cubes, whose outline is drawn, in bands that they have.
    """
    chosen = galaxies.iloc[by_hash(galaxies["object_id"])[:NUMBER]]
    wanted = [fields_wanted(ra, dec, fields) for ra, dec in zip(chosen["ra"], chosen["dec"], strict=True)]
    images = wide_images(chosen, wanted, _states(manifests, wanted), Path(folder), release, cubes.bands)
    with files.whole(path) as part:
        save(wide_pictures([colour_image(image, BLANK, cubes.bands) for image in images], chosen, cubes), part)


def _states(manifests, wanted) -> dict[Frame, str]:
    """States of the frames of some fields, in the manifests that name them."""
    fields = pd.MultiIndex.from_tuples({field for near in wanted for field in near}, names=["run", "camcol", "field"])
    states = {}
    for path in manifests:
        table = pd.read_parquet(path, columns=[*fields.names, "band", "state"])
        for *key, state in table[table.set_index(fields.names).index.isin(fields)].itertuples(index=False):
            states[Frame(*key)] = state
    return states


def wide_images(
    galaxies: pd.DataFrame,
    wanted: Sequence[Sequence[tuple[int, int, int]]],
    states: Mapping[Frame, str],
    folder: Path,
    release: int,
    bands: Sequence[str] = CUBE.bands,
) -> np.ndarray:
    """Coadd the frames around galaxies.

    Parameters
    ----------
    galaxies : DataFrame
        ra, dec (degrees).
    wanted : sequence of list of (run, camcol, field)
        Fields of each galaxy.
    states : mapping of Frame to str
        Only frames that are "ok" are read. A warning is logged for any other, missing or damaged frame, and its part
        stays blank.
    folder, release
        As of :func:`write_context`.
    bands : sequence of str
        Bands of the images.

    Returns
    -------
    ndarray
        (galaxy, y, x, band) float32, nanomaggies, NaN where there is no frame, and in bands that are not drawn.
    """
    drawn = [band for band in bands if band in bands_drawn(bands)]
    images = np.full((len(galaxies), SIZE, SIZE, len(bands)), np.nan, np.float32)
    frames = len({field for near in wanted for field in near}) * len(drawn)
    with progress(total=frames, unit="frame", label="wide images") as bar:
        for band in drawn:
            opened = {}
            for image, ra, dec, near in zip(images, galaxies["ra"], galaxies["dec"], wanted, strict=True):
                for field in near:
                    if field not in opened:
                        frame = Frame(*field, band)
                        opened[field] = _read(frame, states.get(frame), folder / frame.path(release))
                        bar.update()
                image[..., list(bands).index(band)], _ = reproject_and_coadd(
                    [opened[field] for field in near if opened[field] is not None],
                    grid(ra, dec),
                    shape_out=(SIZE, SIZE),
                    reproject_function=reproject_lanczos3,
                    blank_pixel_value=np.nan,
                )
    return images


def _read(frame: Frame, state: str | None, path: Path):
    """Image and WCS of a frame; None, with a warning, where it cannot be read."""
    try:
        if state != OK:
            raise UserError(state or "no cube needs it")
        with OpenFrame(path, frame=frame) as opened:
            tan, off = locate(opened, frame)
            image = opened.read()
    except UserError as error:
        _log.warning("%s is left out of the wide images: %s", frame.name, error)
        return None
    for sentence in header_warnings({frame: off} if off != 0 else {}, 1):
        _log.warning("%s", sentence)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = tan.ra, tan.dec
    wcs.wcs.crpix = tan.x + 1, tan.y + 1
    wcs.wcs.cd = np.reshape(tan.cd, (2, 2))
    return image, wcs


@styled
def wide_pictures(images: Sequence[np.ndarray], galaxies: pd.DataFrame, cubes: PixelGrid = CUBE) -> Figure:
    """Wide colour images side by side, with the cube's outline, a scale bar and the directions.

    Parameters
    ----------
    images : sequence of ndarray (y, x, 3), uint8
        As many as fit in a row: three.
    galaxies : DataFrame
        object_id, z_spec; a row for each image.
    cubes : PixelGrid
        Pixels of the cubes.
    """
    height = PANEL + LABEL
    figure = Figure(figsize=(WIDTH, height))
    outline = [withStroke(linewidth=2, foreground="black")]
    white = {"color": "white", "path_effects": outline}
    pixel = SIDE / SIZE  # arcsec
    side = cubes.size * cubes.pixel_scale / pixel
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
