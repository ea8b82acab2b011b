"""Read the end of a compressed frame without decompressing all of it: bzip2 blocks are independent.

A frame's table of astrometric terms is the last HDU of its file. To decompress only the last block of 900,000 bytes
takes a tenth of the time of the whole file.
"""

import bz2
import gzip
from collections.abc import Iterator
from pathlib import Path

from sdss_photoz.frames.flaws import BZIP2_END, bits_behind_end

BLOCK_START = 0x314159265359  # 48 bits that begin a bzip2 block, at any bit offset, followed by its 32-bit CRC
TWO_BLOCKS = 2_000_000  # bytes: a compressed block of noise is a little larger than its 900,000
TAIL = 1 << 16  # bytes kept of a file that is plain or compressed with gzip


def file_tails(path) -> Iterator[bytes]:
    """Yield the end of a file's content, then a longer end, for callers to whom the first is not enough.

    Parameters
    ----------
    path : str or Path
        A file, plain or compressed with bzip2 or gzip (detected by its first bytes).

    Yields
    ------
    bytes
        The end of the decompressed content; the longest has at least 64 kB, or the whole content. Nothing is yielded
        for a truncated bzip2 file.

    Raises
    ------
    OSError, EOFError
        If the file cannot be read, or its end does not decompress.
    """
    with open(path, "rb") as file:
        magic = file.read(3)
        if magic == b"BZh":
            file.seek(max(file.seek(0, 2) - TWO_BLOCKS, 0))
            yield from _last_blocks(file.read())
        elif magic.startswith(b"\x1f\x8b"):
            yield _end_of_gzip(path)
        else:
            file.seek(max(file.seek(0, 2) - TAIL, 0))
            yield file.read()


def _end_of_gzip(path: Path) -> bytes:
    """Return the last bytes of a gzip file; it has no independent blocks, so all of it is decompressed."""
    end = b""
    with gzip.open(path) as file:
        while piece := file.read(TAIL):
            end = end[-TAIL:] + piece
    return end


def _last_blocks(compressed: bytes) -> Iterator[bytes]:
    """Yield the content of the last bzip2 block, then of the last two."""
    behind = bits_behind_end(compressed)
    if behind is None:
        return
    end = 8 * len(compressed) - behind - 48
    content = b""
    for _ in range(2):
        start = _last_start(compressed, end)
        if start is None:
            return
        content = _decompress(compressed, start, end) + content
        yield content
        end = start


def _last_start(compressed: bytes, end: int) -> int | None:
    """Return the bit offset at which the last block before the bit `end` begins, None if there is none."""
    found = []
    for shift in range(8):
        word = BLOCK_START << (8 - shift)
        middle = word.to_bytes(7, "big")[1:6]  # bytes that are whole at any bit offset
        place = compressed.rfind(middle, 0, end // 8)
        while place > 0:
            around = int.from_bytes(compressed[place - 1 : place + 6].ljust(7, b"\0"), "big")
            if (around ^ word) >> (8 - shift) & (2**48 - 1) == 0:
                found.append(8 * (place - 1) + shift)
                break
            place = compressed.rfind(middle, 0, place + 4)
    return max(found, default=None)


def _decompress(compressed: bytes, start: int, end: int) -> bytes:
    """Decompress one block as a stream of its own, whose CRC is that of the block."""
    last = -(-end // 8)
    bits = int.from_bytes(compressed[start // 8 : last], "big") >> (8 * last - end) & ((1 << (end - start)) - 1)
    crc = bits >> (end - start - 80) & 0xFFFFFFFF
    length = end - start + 80
    stream = (bits << 80 | BZIP2_END << 32 | crc) << (-length % 8)
    return bz2.BZ2Decompressor().decompress(b"BZh9" + stream.to_bytes(-(-length // 8), "big"))
