# Stage cubes: 64 x 64 x 5 images, one Zarr shard a chunk.

COORDINATES = ("object_id", "ra", "dec", "band")


# Lay out the store: its arrays and coordinates, without a single shard. Whatever changes them changes the group too.
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
        chunks=CONFIG.sample.chunks,
        precision=CONFIG.cubes.precision,
        version=VERSION["cubes"],
    message:
        "Laying out the store of cubes"
    script:
        "../scripts/create_store.py"
