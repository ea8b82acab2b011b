"""Cut the cubes of one chunk from its frames."""

from pathlib import Path

import pandas as pd

from sdss_photoz.config import check
from sdss_photoz.cubes.make import make_chunk
from sdss_photoz.files import write_parquet
from sdss_photoz.frames.footprint import fields_near, overlapping_frames
from sdss_photoz.stage import stage
from sdss_photoz.surveys.great_circle import CONDITIONS

with stage(snakemake):
    config = check(snakemake.config)
    chunk = int(snakemake.wildcards.chunk)
    galaxies = pd.read_parquet(snakemake.input.galaxies, filters=[("chunk", "==", chunk)])
    ra, dec = galaxies["ra"], galaxies["dec"]
    fields = fields_near(snakemake.input.fields, ra, dec, CONDITIONS, config.cubes.grid)
    quality = make_chunk(
        galaxies,
        overlapping_frames(ra, dec, fields, config.cubes.grid),
        pd.read_parquet(snakemake.input.manifest),
        Path(snakemake.input.store).parent,
        chunk,
        sas=config.sas,
        mirror=config.mirror,
        release=snakemake.params.release,
        archive=config.archive,
        scratch=config.folder / "cubes" / "scratch" / f"chunk-{chunk}",
        scratch_gb=config.frames.scratch_gb,
        connections=max(snakemake.resources.archive_connections, 1),
        fields=fields,
        memory_gb=config.cubes.memory_gb,
        threads=snakemake.threads,
        **snakemake.params.stacked,
    )
    write_parquet(snakemake.output.quality, quality)
