"""Score one trial beside its baselines."""

from pathlib import Path

from sdss_photoz.config import Evaluation, check
from sdss_photoz.evaluation.evaluate import evaluate
from sdss_photoz.stage import stage

with stage(snakemake):
    trial = check(snakemake.config).trials[snakemake.wildcards.trial]
    evaluate(
        galaxies=Path(snakemake.input.galaxies),
        folds=Path(snakemake.input.folds),
        quality=[Path(path) for path in snakemake.input.quality],
        member_pdfs=dict(zip(trial.fold_numbers, map(Path, snakemake.input.pdfs), strict=True)),
        photoz=Path(snakemake.output.photoz),
        ensemble=Path(snakemake.output.ensemble),
        scores=Path(snakemake.output.metrics),
        trial=snakemake.wildcards.trial,
        fold_count=snakemake.params.fold_count,
        settings=Evaluation(**snakemake.params.settings),
        control=trial.control,
        fields=Path(snakemake.input.fields) if snakemake.input.fields else None,
    )
