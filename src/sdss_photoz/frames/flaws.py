"""Validation of a frame's file by its two ends and its header, in bounded memory."""

import bz2

from sdss_photoz.surveys.sdss import FRAME_NUMBER_OFFSET, FRAME_SHAPE, Frame

BLOCK = 2880  # bytes of a block of a FITS file
BZIP2_END = 0x177245385090  # 48 bits that end a bzip2 stream at any bit, followed by a CRC of 32
NO_BZIP2 = "not a bzip2 file"
NO_END = "truncated: the end of its bzip2 stream is missing"


def is_complete(path) -> bool:
    """Whether a file exists and has the end of a bzip2 stream, which a truncated one lacks.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 11, 0))
            end = file.read()
    except (FileNotFoundError, IsADirectoryError):
        return False
    return bits_behind_end(end) is not None


def bits_behind_end(content: bytes) -> int | None:
    """Number of bits after the 48 that end a bzip2 stream: its CRC and the padding; None if they are not found."""
    end = int.from_bytes(content[-11:], "big")
    behind = (32 + padding for padding in range(8))
    return next((bits for bits in behind if end >> bits & (2**48 - 1) == BZIP2_END), None)


def flaw(path, frame: Frame) -> str | None:
    """What is wrong with a frame's file, in a few words; None if both ends and the header are right.

    The pixels are checked when they are decompressed: each bzip2 block has a CRC.
    """
    with open(path, "rb") as file:
        magic = file.read(3)
    if magic != b"BZh":
        return NO_BZIP2
    if not is_complete(path):
        return NO_END
    try:
        with bz2.open(path) as file:  # a third of indexed_bzip2's time for the first block, and without the GIL
            header = file.read(4 * BLOCK)
    except (OSError, EOFError):
        return "damaged: its first block does not decompress"
    if not header.startswith(b"SIMPLE  ="):
        return "not a FITS file"
    cards = read_cards(header)
    shape = wrong_shape(cards)
    if shape is not None:
        return f"another image: {shape}"
    return wrong_name(cards, frame)


def read_cards(header: bytes) -> dict[str, str | float | bool]:
    """Parse the values of a FITS header: a subset that the survey's headers need, 40 times faster than astropy."""
    values = {}
    for start in range(0, len(header), 80):
        card = header[start : start + 80].decode("ascii", "replace")
        if card.rstrip() == "END":
            break
        if card[8:10] != "= ":
            continue
        text = card[10:].strip()
        if text.startswith("'"):
            value = text[1:].split("'", 1)[0].rstrip()
        else:
            text = text.split("/", 1)[0].strip()
            try:
                value = text == "T" if text in ("T", "F") else float(text.replace("D", "E"))
            except ValueError:
                continue
        values[card[:8].rstrip()] = value
    return values


def wrong_shape(cards: dict) -> str | None:
    """Describe the image of a header that has not the shape and type of a corrected frame; else None."""
    found = (cards.get("BITPIX"), cards.get("NAXIS"), cards.get("NAXIS2"), cards.get("NAXIS1"))
    if found == (-32, 2, *FRAME_SHAPE):
        return None
    lengths = [_printable(cards[f"NAXIS{axis}"]) for axis in range(9, 0, -1) if f"NAXIS{axis}" in cards]
    return (
        f"its header says {' x '.join(lengths) or 'no'} pixels and BITPIX {_printable(cards.get('BITPIX'))}, but a "
        f"corrected frame has {FRAME_SHAPE[0]} x {FRAME_SHAPE[1]} and -32"
    )


def wrong_name(cards: dict, frame: Frame) -> str | None:
    """Describe the frame that a header names if it is not `frame`; else None.

    The key FRAME counts the camera's frames (`sdss.FRAME_NUMBER_OFFSET`), not the fields.
    """
    found = [cards.get(key) for key in ("RUN", "CAMCOL", "FRAME", "FILTER")]
    if found == [frame.run, frame.camcol, frame.field + FRAME_NUMBER_OFFSET[frame.band], frame.band]:
        return None
    run, camcol, number, band = map(_printable, found)
    return f"another frame: its header says run {run}, camcol {camcol}, frame {number}, filter {band}"


def _printable(value) -> str:
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value) if str(value).isprintable() else ascii(value)  # no control characters on the terminal
