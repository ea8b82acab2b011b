"""Whether fetched frames are kept."""

from sdss_photoz.config.block import Block, how


class Frames(Block):
    """Whether fetched frames are kept."""

    keep: bool = how(True, "Keep fetched frames in the mirror; else each cubes job fetches its own and deletes them.")
    scratch_gb: float = how(2.0, "Disk limit of one cubes job for frames that are not kept (GB).", ge=0.1)
