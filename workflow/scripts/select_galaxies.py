"""Keep each galaxy once, order them along the sky, cut the order into chunks."""

import pandas as pd

from sdss_photoz.config import Sample
from sdss_photoz.files import write_csv, write_parquet
from sdss_photoz.sample.selection import select
from sdss_photoz.stage import stage

with stage(snakemake):
    galaxies, counts = select(
        pd.read_parquet(snakemake.input.galaxies),
        Sample(**snakemake.params.settings),
        pd.read_parquet(snakemake.input.published) if snakemake.input.published else None,
    )
    write_csv(snakemake.output.counts, counts)
    write_parquet(snakemake.output.galaxies, galaxies)
