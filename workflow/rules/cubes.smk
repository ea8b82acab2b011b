# Stage cubes: 64 x 64 x 5 images, one Zarr shard a chunk.


# Lay out the store: its arrays, without a single shard.
rule create_store:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
    output:
        group=f"{RUN}/cubes.zarr/zarr.json",
        flux=f"{RUN}/cubes.zarr/flux/zarr.json",
        depth=f"{RUN}/cubes.zarr/depth/zarr.json",
    log:
        f"{RUN}/logs/create_store.log",
    benchmark:
        f"{RUN}/benchmarks/create_store.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        chunks=CONFIG.sample.chunks,
        version=VERSION["cubes"],
    message:
        "Laying out the store of cubes"
    script:
        "../scripts/create_store.py"
