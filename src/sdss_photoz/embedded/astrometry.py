"""Runs, strips and fields of the simulated survey, and their astrometry.

Rows and columns are the survey's: the centre of the 0-based pixel (x, y) has column x + 0.5 and row y + 0.5.
Great-circle coordinates are mu = a + b row + c col and nu = d + e row + f col (degrees), in the system of a node and an
inclination.
"""

from dataclasses import dataclass, field

import numpy as np

from sdss_photoz.embedded.camera import CAMERA_ROW
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import great_circle, sky_position
from sdss_photoz.surveys.sdss import FIELD_ROWS, FRAME_SHAPE

DEGREES_PER_PIXEL = 1.1e-4
REFERENCE_PIXEL = (1024.0, 744.0)  # 0-based x, y of CRPIX (1025, 745)
STRIP_FIELDS = 3  # longest strip of adjacent fields
PATCH = {"mu": 38.3, "camcol": 3, "stripe": 82}
STRIPES = (*range(10, 38), 76, 86)


@dataclass(frozen=True)
class Strip:
    """Adjacent fields of one camera column of one run, one long image that drifted across the camera.

    `terms` holds a…f of each band for row 0 of the first field; `suspect` names the band whose zero point is wrong.
    """

    run: int
    camcol: int
    first_field: int
    fields: int
    stripe: int
    strip: str
    node: float
    incl: float
    mjd: float
    terms: dict[str, tuple[float, ...]] = field(repr=False)
    suspect: str | None = None

    @property
    def rows(self) -> int:
        """Number of rows of the strip; adjacent fields overlap by 128 rows."""
        return FRAME_SHAPE[0] + FIELD_ROWS * (self.fields - 1)

    def field_terms(self, number: int, band: str) -> tuple[float, ...]:
        """Return the terms a…f (degrees, degrees per pixel) of the `number`-th field of the strip in one band."""
        a, b, c, d, e, f = self.terms[band]
        return a + b * FIELD_ROWS * number, b, c, d + e * FIELD_ROWS * number, e, f

    def sky(self, band: str, x, y):
        """Return right ascension and declination (degrees) of 0-based pixel coordinates of the strip."""
        a, b, c, d, e, f = self.terms[band]
        row, column = np.asarray(y) + 0.5, np.asarray(x) + 0.5
        return sky_position(a + b * row + c * column, d + e * row + f * column, self.node, self.incl)

    def pixels(self, band: str, ra, dec):
        """Return the 0-based pixel coordinates x, y in the strip of a position (degrees)."""
        a, b, c, d, e, f = self.terms[band]
        mu, nu, _, _ = great_circle(ra, dec, self.node, self.incl)
        along, across = (mu - a + 180) % 360 - 180, nu - d
        determinant = b * f - c * e
        return (b * across - e * along) / determinant - 0.5, (f * along - c * across) / determinant - 0.5


def tangent_plane(ra, dec, ra0, dec0):
    """Return gnomonic coordinates (degrees) east and north of a reference position (degrees)."""
    angle, dec, dec0 = np.radians(np.asarray(ra) - ra0), np.radians(dec), np.radians(dec0)
    depth = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(angle)
    north = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(angle)
    return np.degrees(np.cos(dec) * np.sin(angle) / depth), np.degrees(north / depth)


def tangent_wcs(strip: Strip, number: int, band: str) -> dict[str, float]:
    """Fit a TAN projection to a field's great-circle terms; return the header keys CRVAL and CD."""
    offset = FIELD_ROWS * number
    x, y = np.meshgrid(np.linspace(0, FRAME_SHAPE[1] - 1, 9), np.linspace(0, FRAME_SHAPE[0] - 1, 7))
    ra0, dec0 = (float(value) for value in strip.sky(band, REFERENCE_PIXEL[0], REFERENCE_PIXEL[1] + offset))
    east, north = tangent_plane(*strip.sky(band, x, y + offset), ra0, dec0)
    pixels = np.column_stack([x.ravel() - REFERENCE_PIXEL[0], y.ravel() - REFERENCE_PIXEL[1]])
    (cd11, cd21), (cd12, cd22) = np.linalg.lstsq(pixels, np.column_stack([east.ravel(), north.ravel()]), rcond=None)[0]
    keys = {"CRVAL1": ra0, "CRVAL2": dec0, "CD1_1": cd11, "CD1_2": cd12, "CD2_1": cd21, "CD2_2": cd22}
    return {key: float(f"{value:.12g}") for key, value in keys.items()}


def _draw_terms(mu: float, nu: float, rng) -> dict[str, tuple[float, ...]]:
    """Draw the terms of the five bands, with offsets of up to a few arcsec and scales within 1e-4, as in real runs."""
    terms = {}
    for band in SDSS.band_names:
        shift = rng.normal(0, 2.5e-4, 2)
        scale = DEGREES_PER_PIXEL * (1 + rng.normal(0, 1e-4, 2))
        skew = rng.normal(0, 3e-8, 2)
        terms[band] = (mu + shift[0], scale[0], skew[0], nu + shift[1], skew[1], scale[1])
    return terms


def draw_strips(fields: int, visits: int, seed: int) -> tuple[list[Strip], list[Strip]]:
    """Draw the survey's geometry.

    Parameters
    ----------
    fields : int
        Number of fields observed once, in strips of at most three adjacent fields at different positions; the last
        strip has a wrong zero point (the suspect zone).
    visits : int
        Number of runs that observe the patch at Dec 0.
    seed : int
        Seed of the sky.

    Returns
    -------
    (strips, patch) : lists of Strip
        The strips, and one strip of one field for each run that observes the patch.
    """
    rng = np.random.default_rng([seed, 1])
    lengths = [STRIP_FIELDS] * (fields // STRIP_FIELDS) + ([fields % STRIP_FIELDS] if fields % STRIP_FIELDS else [])
    runs = rng.choice(np.arange(745, 8162), len(lengths) + visits, replace=False)
    places = rng.choice(len(STRIPES) * 22, len(lengths), replace=False)  # slots of 4 degrees along each stripe
    strips = []
    for index, (run, length, place) in enumerate(zip(runs, lengths, places, strict=False)):
        stripe, slot = STRIPES[place % len(STRIPES)], place // len(STRIPES)
        south = stripe in (76, 86)
        node, incl = {76: (275.0, 15.0), 86: (275.0, -10.0)}.get(stripe, (95.0, 2.5 * (stripe - 10)))
        mu = (-40.0 if south else 142.0) + 4 * slot + rng.uniform(0.5, 2.5)
        camcol, name = int(rng.integers(1, 7)), "NS"[int(rng.integers(2))]
        strips.append(
            Strip(
                run=int(run), camcol=camcol, first_field=int(rng.integers(11, 700)), fields=length, stripe=stripe,
                strip=name, node=node + round(rng.normal(0, 0.02), 6), incl=incl + round(rng.normal(0, 0.01), 6),
                mjd=float(51075 + rng.integers(0, 2500)), terms=_draw_terms(mu % 360, _nu(camcol, name, rng), rng),
                suspect="g" if index == len(lengths) - 1 else None,
            )
        )  # fmt: skip
    patch = []
    nu = _nu(PATCH["camcol"], "N", rng)
    for run in runs[len(lengths) :]:
        offset = rng.uniform(-0.006, 0.006, 2)  # pointing offsets of up to some 50 pixels
        patch.append(
            Strip(
                run=int(run), camcol=PATCH["camcol"], first_field=int(rng.integers(11, 700)), fields=1,
                stripe=PATCH["stripe"], strip="N", node=round(rng.uniform(100, 160), 6),
                incl=round(rng.uniform(0.001, 0.006), 6), mjd=float(51075 + rng.integers(0, 2500)),
                terms=_draw_terms(PATCH["mu"] + offset[0], nu + offset[1], rng),
            )
        )  # fmt: skip
    return strips, patch


def _nu(camcol: int, strip: str, rng) -> float:
    """Draw the great-circle latitude of column 0: camera columns are 25.17 arcmin apart, strips N and S interleaved."""
    return 0.4194 * (camcol - 3.5) - 0.1126 + (0.105 if strip == "N" else -0.105) + rng.normal(0, 0.005)


def band_delay(band: str) -> float:
    """Return the days between a field's exposure in r and in another band; detectors follow each other by some 72 s."""
    return (CAMERA_ROW[band] - 1) * 71.72 / 86_400
