"""Score one trial beside its baselines."""

from pathlib import Path

from sdss_photoz.config import check
from sdss_photoz.evaluation.evaluate import evaluate
from sdss_photoz.scores.grid import Grid
from sdss_photoz.stage import stage
from sdss_photoz.targets.label import Label

with stage(snakemake):
    config, name = check(snakemake.config), snakemake.wildcards.trial
    trial, target = config.trials[name], config.trial_target(name)
    evaluate(
        galaxies=Path(snakemake.input.galaxies),
        folds=Path(snakemake.input.folds),
        quality=[Path(path) for path in snakemake.input.quality],
        member_pdfs=dict(zip(trial.fold_numbers, map(Path, snakemake.input.pdfs), strict=True)),
        photoz=Path(snakemake.output.photoz),
        ensemble=Path(snakemake.output.ensemble),
        scores=Path(snakemake.output.metrics),
        trial=name,
        fold_count=snakemake.params.fold_count,
        settings=config.evaluation,
        label=Label(target.column, Grid(target.low, target.high, target.bins), target.kind),
        bands=config.trial_inputs(name).image_grid(config.cubes.grid).bands,
        control=trial.control,
        fields=Path(snakemake.input.fields) if snakemake.input.fields else None,
    )
