"""Corrected frames: the image and the plane coordinates of one band of one field."""

import bz2
import filecmp
import gzip
import io
import zlib
from pathlib import Path
from typing import NamedTuple

import indexed_bzip2
import numpy as np

from sdss_photoz.errors import UserError
from sdss_photoz.frames.flaws import BLOCK, NO_END, is_complete, read_cards, wrong_name, wrong_shape
from sdss_photoz.surveys.sdss import FRAME_SHAPE, Frame

LARGEST_HEADER = 100 * BLOCK
LARGEST_TAIL = 64_000_000  # bytes behind the image: a frame's other tables have half a megabyte
PIECE = 1 << 15  # bytes


class DamagedFrame(UserError):
    """A frame's file is damaged or holds another frame; another copy may be sound. `what` is the fault without path."""

    def __init__(self, path, what: str):
        self.path, self.what = path, what
        super().__init__(f"{path} {what}; delete it and fetch it again.")


class Tan(NamedTuple):
    """Terms of a gnomonic (TAN) projection, as FITS writes them.

    Attributes
    ----------
    ra, dec : float
        CRVAL (degrees).
    x, y : float
        Pixel of CRVAL, 0-based (CRPIX - 1).
    cd : tuple of float
        CD1_1, CD1_2, CD2_1, CD2_2 (degrees a pixel).
    """

    ra: float
    dec: float
    x: float
    y: float
    cd: tuple[float, float, float, float]


class FrameImage(NamedTuple):
    """The image and projection of a frame.

    Attributes
    ----------
    image : ndarray
        (rows, columns) float32, nanomaggies; the rows up to the last one requested.
    wcs : Tan
        Its projection.
    """

    image: np.ndarray
    wcs: Tan


class OpenFrame:
    """A corrected frame open for reading: its header is read at once, its image when :meth:`read` is called.

    Use as a context manager. `wcs` is the projection in the header; `nanomaggies_per_count` is the header's NMGY, a
    float, or None if it has none.

    Parameters
    ----------
    path : str or Path
        A corrected frame, plain or compressed with bzip2 or gzip (detected by its first bytes, not by its name).
    threads : int
        Threads for decompression; 0 if only the header will be read.
    frame : Frame, optional
        The frame that the header must name.

    Raises
    ------
    DamagedFrame
        If the file is damaged, not FITS, of another shape, another frame, or has no usable coordinates.
    UserError
        If the file cannot be read, or its projection is not TAN.
    """

    def __init__(self, path, threads: int = 1, frame: Frame | None = None):
        self.path = Path(path)
        self._file = _open(self.path, threads)
        try:
            cards = self._header()
            self._check_shape(cards)
            self.wcs = _tan(cards, self.path)
            self.nanomaggies_per_count = _calibration(cards)
            wrong = None if frame is None else wrong_name(cards, frame)
            if wrong is not None:
                raise DamagedFrame(self.path, f"holds {wrong}")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def _bytes(self, count: int) -> bytes:
        return _read(self._file, self.path, count)

    def _header(self) -> dict[str, str | float | bool]:
        text = b""
        while len(text) < LARGEST_HEADER:
            block = self._bytes(BLOCK)
            if not text and not block.startswith(b"SIMPLE  ="):
                raise DamagedFrame(self.path, f"is not a FITS file: it starts with {block[:20]!r}")
            if len(block) < BLOCK:
                raise DamagedFrame(self.path, "is truncated: it ends within its header")
            text += block
            cards = [block[start : start + 80] for start in range(0, BLOCK, 80)]
            if any(card.rstrip() == b"END" for card in cards):
                return read_cards(text)
        raise DamagedFrame(self.path, "is not a corrected frame: its header has no END")

    def _check_shape(self, cards) -> None:
        wrong = wrong_shape(cards)
        if wrong is not None:
            raise DamagedFrame(self.path, f"holds another image: {wrong}")
        if cards.get("BSCALE", 1) != 1 or cards.get("BZERO", 0) != 0:
            raise DamagedFrame(
                self.path,
                f"has scaled values (BSCALE {cards.get('BSCALE')}, BZERO {cards.get('BZERO')}), but a corrected frame "
                "holds nanomaggies as they are",
            )

    def _finish_block(self) -> None:
        """Read to the next CRC, without which damaged pixels would decompress unnoticed.

        A CRC ends each bzip2 block of 900,000 bytes, some 110 rows, and a gzip file.
        """
        if isinstance(self._file, gzip.GzipFile):
            for _ in range(LARGEST_TAIL // PIECE):
                if not self._bytes(PIECE):
                    return
            raise DamagedFrame(self.path, f"holds more than {LARGEST_TAIL / 1e6:g} MB behind its image")
        elif isinstance(self._file.raw, indexed_bzip2.IndexedBzip2FileRaw):
            place = self._file.raw.bz2reader.tell_compressed  # changes when the next block begins
            before = place()
            while place() == before and self._bytes(PIECE):
                pass

    def read(self, last_row: int | None = None) -> np.ndarray:
        """Read the image, once.

        Parameters
        ----------
        last_row : int, optional
            Last row (0-based) to read. The rest of its compressed block is read too, for the CRC. None: all rows.

        Returns
        -------
        ndarray
            (rows, columns) nanomaggies, read-only big-endian float32 as in the file: to swap the bytes of all pixels
            would take a twentieth of the time of decompression.

        Raises
        ------
        UserError
            If the file ends early, is damaged, or has no finite pixel.
        """
        rows, columns = FRAME_SHAPE
        if last_row is not None:
            rows = min(rows, max(last_row + 1, 0))
        data = self._bytes(4 * rows * columns)
        if len(data) < 4 * rows * columns:
            raise DamagedFrame(
                self.path, f"is truncated: its image ends in row {len(data) // (4 * columns)} of {FRAME_SHAPE[0]}"
            )
        self._finish_block()
        image = np.frombuffer(data, dtype=">f4").reshape(rows, columns)
        if rows and not np.isfinite(image[::31]).any() and not np.isfinite(image).any():
            raise DamagedFrame(self.path, "has no finite pixel: it is full of NaN")
        return image


def read_frame(path, last_row: int | None = None) -> FrameImage:
    """Read a corrected frame.

    Parameters
    ----------
    path : str or Path
        The frame, plain or compressed with bzip2 or gzip.
    last_row : int, optional
        Last row (0-based) to read; later rows are not decompressed. None: all rows.

    Returns
    -------
    FrameImage
        Image (rows, columns) float32 in nanomaggies, and projection.

    Raises
    ------
    UserError
        If the file is missing, truncated, damaged, not FITS, of another shape, full of NaN, or has no TAN projection.
    """
    with OpenFrame(path) as opened:
        return FrameImage(opened.read(last_row).astype(np.float32), opened.wcs)


def read_wcs(path, frame: Frame | None = None) -> Tan:
    """Read a frame's projection from its header alone; parameters and errors are those of :class:`OpenFrame`."""
    with OpenFrame(path, threads=0, frame=frame) as opened:
        return opened.wcs


def same_content(path: Path, other: Path) -> bool:
    """Whether two files hold the same frame, each of them plain or compressed.

    Raises
    ------
    UserError
        If one cannot be read or is damaged.
    """
    if filecmp.cmp(path, other, shallow=False):
        return True
    with _open(path, 1) as a, _open(other, 1) as b:
        while (piece := _read(a, path, PIECE)) == _read(b, other, PIECE):
            if not piece:
                return True
    return False


def _read(file, path: Path, count: int) -> bytes:
    try:
        return file.read(count)
    except (OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:  # as the decompressors raise
        raise DamagedFrame(
            path, f"is damaged or truncated: it does not decompress ({' '.join(str(error).split())})"
        ) from None


def _open(path: Path, threads: int):
    try:
        with open(path, "rb") as file:
            magic = file.read(3)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): restore the file or fetch it again.") from None
    if magic == b"BZh":
        if not is_complete(path):  # truncation after the last row read would stay unnoticed
            raise DamagedFrame(path, f"is {NO_END}")
        if threads == 0:
            return bz2.open(path)  # a third of indexed_bzip2's time for the first block, and without the GIL
        raw = indexed_bzip2.IndexedBzip2FileRaw(str(path), parallelization=threads)  # a fifth faster for a whole frame
        return io.BufferedReader(raw, PIECE)  # the library's own buffer decompresses up to 1 MiB too much
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")
    return open(path, "rb")


def _tan(cards, path) -> Tan:
    types = (cards.get("CTYPE1"), cards.get("CTYPE2"))
    if types == (None, None):
        raise DamagedFrame(path, "has no world coordinates: CTYPE1 and CTYPE2 are missing")
    if types != ("RA---TAN", "DEC--TAN"):
        raise UserError(
            f"{path} has the projection {types[0]}, {types[1]}, but cubes are made from plain RA---TAN, DEC--TAN: "
            f"give corrected frames as the survey published them."
        )
    keys = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")
    bad = [key for key in keys if not isinstance(cards.get(key), float) or not np.isfinite(cards[key])]
    if bad:
        raise DamagedFrame(path, f"has no complete world coordinates: {', '.join(bad)} missing or no number")
    ra, dec, x, y, *cd = (cards[key] for key in keys)
    if cd[0] * cd[3] == cd[1] * cd[2]:
        raise DamagedFrame(path, f"has a CD matrix that cannot be inverted ({cd})")
    return Tan(ra, dec, x - 1, y - 1, tuple(cd))


def _calibration(cards) -> float | None:
    found = cards.get("NMGY")
    return found if isinstance(found, float) and 0 < found < np.inf else None
