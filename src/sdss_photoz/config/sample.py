"""Which galaxies, in which order."""

from sdss_photoz.config.block import Block, what


class Sample(Block):
    """Which galaxies, in which order."""

    r_max: float = what(17.8, "Faint limit in dereddened Petrosian r (mag).", gt=10, le=22)
    z_min: float = what(0.0, "Lowest spectroscopic redshift.", ge=0, lt=10)
    z_max: float = what(0.4, "Highest spectroscopic redshift.", gt=0, le=10)
    where: str | None = what(
        None, "Condition on the catalogue's columns that galaxies must fulfil, as 'ebv < 0.1 and n_neighbors == 0'."
    )
    match_radius: float = what(2.0, "Objects nearer than this are one galaxy (arcsec).", ge=0, le=10)
    chunks: int = what(4, "Number of chunks: contiguous pieces of the sky, one Zarr shard and one job each.", ge=1)
