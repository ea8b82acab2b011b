"""Ask the archive where each field lies on the sky."""

from sdss_photoz.archive.query import query_fields
from sdss_photoz.config import Archive
from sdss_photoz.files import write_parquet
from sdss_photoz.stage import stage

with stage(snakemake):
    fields = query_fields(Archive(release=snakemake.params.release), snakemake.input.catalog)
    write_parquet(snakemake.output.fields, fields)
