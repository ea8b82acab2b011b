"""The simulated sky."""

from sdss_photoz.config.block import Block, what


class Embedded(Block):
    """The simulated sky behind the embedded archive."""

    seed: int = what(20181, "Seed of the sky: the same seed gives the same bytes on one kind of processor.", ge=0)
    fields: int = what(20, "Fields observed once, in strips of adjacent fields.", ge=2, le=500)
    galaxies_per_field: int = what(250, "Galaxies of the Main Galaxy Sample in a field.", ge=20, le=350)
    visits: int = what(6, "Runs that observe the one patch of the equatorial stripe.", ge=1, le=64)
