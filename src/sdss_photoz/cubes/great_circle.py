"""Where a frame lies: its TAN header, checked against the great-circle terms that it was made from.

A header can be wrong: of some frames near right ascension 0 it is 95 to 176 pixels off, while the terms in the frame's
last table (HDU 3) and in the archive's table of fields are right. In sound frames header and terms are at most 0.4
pixels apart. So a header counts where the terms agree with it; else the terms do.

The terms (https://data.sdss.org/datamodel/files/PHOTO_REDUX/RERUN/RUN/astrom/asTrans.html) are mu = a + b row' + c
col' and nu = d + e row' + f col' (degrees) in the great circle of a node and an inclination; row' and col' are row and
col and cubic polynomials of col, the optics' distortion. The centre of 0-based pixel (x, y) is col = x + 0.5,
row = y + 0.5. Terms of colour, up to 0.05 pixels, are left out: frames know no colours.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz.cubes.frame import DamagedFrame, OpenFrame, Tan
from sdss_photoz.cubes.resample import Projection
from sdss_photoz.cubes.tail import tails
from sdss_photoz.errors import UserError
from sdss_photoz.sample.footprint import FRAME_MARGIN, NEEDED, band_terms, sky_position
from sdss_photoz.sample.linking import unit_vectors
from sdss_photoz.survey import BANDS, FRAME_SHAPE, PIXEL_SCALE, Frame

ALLOWED = (
    1.0  # pixels from the header to the terms: 19 sound frames have at most 0.40, the archive rounds by up to 0.45
)
FARTHEST = 2.5  # pixels, 1 arcsec, from the archive's terms to a header that the frame's own terms agree with
NAMED = 10  # frames in one sentence
_BLOCK = 2880
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
        Coefficients of what is added to row and col: 1, col, col^2, col^3 (pixels). The archive's fields have none.
    """

    node: float
    incl: float
    terms: tuple[float, ...]
    rows: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    columns: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)

    def sky(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """Right ascension and declination (degrees) of 0-based pixels."""
        a, b, c, d, e, f = self.terms
        col = np.asarray(x, float) + 0.5
        row = np.asarray(y, float) + 0.5 + np.polyval(self.rows[::-1], col)
        col = col + np.polyval(self.columns[::-1], col)
        return sky_position(a + b * row + c * col, d + e * row + f * col, self.node, self.incl)

    def centre(self) -> tuple[float, float]:
        """Position of the frame's middle (ra, dec in degrees)."""
        ra, dec = self.sky(*_MIDDLE)
        return float(ra), float(dec)

    def tan(self) -> Tan:
        """The TAN projection that fits the terms best, by least squares over the frame.

        It leaves 0.03 pixels of the great circle's own shape, and of the distortion what is not linear: in 19 real
        frames 0.07 to 0.28 pixels at the worst pixel, less than their sound headers do in each.
        """
        ra, dec = self.centre()
        x, y = np.meshgrid(*(np.linspace(0, 2 * middle, 33) for middle in _MIDDLE))
        to_plane = Projection(Tan(ra, dec, 0.0, 0.0, (1.0, 0.0, 0.0, 1.0))).from_sky
        *plane, depth = to_plane @ unit_vectors(*self.sky(x.ravel(), y.ravel())).T
        plane = np.stack(plane) / depth  # degrees to the East and North
        u, v = x.ravel() - _MIDDLE[0], y.ravel() - _MIDDLE[1]  # they and u v add up to 0: each slope stands alone
        cd = np.stack([(plane * u).sum(axis=1) / (u * u).sum(), (plane * v).sum(axis=1) / (v * v).sum()], axis=1)
        shift = np.linalg.solve(cd, plane.mean(axis=1))
        return Tan(ra, dec, *(_MIDDLE - shift).tolist(), tuple(cd.ravel().tolist()))


def locate(opened: OpenFrame, frame: Frame, expected: GreatCircle | None = None) -> tuple[Tan, float]:
    """Find where a frame lies, and whether its header says so.

    The end of the file, with its own terms, is read only where what is expected does not bear the header out.

    Parameters
    ----------
    opened : OpenFrame
        The frame.
    frame : Frame
        Which one it is.
    expected : GreatCircle, optional
        Where the archive's table of fields has it.

    Returns
    -------
    wcs : Tan
        The projection to use: the header's, or where that is wrong the one that fits the terms.
    off : float
        Pixels by which the header is wrong: 0 where it is right and used, NaN where nothing tells whether it is.

    Raises
    ------
    DamagedFrame
        Where the end of the file is damaged.
    UserError
        Where the archive is at odds with the frame's own terms, and so with the list of frames that were asked for.
    """
    header = opened.wcs
    if expected is not None and distance(header, expected) <= ALLOWED:
        return header, 0.0
    own = read_terms(opened.path, frame)
    if own is None and expected is None:
        return header, np.nan
    terms = expected if own is None else own
    off = distance(header, terms)
    wcs, off = (header, 0.0) if off <= ALLOWED else (terms.tan(), off)
    if expected is not None and (gap := distance(wcs, expected)) > FARTHEST:
        raise UserError(
            f"{opened.path} lies {gap:.1f} pixels from where the archive's table of fields has it, by its own "
            f"great-circle terms, and {FARTHEST:g} are allowed: galaxies at its edges would miss it, so set "
            "archive.window_flist to the survey's own list of fields and run again."
        )
    return wcs, off


def distance(wcs: Tan, terms: GreatCircle) -> float:
    """Largest distance (pixels of 0.396 arcsec) of projection and terms at a frame's corners and middle."""
    there = np.linalg.solve(Projection(wcs).from_sky, np.vstack([_CORNERS, np.ones(len(_CORNERS.T))])).T
    there /= np.linalg.norm(there, axis=1, keepdims=True)
    chord = np.linalg.norm(there - unit_vectors(*terms.sky(*_CORNERS)), axis=1).max()
    return float(np.degrees(2 * np.arcsin(min(chord / 2, 1.0))) * 3600 / PIXEL_SCALE)


def read_terms(path, frame: Frame) -> GreatCircle | None:
    """Read a frame's own terms, from the last table of its file; None where it has none that can be used.

    Raises
    ------
    DamagedFrame
        Where the end of the file does not decompress.
    """
    try:
        for tail in tails(path):
            starts = range(len(tail) % _BLOCK, len(tail), _BLOCK)
            table = next((start for start in reversed(starts) if tail.startswith(b"XTENSION", start)), None)
            if table is not None:
                return _terms_of(tail[table:], frame)
    except FileNotFoundError:
        return None
    except (OSError, EOFError) as error:
        raise DamagedFrame(path, f"is damaged: its end does not decompress ({error})") from None
    return None


def _terms_of(table: bytes, frame: Frame) -> GreatCircle | None:
    from astropy.io import fits  # here: where the archive's terms bear headers out no table is read

    try:
        row = fits.BinTableHDU.fromstring(table).data[0]
        named = Frame(*(int(row[key]) for key in ("RUN", "CAMCOL", "FIELD")), str(row["FILTER"]).strip())
        values = [float(row[key]) for key in ("NODE", "INCL", *"ABCDEF")]
        bent = [tuple(float(row[f"D{axis}{power}"]) for power in range(4)) for axis in ("ROW", "COL")]
    except (fits.VerifyError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    a, b, c, d, e, f = values[2:]
    if named != frame or not np.isfinite([*values, *bent[0], *bent[1]]).all() or b * f == c * e:
        return None
    return GreatCircle(*values[:2], (a, b, c, d, e, f), *bent)


def terms_of_fields(fields: pd.DataFrame | None, frames: Iterable[Frame]) -> dict[Frame, GreatCircle]:
    """Where the archive's table of fields has frames: those whose own band's terms it knows to a pixel.

    Parameters
    ----------
    fields : DataFrame, optional
        As :func:`sdss_photoz.sample.footprint.overlapping_frames` takes it; without the columns nothing is known.
    frames : iterable of Frame
    """
    if fields is None or not set(NEEDED) <= set(fields):
        return {}
    places = {key: k for k, key in enumerate(fields[["run", "camcol", "field"]].itertuples(index=False, name=None))}
    circles = fields[["node", "incl"]].to_numpy(float)
    terms = {band: band_terms(fields, band) for band in BANDS}
    found = {}
    for frame in frames:
        k, (values, margin) = places.get(frame[:3]), terms[frame.band]
        if k is not None and margin[k] <= FRAME_MARGIN:
            found[frame] = GreatCircle(*circles[k].tolist(), tuple(values[:, k].tolist()))
    return found


def doubts(off: Mapping[Frame, float], frames: int) -> list[str]:
    """What to say of frames whose header is wrong, or that nothing can be compared with.

    Parameters
    ----------
    off : mapping of Frame to float
        What `locate` gave of those for which it is not 0.
    frames : int
        How many were opened.
    """
    wrong = {frame: pixels for frame, pixels in sorted(off.items()) if not np.isnan(pixels)}
    unchecked = [frame.name for frame, pixels in sorted(off.items()) if np.isnan(pixels)]
    said = []
    if wrong:
        names = some([f"{frame.name} ({pixels:.1f})" for frame, pixels in wrong.items()])
        said.append(
            f"{len(wrong)} of {frames} frames lie by their great-circle terms, for their headers are more than "
            f"{ALLOWED:g} pixel off: {names}."
        )
    if unchecked:
        said.append(
            f"{len(unchecked)} of {frames} frames lie by their headers unchecked, for they have no great-circle terms "
            f"(HDU 3) of their own: {some(unchecked)}."
        )
    return said


def some(names: list[str]) -> str:
    """Names in a sentence: the first few, and how many there are beside them."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
