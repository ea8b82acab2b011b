"""Create the store of cubes with its coordinates, without shards."""

from pathlib import Path

import pandas as pd

from sdss_photoz.config import check
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.stage import stage

with stage(snakemake):
    create_store(
        Path(snakemake.output.group).parent,
        pd.read_parquet(snakemake.input.galaxies, columns=["object_id", "ra", "dec"]),
        snakemake.params.chunks,
        precision=snakemake.params.precision,
        grid=check(snakemake.config).cubes.grid,
        quality="../cubes/quality-{chunk}.parquet",
    )
