"""Train one member of the ensemble of one fold."""

from pathlib import Path

import pandas as pd

from sdss_photoz.config import check
from sdss_photoz.stage import stage
from sdss_photoz.training.jobs import train

with stage(snakemake):
    trial = snakemake.wildcards.trial
    train(
        pd.read_parquet(snakemake.input.galaxies),
        pd.read_parquet(snakemake.input.folds),
        Path(snakemake.input.store).parent,
        check(snakemake.config).trial_training(trial),
        trial,
        int(snakemake.wildcards.fold),
        int(snakemake.wildcards.member),
        snakemake.output.model,
        snakemake.output.history,
    )
