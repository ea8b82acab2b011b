# Stage archive: the catalogue and the frames.

SKY_PROCESSES = max(2, min(16, CONFIG.embedded.fields // 5))  # each simulates a field at a time


# Simulate a sky in the archive's own form: a catalogue to query, and frames in the archive's layout.
rule build_embedded_archive:
    output:
        catalog=f"{RUN}/archive/catalog.duckdb",
        frames=f"{RUN}/archive/frames.csv",
    log:
        f"{RUN}/logs/build_embedded_archive.log",
    benchmark:
        f"{RUN}/benchmarks/build_embedded_archive.tsv"
    conda:
        "../../envs/data.yaml"
    threads: SKY_PROCESSES
    resources:
        mem_mb=1500 + 700 * SKY_PROCESSES,
        runtime=60,
    params:
        settings=CONFIG.embedded.params(),
        release=CONFIG.archive.release,
        version=VERSION["embedded"],
    message:
        "Simulating the sky of the embedded archive"
    script:
        "../scripts/build_embedded_archive.py"


# Query the galaxies of the sample, as the survey's tables have them.
rule query_galaxies:
    input:
        catalog=catalog,
    output:
        galaxies=f"{RUN}/archive/galaxies.parquet",
    log:
        f"{RUN}/logs/query_galaxies.log",
    benchmark:
        f"{RUN}/benchmarks/query_galaxies.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1500,
        archive_connections=1,
    params:
        asked=asked_of_archive(but=["window_flist", "query"]) | OWN_QUERY,
        version=VERSION["archive"],
    message:
        "Querying galaxies"
    script:
        "../scripts/query_galaxies.py"


# Query where each field lies on the sky.
rule query_fields:
    input:
        catalog=rules.build_embedded_archive.output.catalog if EMBEDDED else [],
    output:
        fields=f"{RUN}/archive/fields.parquet",
    log:
        f"{RUN}/logs/query_fields.log",
    benchmark:
        f"{RUN}/benchmarks/query_fields.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=1500,
        archive_connections=1,
    params:
        asked=asked_of_archive(but=["query"]),
        version=VERSION["archive"],
    message:
        "Querying fields"
    script:
        "../scripts/query_fields.py"


# Count the frames that the run needs, and refuse a large transfer unless the archive's help desk was told of it.
rule plan_frames:
    input:
        galaxies=f"{RUN}/sample/galaxies.parquet",
        fields=rules.query_fields.output.fields,
    output:
        plan=f"{RUN}/archive/plan.json",
    log:
        f"{RUN}/logs/plan_frames.log",
    benchmark:
        f"{RUN}/benchmarks/plan_frames.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        **CONFIG.cubes.grid_params(),
        version=VERSION["archive"],
    message:
        "Counting frames"
    script:
        "../scripts/plan_frames.py"


# Fetch the frames that one chunk of galaxies needs, and list them.
rule download_frames:
    input:
        archive=rules.build_embedded_archive.output.frames if EMBEDDED else [],
        galaxies=f"{RUN}/sample/galaxies.parquet",
        fields=rules.query_fields.output.fields,
        plan=rules.plan_frames.output.plan,
    output:
        manifest=f"{RUN}/archive/frames/chunk-{{chunk}}.parquet",
    log:
        f"{RUN}/logs/download_frames/chunk-{{chunk}}.log",
    benchmark:
        f"{RUN}/benchmarks/download_frames/chunk-{{chunk}}.tsv"
    localrule: CONFIG.archive.on_head_node
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=download_runtime,
        archive_connections=0 if CONFIG.frames_come_later else CONFIG.archive.connections,
    params:
        **CONFIG.cubes.grid_params(),
        release=CONFIG.archive.release,
        version=VERSION["archive"],
    message:
        "Frames of chunk {wildcards.chunk}"
    script:
        "../scripts/download_frames.py"
