"""The files of a small run, made up: colours that follow redshift, and members that know the redshift well."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import norm

from sdss_photoz.evaluation import pdfs
from sdss_photoz.survey import BANDS, EXTINCTION_PER_EBV

SIGMA = 0.012
UNCOVERED = (3, 47)  # galaxies without any frame in one band
PARTIAL = (5, 60, 61)
UNKNOWN_TO_ARCHIVE = (10, 11)


def gaussian_pdfs(mean, sigma, bins=180):
    """Probabilities of the redshift bins for Gaussians, float64 (galaxy, bin)."""
    mass = np.diff(norm.cdf(pdfs.bin_edges(bins), np.asarray(mean)[:, None], sigma), axis=1)
    return mass / mass.sum(axis=1, keepdims=True)


def make_galaxies(count=600, seed=1):
    """A sample in the layout of sample/galaxies.parquet, as far as evaluation and report read it."""
    random = np.random.default_rng(seed)
    z = np.clip(random.gamma(4, 0.025, count), 0.01, 0.35)
    table = pd.DataFrame({"object_id": np.arange(count) * 977 + 1_237_650_000_000_000_000})
    table["ra"], table["dec"] = random.uniform(150, 154, count), random.uniform(0, 4, count)
    table["z_spec"], table["ebv"] = z, random.uniform(0, 0.1, count)
    table["z_archive"] = z + random.normal(0, 0.015, count)
    table.loc[list(UNKNOWN_TO_ARCHIVE), "z_archive"] = np.nan
    colours = np.cumsum([0 * z, 1.2 + 3 * z, 0.5 + 4 * z, 0.3 + z, 0.25 + 0.6 * z][::-1], axis=0)[::-1]
    for band, colour in zip(BANDS, colours, strict=True):
        table[f"extinction_{band}"] = EXTINCTION_PER_EBV[band] * table["ebv"]
        table[f"model_mag_{band}"] = 15 + colour + 4 * z + random.normal(0, 0.2, count) + table[f"extinction_{band}"]
    table["row"] = np.arange(count)
    table["chunk"] = table["row"] * 2 // count
    return table


def make_run(folder: Path, count=600, members=2, folds=3, repeats=1, bins=180, trial="images", seed=1) -> dict:
    """Write the inputs of `evaluate` below a folder.

    Returns
    -------
    dict
        The arguments of `evaluate` that name inputs, with ``trial`` and ``fold_count``.
    """
    random = np.random.default_rng(seed + 1)
    galaxies = make_galaxies(count, seed)
    (folder / "sample").mkdir(parents=True)
    galaxies.to_parquet(folder / "sample/galaxies.parquet", index=False)

    quality = []
    for chunk, part in galaxies.groupby("chunk"):
        table = part[["object_id", "row"]].copy()
        for band in BANDS:
            table[f"frames_{band}"], table[f"coverage_{band}"] = 1, 1.0
        table.loc[table["row"].isin(UNCOVERED), ["frames_u", "coverage_u"]] = 0
        table.loc[table["row"].isin(PARTIAL), "coverage_g"] = 0.8
        quality.append(folder / f"cubes/quality-{chunk}.parquet")
        quality[-1].parent.mkdir(exist_ok=True)
        table.to_parquet(quality[-1], index=False)

    dealt = pd.DataFrame({"object_id": galaxies["object_id"], "fold": random.integers(0, folds, count)})
    dealt["group"] = galaxies["object_id"]
    member_pdfs = []
    for index in range(folds * repeats):
        test = dealt["fold"] == index % folds
        role = np.where(random.uniform(size=count) < 0.1, "validation", "train")
        dealt[f"role_{index}"] = np.where(test, "test", role)
        rows = galaxies[test]
        tables = []
        for member in range(members):
            found = rows["z_spec"] + random.normal(0, SIGMA, len(rows)) * (1 + rows["z_spec"])
            pdf = gaussian_pdfs(found, SIGMA * (1 + found.to_numpy()[:, None]), bins).astype(np.float32)
            order = random.permutation(len(rows))  # the order of rows must not matter
            tables.append(
                pa.table(
                    {
                        "object_id": rows["object_id"].to_numpy()[order],
                        "member": np.full(len(rows), member),
                        "pdf": pa.FixedSizeListArray.from_arrays(pa.array(pdf[order].ravel()), bins),
                    }
                )
            )
        member_pdfs.append(folder / f"training/{trial}/fold-{index}/pdfs.parquet")
        member_pdfs[-1].parent.mkdir(parents=True)
        pq.write_table(pa.concat_tables(tables), member_pdfs[-1])
        for member in range(members):
            _history(bins).to_csv(member_pdfs[-1].with_name(f"member-{member}.history.csv"), index=False)
    dealt.to_parquet(folder / f"sample/folds-{trial}.parquet", index=False)
    return {
        "galaxies": folder / "sample/galaxies.parquet",
        "folds": folder / f"sample/folds-{trial}.parquet",
        "quality": quality,
        "member_pdfs": dict(enumerate(member_pdfs)),
        "trial": trial,
        "fold_count": folds,
    }


def outputs(folder: Path, trial="images") -> dict:
    """The arguments of `evaluate` that name outputs."""
    place = folder / f"evaluation/{trial}"
    return {
        "photoz": place / "photoz.parquet",
        "ensemble": place / "photoz.hdf5",
        "scores": place / "metrics.json",
    }


def _history(bins, epochs=12):
    epoch = np.arange(1, epochs + 1)
    loss = 2.8 + (np.log(bins) - 2.8) * np.exp(-epoch / 3)
    table = pd.DataFrame({"epoch": epoch, "train_loss": loss, "validation_loss": loss + 0.05 + 0.002 * epoch})
    table["learning_rate"] = 1e-3 * (1 - epoch / epochs)
    table["best"] = table["validation_loss"] == table["validation_loss"].min()
    return table
