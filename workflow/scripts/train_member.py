"""Train one member of the ensemble of one fold."""

from pathlib import Path

import pandas as pd

from sdss_photoz.config import check
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.stage import stage
from sdss_photoz.targets.head import head_of
from sdss_photoz.training.jobs import train

with stage(snakemake):
    trial, fold, member = (snakemake.wildcards[name] for name in ("trial", "fold", "member"))
    config = check(snakemake.config)
    train(
        pd.read_parquet(snakemake.input.galaxies),
        pd.read_parquet(snakemake.input.folds),
        Path(snakemake.input.store).parent,
        config.trial_training(trial),
        Inputs.of(config.trial_inputs(trial), config.cubes.grid),
        head_of(config.trial_target(trial), config.trial_training(trial)),
        trial,
        int(fold),
        int(member),
        snakemake.output.model,
        snakemake.output.history,
        scratch=config.folder / "training" / ".scratch",
        scalars=config.folder / "logs" / "tensorboard" / trial / f"fold-{fold}" / f"member-{member}",
        control=config.trials[trial].control,
    )
