"""Ask the archive for the galaxies of the sample."""

from pathlib import Path

from sdss_photoz.archive.query import query_galaxies
from sdss_photoz.archive.question import forget
from sdss_photoz.config import check
from sdss_photoz.files import write_parquet
from sdss_photoz.stage import stage

with stage(snakemake):
    config = check(snakemake.config)
    folder = Path(snakemake.output.galaxies).parent
    write_parquet(snakemake.output.galaxies, query_galaxies(config.archive, folder, config.region))
    forget(folder, "galaxies")
