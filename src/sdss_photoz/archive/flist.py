"""The fields of the survey from its own list, window_flist.fits, where the user has it.

The list (http://data.sdss3.org/datamodel/files/PHOTO_RESOLVE/window_flist.html) has each field's great circle and its
bounds along it, without the rows and columns that neighbours have too, and no astrometric terms. The terms made from
the bounds are therefore approximate, and each field gets the margin that no frame is missed.
"""

import warnings

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from sdss_photoz.archive.question import FIELD_RADIUS
from sdss_photoz.errors import UserError
from sdss_photoz.sample.footprint import CONDITIONS, great_circle
from sdss_photoz.survey import FIELD_ROWS, FRAME_SHAPE, PIXEL_SCALE, RERUN, object_id

BOUNDED = (FIELD_ROWS, 1920)  # rows and columns of a frame that lie within its bounds
BOUNDS_MARGIN = 40.0  # pixels: terms from bounds are off by up to 24 pixels in the 815 fields of run 3900 camcol 6
FARTHEST = 100.0  # pixels from the centre of the bounds to ra, dec: beyond it, node and inclination are others'
BOUNDS = ["mu_start", "mu_end", "nu_start", "nu_end"]
COLUMNS = ["run", "rerun", "camcol", "field", "ra", "dec", "node", "incl", *BOUNDS]
_PIXEL = PIXEL_SCALE / 3600  # degrees
_EARLIER = [(whole - part) / 2 for whole, part in zip(FRAME_SHAPE, BOUNDED, strict=True)]  # rows, columns out of bounds


def read_flist(path, region=None) -> pd.DataFrame:
    """Read the fields of rerun 301.

    Parameters
    ----------
    path : str or Path
        window_flist.fits, about 0.5 GB.
    region : config.Region, optional
        A box on the sky: fields that reach into it are kept.

    Returns
    -------
    DataFrame
        One row a field: fieldID, run, camcol, field, node, incl, a … f (all bands; degrees and degrees a pixel), margin
        (pixels by which the terms may be wrong), ra, dec, psfWidth_u … sky_z (NaN: the list has no seeing and no sky);
        ordered by ``fieldID``.

    Raises
    ------
    UserError
        Where the file is missing or is not such a list, or a field's numbers cannot be right.
    """
    table = _read(path)
    if region is not None:
        table = table[region.contains(table["ra"], table["dec"], FIELD_RADIUS)]
    if table.empty:
        place = "" if region is None else " in the region: check archive.region"
        raise UserError(f"archive.window_flist, {path}, has no field of rerun {RERUN}{place}.")
    table = table.assign(fieldID=object_id(table["run"], table["camcol"], table["field"], 0))
    return _with_terms(table, path).sort_values("fieldID", ignore_index=True)


def _read(path):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyWarning)  # a shortened file is a warning
            with fits.open(path) as file:
                lacking = [name for name in COLUMNS if name not in map(str.lower, file[1].columns.names)]
                if lacking:
                    raise UserError(
                        f"{path} lacks the column {lacking[0]}: archive.window_flist must name the survey's "
                        "window_flist.fits."
                    )
                ours = np.flatnonzero(np.char.strip(np.asarray(file[1].data["rerun"], str)) == str(RERUN))
                kept = {name: _native(file[1].data[name][ours]) for name in COLUMNS if name != "rerun"}
    except OSError as error:
        reason = error.strerror or "it is no FITS file"
        raise UserError(f"archive.window_flist, {path}, cannot be read: {reason}.") from None
    except (AstropyWarning, IndexError, AttributeError, TypeError, ValueError):
        raise UserError(
            f"archive.window_flist, {path}, is no whole FITS file with a table: fetch the survey's window_flist.fits "
            "again."
        ) from None
    return pd.DataFrame(kept)


def _native(values):
    """The same numbers in the machine's own byte order."""
    return values.astype(values.dtype.newbyteorder("="))


def _with_terms(table, path):
    """Terms from the bounds; the margin grows by what the bounds' centre and ra, dec differ."""
    mu, nu, *_ = great_circle(table["ra"], table["dec"], table["node"], table["incl"])
    wide = (table["mu_end"] - table["mu_start"]) % 360, table["nu_end"] - table["nu_start"]
    b, f = wide[0] / BOUNDED[0], wide[1] / BOUNDED[1]
    rows = (mu - table["mu_start"] - wide[0] / 2 + 180) % 360 - 180
    off = np.maximum(np.abs(rows), np.abs(nu - table["nu_start"] - wide[1] / 2)) / _PIXEL
    sound = (np.abs(b / _PIXEL - 1) < 0.02) & (np.abs(f / _PIXEL - 1) < 0.02) & (off < FARTHEST)
    sound &= table["run"].between(1, 0xFFFF) & table["camcol"].between(1, 6) & table["field"].between(0, 0xFFF)
    if not sound.all():
        run, camcol, field = (int(table[~sound].iloc[0][name]) for name in ("run", "camcol", "field"))
        raise UserError(
            f"{path} has {(~sound).sum()} fields, {run}-{camcol}-{field} for one, that are not {BOUNDED[0]} x "
            f"{BOUNDED[1]} pixels round their ra and dec: unset archive.window_flist to query the fields instead."
        )
    terms = {"a": table["mu_start"] - _EARLIER[0] * b, "b": b, "c": 0.0}
    terms |= {"d": table["nu_start"] - _EARLIER[1] * f, "e": 0.0, "f": f, "margin": BOUNDS_MARGIN + off}
    return table[["fieldID", "run", "camcol", "field", "node", "incl"]].assign(
        **terms, ra=table["ra"], dec=table["dec"], **dict.fromkeys(CONDITIONS, np.nan)
    )
