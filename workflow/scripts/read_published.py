"""Check the published cubes, and convert them to a file that can be read by rows."""

from pathlib import Path

from sdss_photoz.cubes.published import read_published
from sdss_photoz.files import write_json, write_parquet
from sdss_photoz.stage import stage

with stage(snakemake):
    table, place = read_published(snakemake.params.path, Path(snakemake.output.published).parent)
    write_parquet(snakemake.output.published, table)
    write_json(snakemake.output.place, place)
