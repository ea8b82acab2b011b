# Stage report: a page of results.


FLOOR = Path(workflow.basedir) / "config" / "embedded-large.floor.json"
WIDE = not PUBLISHED and not CONFIG.frames_come_later  # else there are no frames to cut wide images from


if WIDE:

    # Draw wide images of a few galaxies from the archive's frames.
    rule draw_context:
        input:
            galaxies=rules.select_galaxies.output.galaxies,
            fields=rules.query_fields.output.fields,
            manifests=expand(rules.download_frames.output.manifest, chunk=CHUNKS),
        output:
            context=f"{RUN}/report/context.png",
        log:
            f"{RUN}/logs/draw_context.log",
        benchmark:
            f"{RUN}/benchmarks/draw_context.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            **CONFIG.cubes.grid_params(),
            release=CONFIG.archive.release,
            version=VERSION["report"],
        message:
            "Galaxies in their surroundings"
        script:
            "../scripts/draw_context.py"


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
        shards=expand([rules.make_cubes.output.flux, rules.make_cubes.output.depth], chunk=CHUNKS),
        quality=expand(rules.make_cubes.output.quality, chunk=CHUNKS),
        context=rules.draw_context.output.context if WIDE else [],
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
        floor=files.sha256(FLOOR) if EMBEDDED and FLOOR.is_file() else None,  # not its path, which a moved folder changes
        version=VERSION["report"],
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
