"""The fields of the survey from a local copy of its list, window_flist.fits.

The list (http://data.sdss3.org/datamodel/files/PHOTO_RESOLVE/window_flist.html) has the great circle of each field and
its bounds along it, without the rows and columns that overlap with neighbours, and no astrometric terms. Terms derived
from the bounds are approximate, so each field gets a margin with which no frame is missed.
"""

import warnings

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from sdss_photoz.archive.query import FIELD_RADIUS
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import CONDITIONS, great_circle
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE, RERUN, object_id

BOUNDED = (FIELD_ROWS, 1920)  # rows and columns of a frame that lie within its bounds
BOUNDS_MARGIN = 40.0  # pixels: terms from bounds are off by up to 24 pixels in the 815 fields of run 3900 camcol 6
MAX_OFFSET = 100.0  # pixels between the centre of the bounds and ra, dec; else node and inclination are wrong
BOUNDS = ["mu_start", "mu_end", "nu_start", "nu_end"]
COLUMNS = ["run", "rerun", "camcol", "field", "ra", "dec", "node", "incl", *BOUNDS]
_PIXEL = SDSS.pixel_scale / 3600  # degrees
_BORDER = [(whole - part) / 2 for whole, part in zip(FRAME_SHAPE, BOUNDED, strict=True)]  # rows, columns out of bounds


def read_flist(path, region=None) -> pd.DataFrame:
    """Read the fields of rerun 301.

    Parameters
    ----------
    path : str or Path
        window_flist.fits, about 0.5 GB.
    region : config.Region, optional
        A box on the sky: fields that overlap it are kept.

    Returns
    -------
    DataFrame
        One row per field: fieldID, run, camcol, field, node, incl, a … f (all bands; degrees, degrees per pixel),
        margin (largest error of the terms, pixels), ra, dec, psfWidth_u … sky_z (NaN: not in the list); ordered by
        ``fieldID``.

    Raises
    ------
    UserError
        If the file is missing or is not such a list, or the numbers of a field are inconsistent.
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
            warnings.simplefilter("error", AstropyWarning)  # astropy only warns of a truncated file
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
    """The values in native byte order."""
    return values.astype(values.dtype.newbyteorder("="))


def _with_terms(table, path):
    """Add terms derived from the bounds; the margin includes the distance of the bounds' centre from ra, dec."""
    mu, nu, *_ = great_circle(table["ra"], table["dec"], table["node"], table["incl"])
    wide = (table["mu_end"] - table["mu_start"]) % 360, table["nu_end"] - table["nu_start"]
    b, f = wide[0] / BOUNDED[0], wide[1] / BOUNDED[1]
    rows = (mu - table["mu_start"] - wide[0] / 2 + 180) % 360 - 180
    off = np.maximum(np.abs(rows), np.abs(nu - table["nu_start"] - wide[1] / 2)) / _PIXEL
    sound = (np.abs(b / _PIXEL - 1) < 0.02) & (np.abs(f / _PIXEL - 1) < 0.02) & (off < MAX_OFFSET)
    sound &= table["run"].between(1, 0xFFFF) & table["camcol"].between(1, 6) & table["field"].between(0, 0xFFF)
    if not sound.all():
        run, camcol, field = (int(table[~sound].iloc[0][name]) for name in ("run", "camcol", "field"))
        raise UserError(
            f"{path} has {(~sound).sum()} fields, {run}-{camcol}-{field} for one, that are not {BOUNDED[0]} x "
            f"{BOUNDED[1]} pixels round their ra and dec: unset archive.window_flist to query the fields instead."
        )
    terms = {"a": table["mu_start"] - _BORDER[0] * b, "b": b, "c": 0.0}
    terms |= {"d": table["nu_start"] - _BORDER[1] * f, "e": 0.0, "f": f, "margin": BOUNDS_MARGIN + off}
    return table[["fieldID", "run", "camcol", "field", "node", "incl"]].assign(
        **terms, ra=table["ra"], dec=table["dec"], **dict.fromkeys(CONDITIONS, np.nan)
    )
