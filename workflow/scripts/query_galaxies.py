"""Ask the archive for the galaxies of the sample."""

from sdss_photoz.archive.query import query_galaxies
from sdss_photoz.config import Archive
from sdss_photoz.files import write_parquet
from sdss_photoz.stage import stage

with stage(snakemake):
    galaxies = query_galaxies(Archive(**snakemake.params.settings), snakemake.input.catalog)
    write_parquet(snakemake.output.galaxies, galaxies)
