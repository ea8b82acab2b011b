# Stage cubes, cubes.source: published. Cubes are copied from the file that the authors of the paper published.

from sdss_photoz.cubes.npz import identity

try:
    PUBLISHED_IDENTITY = identity(CONFIG.cubes.published)  # a parameter, so that a replaced file is read again
except UserError as error:
    raise SystemExit(f"Configuration: cubes.published: {error}") from None


localrules:
    compare_labels,


# Check the published file, and convert its cubes to a file that can be read by rows.
rule read_published:
    output:
        published=f"{RUN}/archive/published.parquet",
        place=f"{RUN}/archive/published.json",
    log:
        f"{RUN}/logs/read_published.log",
    benchmark:
        f"{RUN}/benchmarks/read_published.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        path=CONFIG.cubes.published,
        identity=PUBLISHED_IDENTITY,
        version=VERSION["cubes"],
    message:
        "Reading {params.path}"
    script:
        "../scripts/read_published.py"


# List the labels of the published cubes that differ from the archive's values.
rule compare_labels:
    input:
        galaxies=rules.query_galaxies.output.galaxies,
        published=rules.read_published.output.published,
    output:
        labels=f"{RUN}/sample/published.csv",
    log:
        f"{RUN}/logs/compare_labels.log",
    benchmark:
        f"{RUN}/benchmarks/compare_labels.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        version=VERSION["sample"],
    message:
        "Comparing the published labels with the archive"
    script:
        "../scripts/compare_labels.py"


# Copy the cubes of one chunk; the shard itself is the output.
rule make_cubes:
    input:
        galaxies=rules.select_galaxies.output.galaxies,
        published=rules.read_published.output.published,
        place=rules.read_published.output.place,
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
        runtime=60,
    params:
        version=VERSION["cubes"],
    message:
        "Published cubes of chunk {wildcards.chunk}"
    script:
        "../scripts/copy_published.py"
