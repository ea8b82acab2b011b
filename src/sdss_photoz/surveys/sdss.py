"""The Sloan Digital Sky Survey: bands, pixels, object identifiers, paths of frames."""

import re
from typing import NamedTuple

import numpy as np

from sdss_photoz.errors import UserError
from sdss_photoz.surveys.survey import Band, PixelGrid, Survey

RERUN = 301
FRAME_SHAPE = (1489, 2048)  # rows, columns of a corrected frame
FIELD_ROWS = 1361  # from a field to the next one of its run: they share 128 rows
FRAME_NUMBER_OFFSET = {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}  # header key FRAME minus field: order of the filters
FRAME_FOLDERS = {  # of the Science Archive Server, by data release
    **dict.fromkeys(range(8, 13), "boss/photoObj/frames"),
    **dict.fromkeys(range(13, 18), "eboss/photoObj/frames"),
    18: "prior-surveys/sdss4-dr17-eboss/photoObj/frames",
}

_FRAME_NAME = re.compile(r"frame-([ugriz])-(\d{6})-([1-6])-(\d{4})\.fits(\.bz2|\.gz)?$")


class Frame(NamedTuple):
    """A corrected frame: one band of one field."""

    run: int
    camcol: int
    field: int
    band: str

    @property
    def name(self) -> str:
        """Name of the frame's file in the archive, for example ``frame-r-003900-6-0269.fits.bz2``."""
        return f"frame-{self.band}-{self.run:06d}-{self.camcol}-{self.field:04d}.fits.bz2"

    @property
    def folder(self) -> str:
        """Folder of the frame below the release's folder of frames, for example ``301/3900/6``."""
        return f"{RERUN}/{self.run}/{self.camcol}"

    def path(self, release: int = 12) -> str:
        """Path of the frame below the root of the Science Archive Server."""
        return f"dr{release}/{FRAME_FOLDERS[release]}/{self.folder}/{self.name}"

    @classmethod
    def from_path(cls, path: str) -> "Frame":
        """Read run, camcol, field and band from a frame's file name.

        Raises
        ------
        UserError
            Where the name is not that of a corrected frame.
        """
        match = _FRAME_NAME.search(str(path))
        if match is None:
            raise UserError(f"{path} is not named like a corrected frame (frame-BAND-RUN6-CAMCOL-FIELD4.fits.bz2).")
        band, run, camcol, field = match.groups()[:4]
        return cls(int(run), int(camcol), int(field), band)


SDSS = Survey(
    name="SDSS",
    bands=(  # noise of typical corrected frames (nanomaggies); extinction by Schlafly & Finkbeiner 2011
        Band("u", noise=0.043, extinction=4.239, zero_point=22.5),
        Band("g", noise=0.017, extinction=3.303, zero_point=22.5),
        Band("r", noise=0.029, extinction=2.285, zero_point=22.5),
        Band("i", noise=0.05, extinction=1.698, zero_point=22.5),
        Band("z", noise=0.17, extinction=1.263, zero_point=22.5),
    ),
    pixel_scale=0.396,
    unit="nanomaggy",
    picture={"i": 1.0, "r": 1.3, "g": 2.0},
    frame=Frame,
)
CUBE = PixelGrid(64, SDSS.pixel_scale, SDSS.band_names)  # of Pasquet et al. 2018


def object_id(run, camcol, field, obj, sky_version=2, rerun=RERUN):
    """Pack the survey's 64-bit object identifier (``PhotoObjAll.objID``); arrays broadcast, the result is int64."""
    run, camcol, field, obj = (np.asarray(part, dtype=np.int64) for part in (run, camcol, field, obj))
    return (np.int64(sky_version) << 59) | (np.int64(rerun) << 48) | (run << 32) | (camcol << 29) | (field << 16) | obj


def split_object_id(objid):
    """Unpack object identifiers into (run, camcol, field, obj), int64 arrays of the same shape."""
    objid = np.asarray(objid, dtype=np.int64)
    return (objid >> 32) & 0xFFFF, (objid >> 29) & 7, (objid >> 16) & 0xFFF, objid & 0xFFFF
