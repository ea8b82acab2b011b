"""Read members of an npz file as streams, block by block and without pickles."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sdss_photoz import files
from sdss_photoz.errors import UserError

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Member(NamedTuple):
    """One array of an npz file."""

    path: Path  # of the npz file
    info: zipfile.ZipInfo
    start: int  # bytes of the member before the first row
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def stored(self) -> bool:
        """Whether the member is stored without compression."""
        return self.info.compress_type == zipfile.ZIP_STORED

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, an element of the first axis."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the member from first to last row, `rows` rows at a time; its CRC is checked at the end.

        Raises
        ------
        UserError
            If the file is damaged.
        """
        with _open_npz(self.path) as archive, archive.open(self.info) as stream:
            _read_exactly(stream, self.start)
            for first in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - first)
                data = _read_exactly(stream, count * self.row_bytes)
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])
            stream.read(1)

    def offset(self) -> int:
        """Return the offset in the npz file (bytes) of the first row of a stored member.

        Raises
        ------
        UserError
            If the file is damaged.
        """
        with _open_npz(self.path), open(self.path, "rb") as file:
            file.seek(self.info.header_offset)
            signature, name, extra = _LOCAL_HEADER.unpack(_read_exactly(file, _LOCAL_HEADER.size))
            if signature != b"PK\x03\x04":
                raise zipfile.BadZipFile(f"no member begins at byte {self.info.header_offset}")
        return self.info.header_offset + _LOCAL_HEADER.size + name + extra + self.start


def open_member(path, name: str) -> Member:
    """Find an array in an npz file and read its header.

    Parameters
    ----------
    path : str or Path
        The npz file.
    name : str
        Name of the array.

    Raises
    ------
    UserError
        If the file is not a complete npz file, or the array is missing, not in C order, holds Python objects, or its
        size differs from that in its header.
    """
    path = Path(path)
    with _open_npz(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            found = ", ".join(member.removesuffix(".npy") for member in archive.namelist()[:5]) or "nothing"
            raise UserError(f"{path} has no array {name!r}, but holds {found}: give the published file itself.")
        info = archive.getinfo(f"{name}.npy")
        with archive.open(info) as stream:
            try:
                shape, fortran_order, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
            except (ValueError, KeyError) as error:
                reason = " ".join(str(error).split())[:80]
                raise UserError(
                    f"the array {name!r} of {path} has no header that can be read ({reason}): download the file again."
                ) from None
            start = stream.tell()
    member = Member(path, info, start, dtype, shape)
    _check(member, name, fortran_order)
    return member


def _check(member, name, fortran_order):
    thing = f"the array {name!r} of {member.path}"
    if member.dtype.hasobject:
        columns = [column for column in member.dtype.names or () if member.dtype[column].hasobject]
        where = f" in column {columns[0]!r}" if columns else ""
        raise UserError(
            f"{thing} holds Python objects{where}, which only a pickle can, and a pickle may run any program: "
            "save it with plain numbers and text of fixed length."
        )
    if fortran_order or not member.shape:
        found = "Fortran order" if fortran_order else "no axis"
        raise UserError(f"{thing} must be in C order with the galaxy as first axis, but has {found}: save it so.")
    expected = member.start + member.shape[0] * member.row_bytes
    if member.info.file_size != expected or (member.stored and member.info.compress_size != expected):
        raise UserError(
            f"{thing} holds {member.info.file_size:,} bytes, but its shape {member.shape} and type {member.dtype.str} "
            f"need {expected:,}: download the file again."
        )


def identity(path) -> str:
    """Return a digest that identifies an npz file: of its size, and the names, sizes and CRCs of its members.

    Raises
    ------
    UserError
        If it is not a complete npz file.
    """
    with _open_npz(Path(path)) as archive:
        members = [[info.filename, info.file_size, info.CRC] for info in archive.infolist()]
        return files.digest([Path(path).stat().st_size, members])


@contextmanager
def _open_npz(path):
    """Open an npz file; errors of reading become a `UserError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): correct the path.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is not a whole npz file ({reason}): download it again.") from None


def _read_exactly(stream, count):
    data = stream.read(count)
    if len(data) < count:
        raise EOFError(f"{count - len(data):,} bytes are missing at the end")
    return data
