"""Ask the archive where each field lies on the sky."""

from pathlib import Path

from sdss_photoz.archive.query import query_fields
from sdss_photoz.archive.question import forget
from sdss_photoz.config import check
from sdss_photoz.files import write_parquet
from sdss_photoz.stage import stage

with stage(snakemake):
    config = check(snakemake.config)
    folder = Path(snakemake.output.fields).parent
    write_parquet(snakemake.output.fields, query_fields(config.archive, folder, config.region))
    forget(folder, "fields")
