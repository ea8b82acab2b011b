# Stage training: a network per trial, fold and member, and its predictions.


# Try a network of the user's on random galaxies, before cubes are cut, and measure what its trainings cost.
rule measure_network:
    output:
        cost=f"{RUN}/training/networks/{{network}}.json",
    log:
        f"{RUN}/logs/measure_network/{{network}}.log",
    priority: 100
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=measuring_memory,
        runtime=measuring_runtime,
    params:
        settings=measured_settings,
        version=VERSION["training"],
    message:
        "Measuring {wildcards.network}"
    script:
        "../scripts/measure_network.py"


# Train one member of the ensemble of one fold.
rule train_member:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
        folds=rules.assign_folds.output.folds,
        store=rules.create_store.output.group,
        shards=all_shards,
        cost=ancient(trial_cost),  # of a network of the user's; its times change no training
    output:
        model=f"{RUN}/training/{{trial}}/fold-{{fold}}/member-{{member}}.safetensors",
        history=f"{RUN}/training/{{trial}}/fold-{{fold}}/member-{{member}}.history.csv",
    log:
        f"{RUN}/logs/train_member/{{trial}}-{{fold}}-{{member}}.log",
    benchmark:
        f"{RUN}/benchmarks/train_member/{{trial}}-{{fold}}-{{member}}.tsv"
    conda:
        "../../envs/training.yaml"
    threads: trial_threads
    resources:
        mem_mb=training_memory,
        runtime=training_runtime,
        gpu=1,
    params:
        settings=trial_training,
        version=VERSION["training"],
    message:
        "Training {wildcards.trial}, fold {wildcards.fold}, member {wildcards.member}"
    script:
        "../scripts/train_member.py"


# Predict the test galaxies of one fold with each member of its ensemble.
rule predict_fold:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
        folds=rules.assign_folds.output.folds,
        store=rules.create_store.output.group,
        shards=all_shards,
        models=trial_models,
    output:
        pdfs=f"{RUN}/training/{{trial}}/fold-{{fold}}/pdfs.parquet",
    log:
        f"{RUN}/logs/predict_fold/{{trial}}-{{fold}}.log",
    benchmark:
        f"{RUN}/benchmarks/predict_fold/{{trial}}-{{fold}}.tsv"
    conda:
        "../../envs/training.yaml"
    threads: trial_threads
    resources:
        mem_mb=prediction_memory,
        runtime=prediction_runtime,
        gpu=1,
    params:
        settings=trial_prediction,
        version=VERSION["training"],
    message:
        "Predicting {wildcards.trial}, fold {wildcards.fold}"
    script:
        "../scripts/predict_fold.py"
