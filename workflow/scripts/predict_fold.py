"""Predict the test galaxies of one fold with each member of its ensemble."""

from pathlib import Path

import pandas as pd

from sdss_photoz.config import check
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.stage import stage
from sdss_photoz.targets.head import head_of
from sdss_photoz.training.jobs import predict

with stage(snakemake):
    trial, config = snakemake.wildcards.trial, check(snakemake.config)
    predict(
        pd.read_parquet(snakemake.input.galaxies),
        pd.read_parquet(snakemake.input.folds),
        Path(snakemake.input.store).parent,
        config.trial_training(trial),
        Inputs.of(config.trial_inputs(trial), config.cubes.grid),
        head_of(config.trial_target(trial), config.trial_training(trial)),
        trial,
        int(snakemake.wildcards.fold),
        list(snakemake.input.models),
        snakemake.output.pdfs,
        config.trials[trial].control,
    )
