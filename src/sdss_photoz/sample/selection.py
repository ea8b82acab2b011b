"""One row a galaxy: duplicates merged, limits applied, ordered along the sky and cut into chunks."""

import numpy as np
import pandas as pd
from astropy import units
from astropy_healpix import HEALPix

from sdss_photoz.errors import UserError
from sdss_photoz.sample.linking import linked
from sdss_photoz.sample.published import published_cuts
from sdss_photoz.survey import BANDS, split_object_id

INNER_CHUNK = 128  # most galaxies in an inner chunk of a Zarr shard
MISSING = -9999  # the archive's mark of a value that could not be measured
_ORDER = HEALPix(nside=2**16, order="nested")  # cells of 3 arcsec: the order is finer than any pair of galaxies

_RENAMED = {  # the archive's names, in lower case, and ours
    **{"objid": "object_id", "specobjid": "spec_id", "ra": "ra", "dec": "dec", "z": "z_spec", "zerr": "z_err"},
    **{"e_bv_sfd": "ebv", "zphot": "z_archive", "run": "run", "camcol": "camcol", "field": "field", "stripe": "stripe"},
    "dered_petro_r": "dered_petro_r",
    **{
        f"{theirs.lower()}_{band}": f"{ours}_{band}"
        for theirs, ours in {
            **{"petroMag": "petro_mag", "petroMagErr": "petro_mag_err"},
            **{"modelMag": "model_mag", "modelMagErr": "model_mag_err"},
            **{"cModelMag": "cmodel_mag", "cModelMagErr": "cmodel_mag_err"},
            **{"extinction": "extinction", "petroR50": "petro_r50", "petroR90": "petro_r90"},
            **{"psffwhm": "psf_fwhm", "sky": "sky"},
        }.items()
        for band in BANDS
    },
    **{"expab_r": "exp_ab_r", "devab_r": "dev_ab_r", "fracdev_r": "frac_dev_r"},
    **{"neighbors": "n_neighbors", "subclass": "subclass"},
}
_INTEGERS = {"run", "camcol", "field", "stripe", "n_neighbors"}
_NEEDED = (
    *("objID", "specObjID", "bestObjID", "sciencePrimary", "ra", "dec", "z", "zErr", "e_bv_sfd", "dered_petro_r"),
    *(f"{kind}_{band}" for kind in ("modelMag", "extinction") for band in BANDS),
)
_VALID = ("ra", "dec", "z_spec", "ebv", "dered_petro_r", *(f"model_mag_{band}" for band in BANDS))


def shard_shape(n: int, chunks: int) -> tuple[int, int]:
    """Length of a Zarr shard, and of its inner chunks, for `n` galaxies in `chunks` chunks.

    The shard is ceil(n / chunks) galaxies, rounded up to a whole number of equal inner chunks of at most
    `INNER_CHUNK`. The last shard may be longer than the galaxies left for it.

    Returns
    -------
    shard, inner : int
        shard is a multiple of inner; chunk N holds the rows from N * shard on.

    Raises
    ------
    UserError
        Where a chunk would be empty; the sentence names the largest number of chunks that works.
    """
    if n < 1:
        raise UserError(
            "the sample has no galaxies: loosen sample.r_max or sample.z_max, or look at sample/counts.csv."
        )
    shard, inner = _shape(n, chunks)
    if (chunks - 1) * shard >= n:
        works = next(fewer for fewer in range(min(chunks, n), 0, -1) if (fewer - 1) * _shape(n, fewer)[0] < n)
        raise UserError(
            f"sample.chunks is {chunks}, but {n} galaxies in shards of {shard} would leave a chunk empty: "
            f"the largest number of chunks below it that works is {works}."
        )
    return shard, inner


def _shape(n, chunks):
    length = -(-n // chunks)
    count = -(-length // INNER_CHUNK)
    inner = -(-length // count)
    return count * inner, inner


def shard_length(n: int, chunks: int) -> int:
    """Galaxies in a shard: see `shard_shape`."""
    return shard_shape(n, chunks)[0]


def _renamed(galaxies):
    """The contract's columns and types; a missing value becomes NaN."""
    columns = {column.lower(): column for column in galaxies}
    missing = [column for column in _NEEDED if column.lower() not in columns]
    if missing:
        raise UserError(f"the archive's table of galaxies lacks the column {missing[0]}: query the galaxies again.")
    table = pd.DataFrame({ours: galaxies[columns[theirs]] for theirs, ours in _RENAMED.items() if theirs in columns})
    for column in table:
        if column not in _INTEGERS and pd.api.types.is_numeric_dtype(table[column]) and not column.endswith("_id"):
            table[column] = table[column].astype(float).where(table[column] != MISSING, np.nan)
    table["object_id"] = table["object_id"].astype(np.int64)
    table["spec_id"] = table["spec_id"].astype(np.uint64)
    table["run"], table["camcol"], table["field"], _ = split_object_id(table["object_id"])
    for column in _INTEGERS & set(table):
        table[column] = table[column].fillna(-1).astype(np.int64)
    # petroMag_r = -9999 hides behind the difference that the query computes
    table.loc[~table["dered_petro_r"].between(0, 40), "dered_petro_r"] = np.nan
    table["best_object"] = galaxies[columns["bestobjid"]].astype(np.int64)
    table["science_primary"] = galaxies[columns["scienceprimary"]]
    return table


def _best_of(table, labels):
    """One row for each label: the smaller z_err; rows without valid values only where there is no other."""
    valid = table[list(_VALID)].notna().all(axis=1)
    error = table["z_err"].where(valid & (table["z_err"] > 0), np.inf)
    order = np.lexsort((table["spec_id"], error, labels))
    first = np.concatenate([[True], np.diff(np.asarray(labels)[order]) != 0]) if len(order) else np.zeros(0, bool)
    kept = np.zeros(len(table), dtype=bool)
    kept[order[first]] = True
    return kept


def select(galaxies: pd.DataFrame, sample, published=None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep each galaxy once, apply the sample's limits, order along the sky, cut into chunks.

    The cuts, in order: primary spectra; one row for each photometric object; one row for each group of objects linked
    within ``sample.match_radius`` (of several rows the one with the smallest redshift error stays); redshift at most
    ``z_max``; dereddened Petrosian r at most ``r_max``; position, redshift, E(B-V), r and model magnitudes measured.
    Where the cubes are the published ones, spectra without a good cube of the paper's sample go first of all.

    Parameters
    ----------
    galaxies : DataFrame
        The archive's rows, named as in its queries.
    sample : config.Sample
        Limits, match radius and number of chunks.
    published : DataFrame, optional
        spec_id, state of the published cubes.

    Returns
    -------
    galaxies : DataFrame
        One row a galaxy, ordered by HEALPix (nested) and object id, with cube ``row`` and ``chunk``.
    counts : DataFrame
        cut, galaxies (left after it), removed.

    Raises
    ------
    UserError
        Where a needed column is missing, no galaxy is left, or a chunk would be empty.
    """
    table = _renamed(galaxies)
    counts = [("rows of the archive", len(table), 0)]

    def cut(name, kept):
        nonlocal table
        counts.append((name, int(np.sum(kept)), int(len(table) - np.sum(kept))))
        table = table[np.asarray(kept)]

    if published is not None:
        for name, kept in published_cuts(table["spec_id"], published).items():
            cut(name, kept[table.index])
    cut("primary spectrum", table["science_primary"] == 1)
    cut("unique best object", _best_of(table, table["best_object"].to_numpy()))
    cut(
        f"unique within {sample.match_radius:g} arcsec",
        _best_of(table, linked(table["ra"], table["dec"], sample.match_radius)),
    )
    cut(f"z <= {sample.z_max:g}", table["z_spec"].le(sample.z_max) | table["z_spec"].isna())
    cut(
        f"dereddened petro r <= {sample.r_max:g}",
        table["dered_petro_r"].le(sample.r_max) | table["dered_petro_r"].isna(),
    )
    cut("measured values", table[list(_VALID)].notna().all(axis=1))
    table = table.drop(columns=["best_object", "science_primary"])
    cell = _ORDER.lonlat_to_healpix(table["ra"].to_numpy() * units.deg, table["dec"].to_numpy() * units.deg)
    table = table.iloc[np.lexsort((table["object_id"], cell))].reset_index(drop=True)
    shard = shard_length(len(table), sample.chunks)
    table["row"] = np.arange(len(table), dtype=np.int64)
    table["chunk"] = table["row"] // shard
    return table, pd.DataFrame(counts, columns=["cut", "galaxies", "removed"])
