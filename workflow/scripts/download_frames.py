"""Fetch the frames that one chunk of galaxies needs, and list them."""

import pandas as pd

from sdss_photoz.config import check
from sdss_photoz.files import write_parquet
from sdss_photoz.frames.footprint import fields_near, overlapping_frames
from sdss_photoz.frames.mirror import deferred_manifest, manifest
from sdss_photoz.stage import stage

with stage(snakemake):
    config = check(snakemake.config)
    chunk = int(snakemake.wildcards.chunk)
    galaxies = pd.read_parquet(snakemake.input.galaxies, filters=[("chunk", "==", chunk)])
    grid = config.cubes.grid
    ra, dec = galaxies["ra"], galaxies["dec"]
    overlaps = overlapping_frames(ra, dec, fields_near(snakemake.input.fields, ra, dec, grid=grid), grid)
    if config.frames_come_later:
        table = deferred_manifest(overlaps, snakemake.params.release)
    else:
        table = manifest(
            overlaps,
            sas=config.sas,
            mirror=config.mirror,
            release=snakemake.params.release,
            archive=config.archive,
            missing_fraction=config.archive.missing_fraction,
            workers=snakemake.resources.archive_connections,
            label=f"frames of chunk {chunk}",
        )
    write_parquet(snakemake.output.manifest, table)
