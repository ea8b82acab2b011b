"""Count the frames that the run needs, and check the consent to fetch them."""

import pandas as pd

from sdss_photoz.config import check
from sdss_photoz.files import write_json
from sdss_photoz.frames.consent import check_consent
from sdss_photoz.frames.needs import bytes_to_fetch, frames_needed, summary
from sdss_photoz.stage import stage

with stage(snakemake):
    config = check(snakemake.config)
    galaxies = pd.read_parquet(snakemake.input.galaxies, columns=["ra", "dec", "chunk"])
    frames = frames_needed(galaxies, snakemake.input.fields, config.cubes.grid)
    check_consent(config, bytes_to_fetch(config, frames))
    write_json(snakemake.output.plan, summary(frames))
