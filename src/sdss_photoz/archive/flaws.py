"""What makes a file no frame: its two ends and its header, looked at in bounded memory."""

import bz2

from sdss_photoz.survey import FRAME_SHAPE, Frame

BLOCK = 2880  # bytes: FITS headers and data come in such blocks
BZIP2_END = 0x177245385090  # 48 bits that close a bzip2 stream, followed by its CRC of 32, at any bit
NO_BZIP2 = "not a bzip2 file"
NO_END = "truncated: the end of its bzip2 stream is missing"
FRAMES_LATER = {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}  # the sky drifts over the filters in this order


def ends_whole(path) -> bool:
    """Whether a file exists and ends as a bzip2 stream does: a truncated one does not.

    Raises
    ------
    OSError
        Where there may be one that cannot be read.
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
    """How many bits stand behind the 48 that close a bzip2 stream, its CRC and what fills a byte; None without them."""
    end = int.from_bytes(content[-11:], "big")
    behind = (32 + padding for padding in range(8))
    return next((bits for bits in behind if end >> bits & (2**48 - 1) == BZIP2_END), None)


def flaw(path, frame: Frame) -> str | None:
    """What is wrong with a frame's file, in a few words; None where its two ends and its header are right.

    The pixels between are checked where they are decompressed: each bzip2 block has a CRC.
    """
    with open(path, "rb") as file:
        magic = file.read(3)
    if magic != b"BZh":
        return NO_BZIP2
    if not ends_whole(path):
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
    """Values of the cards that hold one: enough of FITS for the survey's headers, a fortieth of astropy's time."""
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
    """What image a header describes, in a few words, where it is none of a corrected frame's shape and type."""
    found = (cards.get("BITPIX"), cards.get("NAXIS"), cards.get("NAXIS2"), cards.get("NAXIS1"))
    if found == (-32, 2, *FRAME_SHAPE):
        return None
    lengths = [_shown(cards[f"NAXIS{axis}"]) for axis in range(9, 0, -1) if f"NAXIS{axis}" in cards]
    return (
        f"its header says {' x '.join(lengths) or 'no'} pixels and BITPIX {_shown(cards.get('BITPIX'))}, but a "
        f"corrected frame has {FRAME_SHAPE[0]} x {FRAME_SHAPE[1]} and -32"
    )


def wrong_name(cards: dict, frame: Frame) -> str | None:
    """Which frame a header names, in a few words, where it is another one.

    FRAME counts the camera's frames: the sky of one field passes the five filters one after the other, so it is the
    field's number in r and 2, 4, 6 and 8 more in i, u, z and g.
    """
    found = [cards.get(key) for key in ("RUN", "CAMCOL", "FRAME", "FILTER")]
    if found == [frame.run, frame.camcol, frame.field + FRAMES_LATER[frame.band], frame.band]:
        return None
    run, camcol, number, band = map(_shown, found)
    return f"another frame: its header says run {run}, camcol {camcol}, frame {number}, filter {band}"


def _shown(value) -> str:
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value) if str(value).isprintable() else ascii(value)  # what commands a terminal stays in the file
