"""Lay out the store of cubes, without a single shard."""

from pathlib import Path

import pandas as pd

from sdss_photoz.cubes.store import create_store, selection_digest
from sdss_photoz.stage import stage

with stage(snakemake):
    galaxies = pd.read_parquet(snakemake.input.galaxies)
    chunks = snakemake.params.chunks
    create_store(
        Path(snakemake.output.group).parent,
        len(galaxies),
        chunks,
        selection_digest(galaxies["object_id"], galaxies["ra"], galaxies["dec"], chunks),
        quality="../cubes/quality-{chunk}.parquet",
    )
