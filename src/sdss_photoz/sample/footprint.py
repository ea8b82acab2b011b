"""Which frames overlap which galaxy: exactly, from each field's great circle and astrometric terms.

A field is a rectangle in the coordinates (mu, nu) of its run's great circle, given by node and inclination. A galaxy's
64 x 64 grid is carried to the field's pixels, and the frame counts where one pixel of the grid has all its 36
Lanczos-3 taps inside the frame: 2 <= floor(x) <= NX - 4, and so in y (0-based).
"""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from sdss_photoz.errors import UserError
from sdss_photoz.sample.linking import unit_vectors
from sdss_photoz.survey import BANDS, CUBE_SIZE, FRAME_SHAPE, PIXEL_SCALE

TERMS = ("a", "b", "c", "d", "e", "f")
# Pixels: TAN headers of 19 real frames differ from their great-circle terms by up to 0.11; the archive has the terms in
# single precision, 0.14 pixels at mu = 360 degrees, and its services print those with seven digits, 0.45 pixels.
FRAME_MARGIN = 0.75
BAND_MARGIN = 20.0  # pixels: bands lie up to 13 pixels from r in the 815 fields of run 3900 camcol 6; a margin for all
NEEDED = ("run", "camcol", "field", "node", "incl", *TERMS)
CONDITIONS = [f"{name}_{band}" for name in ("psfWidth", "sky") for band in BANDS]  # arcsec, nanomaggies / arcsec^2
GALAXIES_AT_ONCE = 20_000  # they and their fields take some 200 MB
_EDGE = (CUBE_SIZE - 1) / 2  # pixels from the galaxy to the outermost pixel centres of its grid


def great_circle(ra, dec, node, incl):
    """Position in great-circle coordinates, and the rotation of the local axes.

    Parameters
    ----------
    ra, dec, node, incl : array of float
        Degrees; they broadcast. Node and inclination must be the field's exact ones.

    Returns
    -------
    mu, nu : array of float
        Degrees: mu = node + atan2(sin x cos dec cos i + sin dec sin i, cos x cos dec),
        nu = asin(-sin x cos dec sin i + sin dec cos i), x = ra - node.
    cos_theta, sin_theta : array of float
        East is (cos, -sin) and North (sin, cos) along increasing (mu, nu).
    """
    x, dec, i = np.radians(np.asarray(ra) - node), np.radians(dec), np.radians(incl)
    along = np.sin(x) * np.cos(dec) * np.cos(i) + np.sin(dec) * np.sin(i)
    m = np.arctan2(along, np.cos(x) * np.cos(dec))
    nu = np.arcsin(np.clip(-np.sin(x) * np.cos(dec) * np.sin(i) + np.sin(dec) * np.cos(i), -1, 1))
    cos_theta = np.sin(m) * np.sin(x) + np.cos(m) * np.cos(x) * np.cos(i)
    sin_theta = np.sin(m) * np.sin(dec) * np.cos(x) + np.cos(m) * (
        np.cos(dec) * np.sin(i) - np.sin(dec) * np.sin(x) * np.cos(i)
    )
    return node + np.degrees(m), np.degrees(nu), cos_theta, sin_theta


def sky_position(mu, nu, node, incl):
    """Right ascension and declination (degrees) of great-circle coordinates: the inverse of `great_circle`."""
    m, nu, i = np.radians(np.asarray(mu) - node), np.radians(nu), np.radians(incl)
    y = np.sin(m) * np.cos(nu) * np.cos(i) - np.sin(nu) * np.sin(i)
    z = np.sin(m) * np.cos(nu) * np.sin(i) + np.sin(nu) * np.cos(i)
    return (node + np.degrees(np.arctan2(y, np.cos(m) * np.cos(nu)))) % 360, np.degrees(np.arcsin(np.clip(z, -1, 1)))


def grid_on_frame(ra, dec, node, incl, terms):
    """Where a galaxy's grid lies on a frame.

    Parameters
    ----------
    ra, dec, node, incl : array of float, shape (n,)
        Degrees.
    terms : sequence of six arrays (n,)
        a … f (degrees, degrees a pixel): mu = a + b row + c col, nu = d + e row + f col.

    Returns
    -------
    array of float, shape (n, 3, 2)
        0-based pixel (x, y) of the galaxy, and the steps (x, y) of one grid pixel to the East and to the North.
        x = col - 0.5, y = row - 0.5; the grid is affine to 1e-4 pixels.
    """
    return _on_frame(*great_circle(ra, dec, node, incl), terms)


def _on_frame(mu, nu, cos_theta, sin_theta, terms):
    """As `grid_on_frame`, from great-circle coordinates."""
    a, b, c, d, e, f = (np.asarray(term, float) for term in terms)
    stretch, step = 1 / np.cos(np.radians(nu)), PIXEL_SCALE / 3600
    d_mu = np.stack([(mu - a + 180) % 360 - 180, step * stretch * cos_theta, step * stretch * sin_theta], axis=-1)
    d_nu = np.stack([nu - d, -step * sin_theta, step * cos_theta], axis=-1)
    b, c, e, f = (term[..., None] for term in (b, c, e, f))
    determinant = b * f - c * e
    col, row = (b * d_nu - e * d_mu) / determinant, (f * d_mu - c * d_nu) / determinant
    pixels = np.stack([col, row], axis=-1)
    pixels[..., 0, :] -= 0.5
    return pixels


def covers(pixels, margin=0.0, shape=FRAME_SHAPE):
    """Whether a frame covers at least one pixel of each grid.

    Parameters
    ----------
    pixels : array of float, shape (n, 3, 2)
        As `grid_on_frame` returns them.
    margin : float or array of float, shape (n,)
        Pixels by which the frame is taken to be larger on every side.
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    array of bool, shape (n,)
    """
    margin = np.broadcast_to(margin, len(pixels))[:, None]
    low = 2.0 - margin
    high = np.array([shape[1] - 3.0, shape[0] - 3.0]) + margin
    centre, steps = pixels[:, 0], pixels[:, 1:]
    reach = _EDGE * np.abs(steps).sum(axis=1)
    inside = np.all((centre >= low + 1.5) & (centre < high - 1.5), axis=1)  # the four pixels round the galaxy are in
    near = ~inside & np.all((centre + reach >= low) & (centre - reach < high), axis=1)
    result = inside
    lines = np.arange(-_EDGE, _EDGE + 1)
    for part in np.array_split(np.flatnonzero(near), max(1, int(near.sum()) // 20_000)):
        start = centre[part, None] + lines[None, :, None] * steps[part, None, 0]  # (part, line, xy)
        step = steps[part, None, 1]
        step = np.where(step == 0, 1e-300, step)
        ends = np.stack([(low[part, None] - start) / step, (high[part, None] - start) / step])
        first = np.ceil(np.maximum(ends.min(axis=0).max(axis=-1), -_EDGE) + _EDGE)
        last = np.floor(np.minimum(ends.max(axis=0).min(axis=-1), _EDGE) + _EDGE)
        result[part] = np.any(first <= last, axis=1)
    return result


def band_terms(fields, band):
    """Terms of one band for every field, and the margin (pixels) that they need.

    Parameters
    ----------
    fields : DataFrame
        a … f (r band), and optionally those of the band, a_{b} … f_{b}, which are taken where they are known.
    band : str
        One of ugriz.

    Returns
    -------
    terms : array of float, shape (6, n)
        As `grid_on_frame` takes them.
    margin : array of float, shape (n,)
    """
    terms = np.stack([fields[term].to_numpy(float) for term in TERMS])
    if "margin" in fields:
        return terms, fields["margin"].to_numpy(float)
    margin = np.full(len(fields), FRAME_MARGIN)
    if band != "r":
        margin[:] = BAND_MARGIN
        if all(f"{term}_{band}" in fields for term in TERMS):
            own = np.stack([fields[f"{term}_{band}"].to_numpy(float) for term in TERMS])
            known = (np.isfinite(own) & (own > -9000)).all(axis=0)  # the archive's -9999 is no term
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


def _centres(fields):
    """Unit vectors (n, 3) of the fields' centres, by their terms."""
    a, b, c, d, e, f, node, incl = (fields[name].to_numpy(float) for name in (*TERMS, "node", "incl"))
    row, col = FRAME_SHAPE[0] / 2, FRAME_SHAPE[1] / 2
    return unit_vectors(*sky_position(a + b * row + c * col, d + e * row + f * col, node, incl))


def centre_error(fields) -> np.ndarray:
    """How far each field's centre lies from its ra and dec, by its node, inclination and terms.

    It is up to 0.46 arcsec in the 815 fields of run 3900 camcol 6, and at least 1.7 arcsec where their node is rounded
    to a degree.

    Parameters
    ----------
    fields : DataFrame
        node, incl, a … f (r band), ra, dec (degrees).

    Returns
    -------
    ndarray
        (n,) arcsec, NaN where a value is missing.
    """
    chord = np.linalg.norm(_centres(fields) - unit_vectors(fields["ra"], fields["dec"]), axis=-1)
    return np.degrees(2 * np.arcsin(chord / 2)) * 3600


def _circles(fields):
    """Unit vectors (n, 3) of the fields' centres, and the chord within which a grid may touch any of them."""
    row, col = FRAME_SHAPE[0] / 2, FRAME_SHAPE[1] / 2
    centres = _centres(fields)
    margin = fields["margin"].max() if "margin" in fields else BAND_MARGIN
    radius = np.radians((np.hypot(row, col) + np.sqrt(2) * (_EDGE + margin) + 10) * PIXEL_SCALE / 3600)
    return centres, 2 * np.sin(radius / 2)


def fields_near(path, ra, dec, columns=()) -> pd.DataFrame:
    """Read the fields that may overlap the galaxies from the whole survey's table, in little memory.

    Parameters
    ----------
    path : str or Path
        The parquet table of fields.
    ra, dec : array of float, shape (n,)
        Positions of the galaxies (degrees).
    columns : sequence of str
        More columns to hand on, such as `CONDITIONS`, where the table has them.

    Returns
    -------
    DataFrame
        All that `overlapping_frames` needs for these galaxies, and `columns`.

    Raises
    ------
    UserError
        Where the table lacks a column, or one of the read fields a value.
    """
    galaxies = cKDTree(unit_vectors(ra, dec))
    wanted = {*NEEDED, *(f"{term}_{band}" for term in TERMS for band in BANDS), "margin", *columns}
    with pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name in wanted]
        parts = [file.schema_arrow.empty_table().select(columns).to_pandas()]
        for batch in file.iter_batches(columns=columns):
            fields = batch.to_pandas()
            _check(fields)
            centres, chord = _circles(fields)
            near = np.isfinite(galaxies.query(centres, distance_upper_bound=chord)[0])
            parts.append(fields[near])
    _check(parts[0])
    return pd.concat(parts, ignore_index=True)


def overlapping_frames(ra, dec, fields) -> pd.DataFrame:
    """All frames that add a pixel to each galaxy's cube.

    No frame is missed. A frame that adds no pixel is listed only where the grid misses it by less than `FRAME_MARGIN`
    (r band, and bands with own terms in `fields`) or `BAND_MARGIN` pixels (bands without), or by less than the field's
    own margin.

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        Positions of the galaxies (degrees).
    fields : DataFrame
        run, camcol, field, node, incl, a … f (r band), and optionally a_u … f_z (degrees), or the margin (pixels) that
        a … f need in any band.

    Returns
    -------
    DataFrame
        galaxy (index into `ra`), run, camcol, field, band; ordered by galaxy, band (ugriz), run, camcol, field.

    Raises
    ------
    UserError
        Where `fields` lacks a column or a value.
    """
    _check(fields)
    fields = fields.sort_values(["run", "camcol", "field"], ignore_index=True)
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    circle = ra, dec, fields["node"].to_numpy(float), fields["incl"].to_numpy(float)
    terms = {band: band_terms(fields, band) for band in BANDS}
    centres, chord = _circles(fields)
    tree = cKDTree(centres)
    parts = []
    for start in range(0, len(ra), GALAXIES_AT_ONCE):
        some = slice(start, start + GALAXIES_AT_ONCE)
        near = cKDTree(unit_vectors(ra[some], dec[some])).sparse_distance_matrix(tree, chord, output_type="ndarray")
        parts.append(_overlaps(near["i"] + start, near["j"], circle, terms))
    galaxy, band, field = np.concatenate(parts, axis=1) if parts else np.empty((3, 0), np.int32)
    del parts
    table = pd.DataFrame({"galaxy": galaxy.astype(np.int64)})
    for name in ("run", "camcol", "field"):
        table[name] = fields[name].to_numpy()[field]
    table["band"] = np.array(list(BANDS), dtype=object)[band]
    return table


def _overlaps(galaxy, field, circle, terms):
    """Those of pairs (galaxy, field) that overlap, as int32 rows galaxy, band, field, in that order."""
    ra, dec, node, incl = circle
    place = great_circle(ra[galaxy], dec[galaxy], node[field], incl[field])
    found = []
    for order, (values, margin) in enumerate(terms.values()):
        kept = covers(_on_frame(*place, values[:, field]), margin[field])
        found.append(np.stack([galaxy[kept], np.full(kept.sum(), order), field[kept]]).astype(np.int32))
    found = np.concatenate(found, axis=1)
    return found[:, np.lexsort(found[::-1])]
