"""Large transfers need the consent of the archive's help desk."""

from urllib.parse import urlsplit

from sdss_photoz.errors import UserError

HELP_DESK = "help@sdss.org"
FRAME_BYTES = 3_000_000  # of a compressed frame; 19 real ones have 3.3 MB on average
BYTE_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "bytes"))


def format_bytes(amount: float) -> str:
    """Format a number of bytes with three digits and a unit, for example ``3.1 TB``."""
    scale, unit = next((pair for pair in BYTE_UNITS if amount >= 0.9995 * pair[0]), BYTE_UNITS[-1])  # not 1e+03 GB
    return f"{amount / scale:.3g} {unit}"


def is_remote(config) -> bool:
    """Whether frames are fetched over the network."""
    return urlsplit(config.sas).scheme in ("http", "https")


def check_consent(config, bytes_to_fetch: float) -> None:
    """Refuse a large transfer unless the archive's help desk was told of it.

    Parameters
    ----------
    config : config.Config
        `archive.consent_bytes` is the limit, `archive.help_desk_told` removes it; a file:// archive has none.
    bytes_to_fetch : float
        Bytes that the run would fetch.

    Raises
    ------
    UserError
        Above the limit, with the address of the help desk and the key to set.
    """
    archive = config.archive
    if is_remote(config) and bytes_to_fetch > archive.consent_bytes and not archive.help_desk_told:
        raise UserError(
            f"some {format_bytes(bytes_to_fetch)} of frames would be fetched from {urlsplit(config.sas).netloc}, more "
            f"than archive.consent_bytes ({format_bytes(archive.consent_bytes)}): tell the archive's help desk "
            f"({HELP_DESK}) what you will fetch and when, then set archive.help_desk_told: true; or name a copy of the "
            "frames in archive.sas or archive.mirror."
        )
