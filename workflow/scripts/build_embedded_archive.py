"""Simulate the sky of the embedded archive."""

from pathlib import Path

from sdss_photoz.config import Embedded
from sdss_photoz.embedded.build import build_archive
from sdss_photoz.stage import stage

with stage(snakemake):
    build_archive(
        Embedded(**snakemake.params.settings),
        Path(snakemake.output.catalog).parent,
        release=snakemake.params.release,
        processes=snakemake.threads,
    )
