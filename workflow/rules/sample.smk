# Stage sample: which galaxies, in which order, in which fold.


# Select each galaxy once, order them along the sky, split them into chunks.
rule select_galaxies:
    input:
        galaxies=rules.query_galaxies.output.galaxies,
        published=f"{RUN}/archive/published.parquet" if PUBLISHED else [],
    output:
        galaxies=f"{RUN}/sample/galaxies.parquet",
        counts=f"{RUN}/sample/counts.csv",
    log:
        f"{RUN}/logs/select_galaxies.log",
    benchmark:
        f"{RUN}/benchmarks/select_galaxies.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=CONFIG.sample.params() | ({"others": True} if CONFIG.archive.query else {}),
        version=VERSION["sample"],
    message:
        "Selecting galaxies"
    script:
        "../scripts/select_galaxies.py"


# Assign the galaxies of one trial to training, validation and test parts.
rule assign_folds:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
    output:
        folds=f"{RUN}/sample/folds-{{trial}}.parquet",
    log:
        f"{RUN}/logs/assign_folds/{{trial}}.log",
    benchmark:
        f"{RUN}/benchmarks/assign_folds/{{trial}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=trial_folds,
        version=VERSION["sample"],
    message:
        "Folds of trial {wildcards.trial}"
    script:
        "../scripts/assign_folds.py"
