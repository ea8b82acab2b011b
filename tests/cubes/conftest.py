"""Frames that the tests of the cubes share."""

import bz2
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from sdss_photoz.survey import FRAME_SHAPE, Frame

FRAME = Frame(94, 1, 11, "r")


@pytest.fixture(scope="session")
def real_frame(shared_data):
    """A function that gives the path of a real frame."""

    def path(run: int, camcol: int, field: int, band: str) -> Path:
        return shared_data / "sas" / Frame(run, camcol, field, band).path()

    return path


def header(frame: Frame, ra=180.0, dec=30.0, angle=0.0, scale=0.396):
    """Header of a corrected frame, its columns turned by `angle` degrees from West to North."""
    cards = fits.Header()
    cards["RUN"], cards["CAMCOL"], cards["FILTER"] = frame.run, frame.camcol, frame.band
    cards["FRAME"] = frame.field + 2 * "riuzg".index(frame.band)  # the filters in the order of the camera
    cards["CTYPE1"], cards["CTYPE2"] = "RA---TAN", "DEC--TAN"
    cards["CRPIX1"], cards["CRPIX2"] = 1025.0, 745.0
    cards["CRVAL1"], cards["CRVAL2"] = ra, dec
    step, cos, sin = scale / 3600, np.cos(np.radians(angle)), np.sin(np.radians(angle))
    cards["CD1_1"], cards["CD1_2"] = -step * cos, step * sin
    cards["CD2_1"], cards["CD2_2"] = step * sin, step * cos
    return cards


@pytest.fixture(scope="session")
def write_frame():
    """A function that writes a frame: plain FITS, or bzip2 by its name."""

    def write(path, image=0.0, frame=FRAME, change=(), **wcs) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.broadcast_to(np.float32(image), FRAME_SHAPE) if np.ndim(image) == 0 else image
        cards = header(frame, **wcs)
        for key, value in dict(change).items():
            if value is None:
                del cards[key]
            else:
                cards[key] = value
        plain = path.with_suffix("") if path.suffix == ".bz2" else path
        fits.PrimaryHDU(np.asarray(image, dtype=">f4"), cards).writeto(plain, overwrite=True)
        if path.suffix == ".bz2":
            path.write_bytes(bz2.compress(plain.read_bytes(), 1))
            plain.unlink()
        return path

    return write
