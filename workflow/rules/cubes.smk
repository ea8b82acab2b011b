# Stage cubes: images of each galaxy in each band, one Zarr shard a chunk.

COORDINATES = ("object_id", "ra", "dec", "band")


# Create the store: its arrays and coordinates, without shards. Any change of them also changes the group's file.
rule create_store:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
    output:
        group=f"{RUN}/cubes.zarr/zarr.json",
        arrays=[f"{RUN}/cubes.zarr/{name}/zarr.json" for name in ("flux", "depth", *COORDINATES)],
        coordinates=[f"{RUN}/cubes.zarr/{name}/c/0" for name in COORDINATES],
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
        **CONFIG.cubes.grid_params(),
        chunks=CONFIG.sample.chunks,
        precision=CONFIG.cubes.precision,
        version=VERSION["cubes"],
    message:
        "Laying out the store of cubes"
    script:
        "../scripts/create_store.py"
