"""Which frames overlap which galaxy: exactly, from each field's great circle and astrometric terms.

A field is a rectangle in the coordinates (mu, nu) of its run's great circle, given by node and inclination. A galaxy's
64 x 64 grid is carried to the field's pixels, and the frame counts where one pixel of the grid has all its 36
Lanczos-3 taps inside the frame: 2 <= floor(x) <= NX - 4, and so in y (0-based).
"""

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from sdss_photoz.errors import UserError
from sdss_photoz.sample.linking import unit_vectors
from sdss_photoz.survey import BANDS, CUBE_SIZE, FRAME_SHAPE, PIXEL_SCALE

TERMS = ("a", "b", "c", "d", "e", "f")
FRAME_MARGIN = 0.2  # pixels: the TAN headers of 19 real frames differ from their great-circle terms by up to 0.11
FIELD_MARGIN = 0.35  # pixels: table Field holds the terms in single precision, 0.14 pixels at mu = 360 degrees
BAND_MARGIN = 20.0  # pixels: bands lie up to 13 pixels from r in the 815 fields of run 3900 camcol 6; a margin for all
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
    a, b, c, d, e, f = (np.asarray(term, float) for term in terms)
    mu, nu, cos_theta, sin_theta = great_circle(ra, dec, node, incl)
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
    margin : float
        Pixels by which the frame is taken to be larger on every side.
    shape : tuple of int
        Rows and columns of the frame.

    Returns
    -------
    array of bool, shape (n,)
    """
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
        ends = np.stack([(low - start) / step, (high - start) / step])
        first = np.ceil(np.maximum(ends.min(axis=0).max(axis=-1), -_EDGE) + _EDGE)
        last = np.floor(np.minimum(ends.max(axis=0).min(axis=-1), _EDGE) + _EDGE)
        result[part] = np.any(first <= last, axis=1)
    return result


def _band_terms(fields, band):
    """Terms of one band for every field, and the margin (pixels) that they need."""
    terms = np.stack([fields[term].to_numpy(float) for term in TERMS])
    margin = np.full(len(fields), FRAME_MARGIN)
    if band != "r":
        margin[:] = BAND_MARGIN
        if all(f"{term}_{band}" in fields for term in TERMS):
            own = np.stack([fields[f"{term}_{band}"].to_numpy(float) for term in TERMS])
            known = (np.isfinite(own) & (own > -9000)).all(axis=0)  # the archive's -9999 is no term
            terms, margin = np.where(known, own, terms), np.where(known, FIELD_MARGIN, margin)
    return terms, margin


def _check(fields):
    needed = ["run", "camcol", "field", "node", "incl", *TERMS]
    missing = [column for column in needed if column not in fields]
    if missing:
        raise UserError(f"the table of fields lacks the column {missing[0]}: it needs {', '.join(needed)}.")
    bad = ~np.isfinite(fields[["node", "incl", *TERMS]].to_numpy(float)).all(axis=1)
    if bad.any():
        run, camcol, field = fields.loc[bad, ["run", "camcol", "field"]].iloc[0]
        raise UserError(f"field {run}-{camcol}-{field} has no astrometric terms: query the fields again.")


def overlapping_frames(ra, dec, fields) -> pd.DataFrame:
    """All frames that add a pixel to each galaxy's cube.

    No frame is missed. A frame that adds no pixel is listed only where the grid misses it by less than `FRAME_MARGIN`
    (r band), `FIELD_MARGIN` (bands with own terms in `fields`) or `BAND_MARGIN` pixels (bands without).

    Parameters
    ----------
    ra, dec : array of float, shape (n,)
        Positions of the galaxies (degrees).
    fields : DataFrame
        run, camcol, field, node, incl, a … f (r band), and optionally a_u … f_z (degrees).

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
    fields = fields.reset_index(drop=True)
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    node, incl = fields["node"].to_numpy(float), fields["incl"].to_numpy(float)
    a, b, c, d, e, f = (fields[term].to_numpy(float) for term in TERMS)
    row, col = FRAME_SHAPE[0] / 2, FRAME_SHAPE[1] / 2
    centres = unit_vectors(*sky_position(a + b * row + c * col, d + e * row + f * col, node, incl))
    radius = np.radians((np.hypot(row, col) + np.sqrt(2) * _EDGE + BAND_MARGIN + 10) * PIXEL_SCALE / 3600)
    near = cKDTree(unit_vectors(ra, dec)).sparse_distance_matrix(
        cKDTree(centres), 2 * np.sin(radius / 2), output_type="ndarray"
    )
    galaxy, field = near["i"], near["j"]
    found = []
    for order, band in enumerate(BANDS):
        terms, margin = _band_terms(fields, band)
        pixels = grid_on_frame(ra[galaxy], dec[galaxy], node[field], incl[field], terms[:, field])
        for value in np.unique(margin):
            kept = covers(pixels, value) & (margin[field] == value)
            found.append((galaxy[kept], field[kept], np.full(kept.sum(), order)))
    galaxy, field, band = (np.concatenate(part) for part in zip(*found, strict=True))
    table = fields.loc[field, ["run", "camcol", "field"]].reset_index(drop=True)
    table.insert(0, "galaxy", galaxy)
    table["band"] = band
    table = table.sort_values(["galaxy", "band", "run", "camcol", "field"], ignore_index=True)
    table["band"] = np.array(list(BANDS), dtype=object)[table["band"]]
    return table
