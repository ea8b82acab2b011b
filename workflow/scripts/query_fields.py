"""Query where each field lies on the sky."""

from pathlib import Path

from sdss_photoz.archive.query import remove_state
from sdss_photoz.archive.services import query_fields
from sdss_photoz.config import check
from sdss_photoz.files import write_parquet
from sdss_photoz.stage import stage

with stage(snakemake):
    config = check(snakemake.config)
    folder = Path(snakemake.output.fields).parent
    write_parquet(snakemake.output.fields, query_fields(config.archive, folder, config.region))
    remove_state(folder, "fields")
