# Stage report: one page that shows what came out.


# Write the page with its tables and figures.
rule report:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
        counts=rules.select_galaxies.output.counts,
        published=f"{RUN}/sample/published.csv" if PUBLISHED else [],
        photoz=expand(rules.evaluate_trial.output.photoz, trial=CONFIG.trials),
        ensembles=expand(rules.evaluate_trial.output.ensemble, trial=CONFIG.trials),
        metrics=expand(rules.evaluate_trial.output.metrics, trial=CONFIG.trials),
        histories=histories,
        store=rules.create_store.output.group,
        shards=expand(rules.make_cubes.output, chunk=CHUNKS),
    output:
        page=f"{RUN}/report/index.html",
        tables=directory(f"{RUN}/report/tables"),
        figures=directory(f"{RUN}/report/figures"),
    log:
        f"{RUN}/logs/report.log",
    benchmark:
        f"{RUN}/benchmarks/report.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=CONFIG.params(),
        version=VERSION["report"],
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
