"""List the labels of the published cubes that are not the archive's values."""

import sys

import pandas as pd

from sdss_photoz.files import write_csv
from sdss_photoz.sample.paper_labels import cubes_without_row, difference_counts, differing_labels
from sdss_photoz.stage import stage

with stage(snakemake):
    galaxies, published = pd.read_parquet(snakemake.input.galaxies), pd.read_parquet(snakemake.input.published)
    labels, lacking = differing_labels(galaxies, published), cubes_without_row(galaxies["specObjID"], published)
    if len(lacking):
        print(
            f"warning: {len(lacking):,} good cubes of the published file have no row in the archive's "
            f"answer, the first of them that of spectrum {lacking.iloc[0]}",
            file=sys.stderr,
        )
    for label, allowed, differing, largest in difference_counts(labels).itertuples(index=False):
        if differing:
            print(
                f"warning: {label} of {differing:,} published cubes differs from the archive's by more than "
                f"{allowed:g}, at most by {largest:.3g}: see {snakemake.output.labels}",
                file=sys.stderr,
            )
    write_csv(snakemake.output.labels, labels)
