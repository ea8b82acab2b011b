"""Which frames overlap which galaxy, computed from each field's great circle and astrometric terms.

A field is a rectangle in the coordinates (mu, nu) of its run's great circle, given by node and inclination. A galaxy's
grid is transformed to the field's pixels; the frame overlaps if one pixel of the grid has all its 36 Lanczos-3 taps
inside the frame: 2 <= floor(x) <= NX - 4, and so in y (0-based).
"""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from sdss_photoz.errors import UserError
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid
from sdss_photoz.surveys.great_circle import TERMS, field_centres, great_circle
from sdss_photoz.surveys.sdss import FRAME_SHAPE
from sdss_photoz.surveys.sphere import unit_vectors

# Pixels. TAN headers of 19 real frames differ from their great-circle terms by up to 0.11; the archive stores the terms
# in single precision (0.14 at mu = 360 degrees), and its services print seven digits (0.45).
FRAME_MARGIN = 0.75
BAND_MARGIN = 20.0  # pixels: other bands are up to 13 pixels from r in the 815 fields of run 3900 camcol 6
NEEDED = ("run", "camcol", "field", "node", "incl", *TERMS)
BATCH_GALAXIES = 20_000  # with their fields some 200 MB


def grid_on_frame(ra, dec, node, incl, terms, pixel_scale=SDSS.pixel_scale):
    """Where a galaxy's grid lies on a frame.

    Parameters
    ----------
    ra, dec, node, incl : array of float, shape (n,)
        Degrees.
    terms : sequence of six arrays (n,)
        a … f (degrees, degrees per pixel): mu = a + b row + c col, nu = d + e row + f col.
    pixel_scale : float
        Side of a pixel of the grid (arcsec).

    Returns
    -------
    array of float, shape (n, 3, 2)
        0-based pixel (x, y) of the galaxy, and the steps (x, y) of one grid pixel to the East and to the North.
        x = col - 0.5, y = row - 0.5; the grid is affine to 1e-4 pixels.
    """
    return _on_frame(*great_circle(ra, dec, node, incl), terms, pixel_scale)


def _on_frame(mu, nu, cos_theta, sin_theta, terms, pixel_scale):
    """Same as `grid_on_frame`, from great-circle coordinates."""
    a, b, c, d, e, f = (np.asarray(term, float) for term in terms)
    stretch, step = 1 / np.cos(np.radians(nu)), pixel_scale / 3600
    d_mu = np.stack([(mu - a + 180) % 360 - 180, step * stretch * cos_theta, step * stretch * sin_theta], axis=-1)
    d_nu = np.stack([nu - d, -step * sin_theta, step * cos_theta], axis=-1)
    b, c, e, f = (term[..., None] for term in (b, c, e, f))
    determinant = b * f - c * e
    col, row = (b * d_nu - e * d_mu) / determinant, (f * d_mu - c * d_nu) / determinant
    pixels = np.stack([col, row], axis=-1)
    pixels[..., 0, :] -= 0.5
    return pixels


def covers(pixels, margin=0.0, shape=FRAME_SHAPE, size=CUBE.size):
    """Whether a frame covers at least one pixel of each grid.

    Parameters
    ----------
    pixels : array of float, shape (n, 3, 2)
        As `grid_on_frame` returns them.
    margin : float or array of float, shape (n,)
        Pixels by which the frame is extended on every side.
    shape : tuple of int
        Rows and columns of the frame.
    size : int
        Pixels of a grid's side.

    Returns
    -------
    array of bool, shape (n,)
    """
    half = (size - 1) / 2
    margin = np.broadcast_to(margin, len(pixels))[:, None]
    low = 2.0 - margin
    high = np.array([shape[1] - 3.0, shape[0] - 3.0]) + margin
    centre, steps = pixels[:, 0], pixels[:, 1:]
    reach = half * np.abs(steps).sum(axis=1)
    inside = np.all(
        (centre >= low + 1.5) & (centre < high - 1.5), axis=1
    )  # the pixels next to the galaxy, at most 1.1 frame pixels away, are covered
    near = ~inside & np.all((centre + reach >= low) & (centre - reach < high), axis=1)
    result = inside
    lines = np.arange(-half, half + 1)
    for part in np.array_split(np.flatnonzero(near), max(1, int(near.sum()) // 20_000)):
        start = centre[part, None] + lines[None, :, None] * steps[part, None, 0]  # (part, line, xy)
        step = steps[part, None, 1]
        step = np.where(step == 0, 1e-300, step)
        ends = np.stack([(low[part, None] - start) / step, (high[part, None] - start) / step])
        first = np.ceil(np.maximum(ends.min(axis=0).max(axis=-1), -half) + half)
        last = np.floor(np.minimum(ends.max(axis=0).min(axis=-1), half) + half)
        result[part] = np.any(first <= last, axis=1)
    return result


def band_terms(fields, band):
    """Terms of one band for every field, and their largest error.

    Parameters
    ----------
    fields : DataFrame
        a … f (r band), and optionally those of the band, a_{b} … f_{b}, used where they are known.
    band : str
        One of ugriz.

    Returns
    -------
    terms : array of float, shape (6, n)
        As `grid_on_frame` takes them.
    margin : array of float, shape (n,)
        Pixels.
    """
    terms = np.stack([fields[term].to_numpy(float) for term in TERMS])
    if "margin" in fields:
        return terms, fields["margin"].to_numpy(float)
    margin = np.full(len(fields), FRAME_MARGIN)
    if band != "r":
        margin[:] = BAND_MARGIN
        if all(f"{term}_{band}" in fields for term in TERMS):
            own = np.stack([fields[f"{term}_{band}"].to_numpy(float) for term in TERMS])
            known = (np.isfinite(own) & (own > -9000)).all(axis=0)  # -9999 is the archive's missing value
            terms, margin = np.where(known, own, terms), np.where(known, FRAME_MARGIN, margin)
    return terms, margin


def _check(fields):
    missing = [column for column in NEEDED if column not in fields]
    if missing:
        raise UserError(f"the table of fields lacks the column {missing[0]}: it needs {', '.join(NEEDED)}.")
    bad = ~np.isfinite(fields[["node", "incl", *TERMS]].to_numpy(float)).all(axis=1)
    if bad.any():
        run, camcol, field = fields.loc[bad, ["run", "camcol", "field"]].iloc[0]
        raise UserError(f"field {run}-{camcol}-{field} has no astrometric terms: query the fields again.")


def _bounding_circles(fields, grid):
    """Unit vectors (n, 3) of the fields' centres, and the chord within which a grid may overlap a field."""
    row, col = FRAME_SHAPE[0] / 2, FRAME_SHAPE[1] / 2
    centres = field_centres(fields)
    margin = fields["margin"].max() if "margin" in fields else BAND_MARGIN
    reach = (np.hypot(row, col) + np.sqrt(2) * margin + 10) * SDSS.pixel_scale + grid.half_diagonal  # arcsec
    radius = np.radians(reach / 3600)
    return centres, 2 * np.sin(radius / 2)


def fields_near(path, ra, dec, columns=(), grid: PixelGrid = CUBE) -> pd.DataFrame:
    """Read the fields that may overlap the galaxies from the whole survey's table, in batches.

    Parameters
    ----------
    path : str or Path
        The parquet table of fields.
    ra, dec : array of float, shape (n,)
        Positions of the galaxies (degrees).
    columns : sequence of str
        Further columns to read, such as `CONDITIONS`, if the table has them.
    grid : PixelGrid
        Pixels of the cubes.

    Returns
    -------
    DataFrame
        The fields and columns that `overlapping_frames` needs for these galaxies, and `columns`.

    Raises
    ------
    UserError
        If a column is missing, or a value of a field that is read.
    """
    galaxies = cKDTree(unit_vectors(ra, dec))
    wanted = {*NEEDED, *(f"{term}_{band}" for term in TERMS for band in grid.bands), "margin", *columns}
    with pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name in wanted]
        parts = [file.schema_arrow.empty_table().select(columns).to_pandas()]
        for batch in file.iter_batches(columns=columns):
            fields = batch.to_pandas()
            _check(fields)
            centres, chord = _bounding_circles(fields, grid)
            near = np.isfinite(galaxies.query(centres, distance_upper_bound=chord)[0])
            parts.append(fields[near])
    _check(parts[0])
    return pd.concat(parts, ignore_index=True)


def overlapping_frames(ra, dec, fields, grid: PixelGrid = CUBE) -> pd.DataFrame:
    """All frames that contribute a pixel to each galaxy's cube, in the bands of the cubes.

    No such frame is missed. A frame without a pixel is listed only if the grid misses it by less than `FRAME_MARGIN`
    (r band, and bands with their own terms in `fields`), `BAND_MARGIN` (other bands), or the field's own margin.

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        Positions of the galaxies (degrees).
    fields : DataFrame
        run, camcol, field, node, incl, a … f (r band), and optionally a_u … f_z (degrees), or the margin (pixels),
        the largest error of a … f in any band.
    grid : PixelGrid
        Pixels and bands of the cubes.

    Returns
    -------
    DataFrame
        galaxy (index into `ra`), run, camcol, field, band; ordered by galaxy, band (ugriz), run, camcol, field.

    Raises
    ------
    UserError
        If `fields` lacks a column or a value.
    """
    _check(fields)
    fields = fields.sort_values(["run", "camcol", "field"], ignore_index=True)
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    circle = ra, dec, fields["node"].to_numpy(float), fields["incl"].to_numpy(float)
    terms = {band: band_terms(fields, band) for band in grid.bands}
    centres, chord = _bounding_circles(fields, grid)
    tree = cKDTree(centres)
    parts = []
    for start in range(0, len(ra), BATCH_GALAXIES):
        some = slice(start, start + BATCH_GALAXIES)
        near = cKDTree(unit_vectors(ra[some], dec[some])).sparse_distance_matrix(tree, chord, output_type="ndarray")
        parts.append(_overlaps(near["i"] + start, near["j"], circle, terms, grid))
    galaxy, band, field = np.concatenate(parts, axis=1) if parts else np.empty((3, 0), np.int32)
    del parts
    table = pd.DataFrame({"galaxy": galaxy.astype(np.int64)})
    for name in ("run", "camcol", "field"):
        table[name] = fields[name].to_numpy()[field]
    table["band"] = np.array(grid.bands, dtype=object)[band]
    return table


def _overlaps(galaxy, field, circle, terms, grid):
    """Overlapping pairs (galaxy, field), as int32 rows galaxy, band, field (3, n), sorted in that order."""
    ra, dec, node, incl = circle
    place = great_circle(ra[galaxy], dec[galaxy], node[field], incl[field])
    found = []
    for order, (values, margin) in enumerate(terms.values()):
        pixels = _on_frame(*place, values[:, field], grid.pixel_scale)
        kept = covers(pixels, margin[field], size=grid.size)
        found.append(np.stack([galaxy[kept], np.full(kept.sum(), order), field[kept]]).astype(np.int32))
    found = np.concatenate(found, axis=1)
    return found[:, np.lexsort(found[::-1])]
