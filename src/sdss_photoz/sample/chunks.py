"""Shapes of the chunks of the sample: each is a Zarr shard of equal inner chunks."""

from sdss_photoz.errors import UserError

INNER_CHUNK = 128  # largest number of galaxies in an inner chunk of a Zarr shard


def shard_shape(n: int, chunks: int) -> tuple[int, int]:
    """Length of a Zarr shard, and of its inner chunks, for `n` galaxies in `chunks` chunks.

    The shard is ceil(n / chunks) galaxies, rounded up to a whole number of equal inner chunks of at most
    `INNER_CHUNK`. The last shard may have fewer galaxies than its length.

    Returns
    -------
    shard, inner : int
        Galaxies; shard is a multiple of inner, and chunk N starts at row N * shard.

    Raises
    ------
    UserError
        If a chunk would be empty, with the largest smaller number of chunks that works.
    """
    if n < 1:
        raise UserError(
            "the sample has no galaxies: loosen sample.r_max or sample.z_max, or look at sample/counts.csv."
        )
    shard, inner = _shape(n, chunks)
    if (chunks - 1) * shard >= n:
        works = next(fewer for fewer in range(min(chunks, n), 0, -1) if (fewer - 1) * _shape(n, fewer)[0] < n)
        raise UserError(
            f"sample.chunks is {chunks}, but {n} galaxies in shards of {shard} would leave a chunk empty: "
            f"the largest number of chunks below it that works is {works}."
        )
    return shard, inner


def _shape(n, chunks):
    length = -(-n // chunks)
    count = -(-length // INNER_CHUNK)
    inner = -(-length // count)
    return count * inner, inner


def shard_length(n: int, chunks: int) -> int:
    """Number of galaxies in a shard: see `shard_shape`."""
    return shard_shape(n, chunks)[0]
