"""Query the galaxies of the sample."""

from pathlib import Path

from sdss_photoz.archive.query import remove_state
from sdss_photoz.archive.services import query_galaxies
from sdss_photoz.config import check
from sdss_photoz.files import write_parquet
from sdss_photoz.stage import stage

with stage(snakemake):
    config = check(snakemake.config)
    folder = Path(snakemake.output.galaxies).parent
    planned = snakemake.params.asked.get("query")
    write_parquet(snakemake.output.galaxies, query_galaxies(config.archive, folder, config.region, planned))
    remove_state(folder, "galaxies")
