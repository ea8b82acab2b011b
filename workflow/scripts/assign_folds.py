"""Assign the galaxies of one trial to training, validation and test parts."""

import pandas as pd

from sdss_photoz.config import Folds, Region
from sdss_photoz.files import write_parquet
from sdss_photoz.sample.folds import assign_folds
from sdss_photoz.stage import stage

with stage(snakemake):
    regions = {name: Region(**box) for name, box in snakemake.params.settings["regions"].items()}
    folds = assign_folds(
        pd.read_parquet(snakemake.input.galaxies),
        Folds(**snakemake.params.settings["folds"]),
        regions,
        snakemake.params.settings.get("where"),
        f"trials.{snakemake.wildcards.trial}.where",
    )
    write_parquet(snakemake.output.folds, folds)
