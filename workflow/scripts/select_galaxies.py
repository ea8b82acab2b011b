"""Select each galaxy once, order them along the sky, split them into chunks."""

import pandas as pd

from sdss_photoz.config import Sample
from sdss_photoz.files import write_csv, write_parquet
from sdss_photoz.sample.selection import select
from sdss_photoz.stage import stage

with stage(snakemake):
    settings = dict(snakemake.params.settings)
    others = settings.pop("others", False)  # whether the columns of a query of the user's are kept
    galaxies, counts = select(
        pd.read_parquet(snakemake.input.galaxies),
        Sample(**settings),
        pd.read_parquet(snakemake.input.published) if snakemake.input.published else None,
        others,
    )
    write_csv(snakemake.output.counts, counts)
    write_parquet(snakemake.output.galaxies, galaxies)
