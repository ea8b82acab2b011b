"""Scores, their errors, and the methods that the network is compared with."""

from pydantic import field_validator

from sdss_photoz.config.block import Block, what


class Evaluation(Block):
    """Scores, their errors, and the methods that the network is compared with."""

    bootstrap: int = what(300, "Bootstrap resamples of sky cells.", ge=20, le=100_000)
    bootstrap_nside: int = what(64, "HEALPix NSIDE of the sky cells that the bootstrap draws.", ge=1, le=4096)
    neighbours: int = what(100, "Neighbours of the local-linear regression.", ge=20)
    outlier: float = what(0.05, "Residual |dz| above which a galaxy is an outlier.", gt=0, lt=1)
    controls: bool = what(
        False,
        "Score the prior, and as a negative control a forest of position, depth, noise, seeing and order alone.",
    )
    seed: int = what(7, "Seed of the bootstrap.", ge=0)

    @field_validator("bootstrap_nside")
    @classmethod
    def _divides_healpix(cls, nside):
        if nside & (nside - 1):
            raise ValueError("a power of two")
        return nside
