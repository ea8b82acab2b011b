# Stage evaluation: distributions, scores with their errors, and the baselines.


# Score one trial, and on the same galaxies the archive's redshifts and local-linear regression.
rule evaluate_trial:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
        folds=rules.assign_folds.output.folds,
        quality=expand(rules.make_cubes.output.quality, chunk=CHUNKS),
        pdfs=trial_pdfs,
        fields=rules.query_fields.output.fields if CONFIG.evaluation.controls and not PUBLISHED else [],
    output:
        photoz=f"{RUN}/evaluation/{{trial}}/photoz.parquet",
        ensemble=f"{RUN}/evaluation/{{trial}}/photoz.hdf5",
        metrics=f"{RUN}/evaluation/{{trial}}/metrics.json",
    log:
        f"{RUN}/logs/evaluate_trial/{{trial}}.log",
    benchmark:
        f"{RUN}/benchmarks/evaluate_trial/{{trial}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=trial_evaluation,
        fold_count=trial_fold_count,
        version=VERSION["evaluation"],
    message:
        "Evaluating {wildcards.trial}"
    script:
        "../scripts/evaluate_trial.py"
