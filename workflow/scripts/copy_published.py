"""Copy the cubes of one chunk from the published ones."""

import json
from pathlib import Path

import pandas as pd

from sdss_photoz.cubes.published import copy_chunk
from sdss_photoz.files import write_parquet
from sdss_photoz.stage import stage

with stage(snakemake):
    chunk = int(snakemake.wildcards.chunk)
    quality = copy_chunk(
        pd.read_parquet(snakemake.input.galaxies, filters=[("chunk", "==", chunk)]),
        pd.read_parquet(snakemake.input.published, columns=["row", "spec_id", "state"]),
        json.loads(Path(snakemake.input.place).read_text(encoding="utf-8")),
        Path(snakemake.input.store).parent,
        chunk,
    )
    write_parquet(snakemake.output.quality, quality)
