"""The archive is asked before much of it is taken."""

from urllib.parse import urlsplit

from sdss_photoz.errors import UserError

HELP_DESK = "help@sdss.org"
FRAME_BYTES = 3_000_000  # a compressed frame; 19 real ones have 3.3 MB on average
SCALES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "bytes"))


def size(amount: float) -> str:
    """A number of bytes as people write it, for example ``3.1 TB``."""
    scale, unit = next((pair for pair in SCALES if amount >= 0.9995 * pair[0]), SCALES[-1])  # no 1e+03 GB
    return f"{amount / scale:.3g} {unit}"


def is_remote(config) -> bool:
    """Whether frames come over the network."""
    return urlsplit(config.sas).scheme in ("http", "https")


def check_consent(config, bytes_to_fetch: float) -> None:
    """Refuse a large transfer that the archive's help desk was not told of.

    Parameters
    ----------
    config : config.Config
        `archive.consent_bytes` is the limit, `archive.help_desk_told` lifts it; a file:// archive has none.
    bytes_to_fetch : float
        What the run would fetch.

    Raises
    ------
    UserError
        Above the limit: it names the address of the help desk and the key to set.
    """
    archive = config.archive
    if is_remote(config) and bytes_to_fetch > archive.consent_bytes and not archive.help_desk_told:
        raise UserError(
            f"some {size(bytes_to_fetch)} of frames would be fetched from {urlsplit(config.sas).netloc}, more than "
            f"archive.consent_bytes ({size(archive.consent_bytes)}): tell the archive's help desk ({HELP_DESK}) what "
            "you will fetch and when, then set archive.help_desk_told: true; or name a copy of the frames in "
            "archive.sas or archive.mirror."
        )
