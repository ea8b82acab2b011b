"""Draw a few galaxies in their surroundings."""

from pathlib import Path

import pandas as pd

from sdss_photoz.config import check
from sdss_photoz.frames.mirror import archive_folder
from sdss_photoz.report.sections.context import write_context
from sdss_photoz.stage import stage

with stage(snakemake):
    config = check(snakemake.config)
    write_context(
        Path(snakemake.output.context),
        galaxies=pd.read_parquet(snakemake.input.galaxies, columns=["object_id", "ra", "dec", "z_spec"]),
        fields=snakemake.input.fields,
        manifests=snakemake.input.manifests,
        folder=archive_folder(config.sas) or config.mirror,
        release=snakemake.params.release,
        cubes=config.cubes.grid,
    )
