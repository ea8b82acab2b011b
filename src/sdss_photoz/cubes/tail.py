"""The end of a frame's file without what stands before it: a bzip2 block decompresses on its own.

A frame's table of astrometric terms is the last thing in its file. To get there through the whole file takes ten times
as long as to decompress the last block of 900,000 bytes alone.
"""

import bz2
import gzip
from collections.abc import Iterator
from pathlib import Path

from sdss_photoz.archive.flaws import BZIP2_END, bits_behind_end

BLOCK_START = 0x314159265359  # 48 bits that open a bzip2 block, at any bit, followed by its CRC of 32
TWO_BLOCKS = 2_000_000  # bytes: a block of noise takes a little more than its 900,000
PLAIN = 1 << 16  # bytes of a file that is not compressed


def tails(path) -> Iterator[bytes]:
    """Ends of a file's content: a first one, then a longer one where the first may not be enough.

    Parameters
    ----------
    path : str or Path
        A file, plain or compressed with bzip2 or gzip (told by its first bytes).

    Yields
    ------
    bytes
        The last of the content. The longest has 64 kB or more, where there is so much; none comes where bzip2 is cut
        off.

    Raises
    ------
    OSError, EOFError
        Where the file cannot be read, or what stands there does not decompress.
    """
    with open(path, "rb") as file:
        magic = file.read(3)
        if magic == b"BZh":
            file.seek(max(file.seek(0, 2) - TWO_BLOCKS, 0))
            yield from _last_blocks(file.read())
        elif magic.startswith(b"\x1f\x8b"):
            yield _end_of_gzip(path)
        else:
            file.seek(max(file.seek(0, 2) - PLAIN, 0))
            yield file.read()


def _end_of_gzip(path: Path) -> bytes:
    """It has no blocks to begin with, so all of it is decompressed."""
    end = b""
    with gzip.open(path) as file:
        while piece := file.read(PLAIN):
            end = end[-PLAIN:] + piece
    return end


def _last_blocks(compressed: bytes) -> Iterator[bytes]:
    """The content of the last bzip2 block, then that of the last two."""
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
    """The bit at which the last block before a bit begins."""
    found = []
    for shift in range(8):
        word = BLOCK_START << (8 - shift)
        middle = word.to_bytes(7, "big")[1:6]  # whole bytes wherever the word begins
        place = compressed.rfind(middle, 0, end // 8)
        while place > 0:
            around = int.from_bytes(compressed[place - 1 : place + 6].ljust(7, b"\0"), "big")
            if (around ^ word) >> (8 - shift) & (2**48 - 1) == 0:
                found.append(8 * (place - 1) + shift)
                break
            place = compressed.rfind(middle, 0, place + 4)
    return max(found, default=None)


def _decompress(compressed: bytes, start: int, end: int) -> bytes:
    """The content of one block, as a stream of its own: its CRC is then that of the stream too."""
    last = -(-end // 8)
    bits = int.from_bytes(compressed[start // 8 : last], "big") >> (8 * last - end) & ((1 << (end - start)) - 1)
    crc = bits >> (end - start - 80) & 0xFFFFFFFF
    length = end - start + 80
    stream = (bits << 80 | BZIP2_END << 32 | crc) << (-length % 8)
    return bz2.BZ2Decompressor().decompress(b"BZh9" + stream.to_bytes(-(-length // 8), "big"))
