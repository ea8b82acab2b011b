"""Lay out the store of cubes with its coordinates, without a single shard."""

from pathlib import Path

import pandas as pd

from sdss_photoz.cubes.store import create_store
from sdss_photoz.stage import stage

with stage(snakemake):
    create_store(
        Path(snakemake.output.group).parent,
        pd.read_parquet(snakemake.input.galaxies, columns=["object_id", "ra", "dec"]),
        snakemake.params.chunks,
        precision=snakemake.params.precision,
        quality="../cubes/quality-{chunk}.parquet",
    )
