# Stage cubes, cubes.source: frames. Cubes are cut from the frames of the archive.


# Cut the cubes of one chunk from its frames; the shard itself is the output.
rule make_cubes:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
        fields=rules.query_fields.output.fields,
        manifest=rules.download_frames.output.manifest,
        store=rules.create_store.output.group,
    output:
        flux=f"{RUN}/cubes.zarr/flux/c/{{chunk}}/0/0/0",
        depth=f"{RUN}/cubes.zarr/depth/c/{{chunk}}/0",
        quality=f"{RUN}/cubes/quality-{{chunk}}.parquet",
    log:
        f"{RUN}/logs/make_cubes/chunk-{{chunk}}.log",
    benchmark:
        f"{RUN}/benchmarks/make_cubes/chunk-{{chunk}}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=round(1000 * CONFIG.cubes.memory_gb),
        runtime=cubes_runtime,
        archive_connections=CONFIG.archive.connections if CONFIG.frames_come_later else 0,
    params:
        **CONFIG.cubes.grid_params(),
        release=CONFIG.archive.release,
        stacked=stacked(),
        version=VERSION["cubes"],
    message:
        "Cubes of chunk {wildcards.chunk}"
    script:
        "../scripts/make_cubes.py"
