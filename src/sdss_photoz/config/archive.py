"""Where the catalogue and the frames come from."""

from typing import Literal

from sdss_photoz.config.block import Block, how, what


class Archive(Block):
    """Where the catalogue and the frames come from."""

    service: Literal["embedded", "casjobs", "skyserver"] = what(
        "embedded",
        "Service for the SQL queries: the simulated sky; CasJobs, with an account; or the anonymous SkyServer.",
    )
    release: int = what(12, "Data release.", ge=12, le=18)
    region: str | None = what(None, "Box of `regions` that the queries are limited to; none: the whole sky.")
    query: str | None = what(
        None, "Path of a query of the galaxies, an SQL file, in place of the package's; none: the package's."
    )
    window_flist: str | None = what(
        None, "Path of the survey's window_flist.fits, to read the fields from; none: they are queried."
    )
    casjobs: str = how("https://skyserver.sdss.org/CasJobs/RestApi", "Address of CasJobs.")
    login: str = how(
        "https://apps.sciserver.org/login-portal/keystone/v3/tokens", "Address of SciServer's token service."
    )
    skyserver: str = how("https://skyserver.sdss.org", "Address of the SkyServer.")
    sas: str | None = how(
        None,
        "Root of the Science Archive Server or a mirror of it, as file:// or http(s):// URL; "
        "none: the frames of the embedded archive, or the survey's own server.",
    )
    mirror: str | None = how(
        None, "Folder where fetched frames are kept; none: archive/sas of the run. A file:// archive is read in place."
    )
    missing_fraction: float = how(
        0.0, "Largest fraction of the needed frames that the archive may lack before the run stops.", ge=0, le=1
    )
    connections: int = how(4, "Connections of one job to the archive of frames.", ge=1, le=16)
    on_head_node: bool = how(
        False, "On a cluster, download frames where Snakemake runs, not in jobs: for nodes without the internet."
    )
    queries_per_minute: float = how(30.0, "Requests a minute to the query services, all jobs together.", gt=0)
    poll_seconds: float = how(5.0, "First interval at which a batch job is polled (s); it grows to a minute.", gt=0)
    query_hours: float = how(24.0, "Longest time of a batch job from its submission (hours).", gt=0)
    timeout_seconds: float = how(
        90.0, "Timeout of a connection without data (s): CasJobs can take 60 s to answer.", gt=0
    )
    patience_minutes: float = how(30.0, "How long a failed request is retried (minutes).", ge=0)
    consent_bytes: int = how(
        10**12, "Largest transfer of frames (bytes) that starts without the archive's help desk being told.", ge=0
    )
    help_desk_told: bool = how(False, "The archive's help desk was told of a transfer above consent_bytes.")
