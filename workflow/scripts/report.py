"""Write the page with its tables and figures."""

from pathlib import Path

from sdss_photoz.config import check
from sdss_photoz.evaluation.floor import read_floor
from sdss_photoz.report.page import write_report
from sdss_photoz.report.section import TrialFiles
from sdss_photoz.stage import stage

with stage(snakemake):
    config = check(snakemake.params.config)
    histories = [Path(path) for path in snakemake.input.histories]
    trials = {
        name: TrialFiles(
            photoz=Path(photoz),
            ensemble=Path(ensemble),
            metrics=Path(metrics),
            histories=[path for path in histories if path.parts[-3] == name],
        )
        for name, photoz, ensemble, metrics in zip(
            config.trials, snakemake.input.photoz, snakemake.input.ensembles, snakemake.input.metrics, strict=True
        )
    }
    write_report(
        page=Path(snakemake.output.page),
        tables=Path(snakemake.output.tables),
        figures=Path(snakemake.output.figures),
        galaxies=Path(snakemake.input.galaxies),
        counts=Path(snakemake.input.counts),
        store=Path(snakemake.input.store).parent,
        trials=trials,
        config=config,
        published=Path(snakemake.input.published) if snakemake.input.published else None,
        quality=[Path(path) for path in snakemake.input.quality],
        context=Path(snakemake.input.context) if snakemake.input.context else None,
        floor=read_floor(config),
    )
