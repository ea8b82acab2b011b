"""Astrometry of frames: a TAN header, checked against the great-circle terms that it was made from.

A header can be wrong: for some frames near right ascension 0 it is 95 to 176 pixels off, while the terms in the frame's
last table (HDU 3) and in the archive's table of fields are right. In sound frames header and terms are at most 0.4
pixels apart. A header is used if it agrees with the terms, else a TAN projection fitted to the terms.

The terms (https://data.sdss.org/datamodel/files/PHOTO_REDUX/RERUN/RUN/astrom/asTrans.html) are mu = a + b row' + c
col' and nu = d + e row' + f col' (degrees) in the great circle of a node and an inclination; row' and col' are row and
col and cubic polynomials of col, the optics' distortion. The centre of 0-based pixel (x, y) is col = x + 0.5,
row = y + 0.5. The terms for an object's colour, up to 0.05 pixels, are ignored.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz.cubes.file_tail import file_tails
from sdss_photoz.cubes.frame import DamagedFrame, OpenFrame, Tan
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.errors import UserError
from sdss_photoz.frames.flaws import BLOCK
from sdss_photoz.frames.footprint import FRAME_MARGIN, NEEDED, band_terms
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import sky_position
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame
from sdss_photoz.surveys.sphere import unit_vectors

TOLERANCE = (
    1.0  # pixels between header and terms: at most 0.40 in 19 sound frames, and the archive rounds by up to 0.45
)
MAX_OFFSET = 2.5  # pixels, 1 arcsec, between the archive's terms and the projection used
MAX_NAMES = 10  # frames named in one message
_MIDDLE = np.array([(FRAME_SHAPE[1] - 1) / 2, (FRAME_SHAPE[0] - 1) / 2])
_CORNERS = np.array([[x, y] for y in (0, FRAME_SHAPE[0] - 1) for x in (0, FRAME_SHAPE[1] - 1)] + [[*_MIDDLE]], float).T


class GreatCircle(NamedTuple):
    """Astrometric terms of one frame.

    Attributes
    ----------
    node, incl : float
        Degrees.
    terms : tuple of six floats
        a … f (degrees, degrees a pixel).
    rows, columns : tuple of four floats
        Coefficients of the optical distortion of row and col: 1, col, col^2, col^3 (pixels). Zero for terms of the
        archive's table of fields, which has none.
    """

    node: float
    incl: float
    terms: tuple[float, ...]
    rows: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    columns: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)

    def sky(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """Return right ascension and declination (degrees) of 0-based pixels."""
        a, b, c, d, e, f = self.terms
        col = np.asarray(x, float) + 0.5
        row = np.asarray(y, float) + 0.5 + np.polyval(self.rows[::-1], col)
        col = col + np.polyval(self.columns[::-1], col)
        return sky_position(a + b * row + c * col, d + e * row + f * col, self.node, self.incl)

    def centre(self) -> tuple[float, float]:
        """Return the position of the frame's centre (ra, dec in degrees)."""
        ra, dec = self.sky(*_MIDDLE)
        return float(ra), float(dec)

    def tan(self) -> Tan:
        """Fit a TAN projection to the terms, by least squares over the frame.

        Residuals are 0.03 pixels of the great circle's curvature, and the non-linear part of the distortion: in 19 real
        frames 0.07 to 0.28 pixels at the worst pixel, in each frame less than those of its header.
        """
        ra, dec = self.centre()
        x, y = np.meshgrid(*(np.linspace(0, 2 * middle, 33) for middle in _MIDDLE))
        to_plane = Projection(Tan(ra, dec, 0.0, 0.0, (1.0, 0.0, 0.0, 1.0))).from_sky
        *plane, depth = to_plane @ unit_vectors(*self.sky(x.ravel(), y.ravel())).T
        plane = np.stack(plane) / depth  # degrees to the East and North
        u, v = x.ravel() - _MIDDLE[0], y.ravel() - _MIDDLE[1]  # u, v and u v sum to 0: the slopes are independent
        cd = np.stack([(plane * u).sum(axis=1) / (u * u).sum(), (plane * v).sum(axis=1) / (v * v).sum()], axis=1)
        shift = np.linalg.solve(cd, plane.mean(axis=1))
        return Tan(ra, dec, *(_MIDDLE - shift).tolist(), tuple(cd.ravel().tolist()))


def locate(opened: OpenFrame, frame: Frame, expected: GreatCircle | None = None) -> tuple[Tan, float]:
    """Determine a frame's projection, and by how much its header is wrong.

    The frame's own terms, at the end of the file, are read only if `expected` does not confirm the header.

    Parameters
    ----------
    opened : OpenFrame
        The frame.
    frame : Frame
        Run, camera column, field and band of the frame.
    expected : GreatCircle, optional
        Its terms by the archive's table of fields.

    Returns
    -------
    wcs : Tan
        The projection to use: the header's, or if that is wrong the one fitted to the terms.
    off : float
        Error of the header (pixels): 0 if it is used, NaN if there are no terms to check it with.

    Raises
    ------
    DamagedFrame
        If the end of the file is damaged.
    UserError
        If the archive's terms contradict the frame's own, so that the list of overlapping frames may lack some.
    """
    header = opened.wcs
    if expected is not None and distance(header, expected) <= TOLERANCE:
        return header, 0.0
    own = read_terms(opened.path, frame)
    if own is None and expected is None:
        return header, np.nan
    terms = expected if own is None else own
    off = distance(header, terms)
    wcs, off = (header, 0.0) if off <= TOLERANCE else (terms.tan(), off)
    if expected is not None and (gap := distance(wcs, expected)) > MAX_OFFSET:
        raise UserError(
            f"{opened.path} lies {gap:.1f} pixels from where the archive's table of fields has it, by its own "
            f"great-circle terms, and {MAX_OFFSET:g} are allowed: galaxies at its edges would miss it, so set "
            "archive.window_flist to the survey's own list of fields and run again."
        )
    return wcs, off


def distance(wcs: Tan, terms: GreatCircle) -> float:
    """Return the largest distance (pixels of 0.396 arcsec) of projection and terms at a frame's corners and centre."""
    vectors = np.linalg.solve(Projection(wcs).from_sky, np.vstack([_CORNERS, np.ones(len(_CORNERS.T))])).T
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chord = np.linalg.norm(vectors - unit_vectors(*terms.sky(*_CORNERS)), axis=1).max()
    return float(np.degrees(2 * np.arcsin(min(chord / 2, 1.0))) * 3600 / SDSS.pixel_scale)


def read_terms(path, frame: Frame) -> GreatCircle | None:
    """Read a frame's own terms from the last table of its file; None if it has no usable ones.

    Raises
    ------
    DamagedFrame
        If the end of the file does not decompress.
    """
    try:
        for tail in file_tails(path):
            starts = range(len(tail) % BLOCK, len(tail), BLOCK)
            table = next((start for start in reversed(starts) if tail.startswith(b"XTENSION", start)), None)
            if table is not None:
                return _terms_of(tail[table:], frame)
    except FileNotFoundError:
        return None
    except (OSError, EOFError) as error:
        raise DamagedFrame(path, f"is damaged: its end does not decompress ({error})") from None
    return None


def _terms_of(table: bytes, frame: Frame) -> GreatCircle | None:
    from astropy.io import fits  # slow to import, and no table is read if the archive confirms all headers

    try:
        row = fits.BinTableHDU.fromstring(table).data[0]
        named = Frame(*(int(row[key]) for key in ("RUN", "CAMCOL", "FIELD")), str(row["FILTER"]).strip())
        values = [float(row[key]) for key in ("NODE", "INCL", *"ABCDEF")]
        distortion = [tuple(float(row[f"D{axis}{power}"]) for power in range(4)) for axis in ("ROW", "COL")]
    except (fits.VerifyError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    a, b, c, d, e, f = values[2:]
    if named != frame or not np.isfinite([*values, *distortion[0], *distortion[1]]).all() or b * f == c * e:
        return None
    return GreatCircle(*values[:2], (a, b, c, d, e, f), *distortion)


def terms_of_fields(fields: pd.DataFrame | None, frames: Iterable[Frame]) -> dict[Frame, GreatCircle]:
    """Return the terms of frames by the archive's table of fields, without those not known to a pixel.

    Parameters
    ----------
    fields : DataFrame, optional
        As :func:`sdss_photoz.frames.footprint.overlapping_frames` takes it; without columns of terms
        the result is empty.
    frames : iterable of Frame
    """
    if fields is None or not set(NEEDED) <= set(fields):
        return {}
    places = {key: k for k, key in enumerate(fields[["run", "camcol", "field"]].itertuples(index=False, name=None))}
    circles = fields[["node", "incl"]].to_numpy(float)
    frames = list(frames)
    terms = {band: band_terms(fields, band) for band in {frame.band for frame in frames}}
    found = {}
    for frame in frames:
        k, (values, margin) = places.get(frame[:3]), terms[frame.band]
        if k is not None and margin[k] <= FRAME_MARGIN:
            found[frame] = GreatCircle(*circles[k].tolist(), tuple(values[:, k].tolist()))
    return found


def header_warnings(off: Mapping[Frame, float], frames: int) -> list[str]:
    """Return messages that name the frames whose header is wrong or could not be checked.

    Parameters
    ----------
    off : mapping of Frame to float
        The second result of `locate`, for frames for which it is not 0.
    frames : int
        Number of frames that were opened.
    """
    wrong = {frame: pixels for frame, pixels in sorted(off.items()) if not np.isnan(pixels)}
    unchecked = [frame.name for frame, pixels in sorted(off.items()) if np.isnan(pixels)]
    messages = []
    if wrong:
        names = list_names([f"{frame.name} ({pixels:.1f})" for frame, pixels in wrong.items()])
        messages.append(
            f"{len(wrong)} of {frames} frames lie by their great-circle terms, for their headers are more than "
            f"{TOLERANCE:g} pixel off: {names}."
        )
    if unchecked:
        messages.append(
            f"{len(unchecked)} of {frames} frames lie by their headers unchecked, for they have no great-circle terms "
            f"(HDU 3) of their own: {list_names(unchecked)}."
        )
    return messages


def list_names(names: list[str]) -> str:
    """Join the first `MAX_NAMES` names, and count the others."""
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
