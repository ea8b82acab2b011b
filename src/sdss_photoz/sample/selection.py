"""Selection of the sample: duplicates removed, limits applied, ordered along the sky and split into chunks."""

import numpy as np
import pandas as pd
from astropy import units
from astropy_healpix import HEALPix

from sdss_photoz.condition import chosen
from sdss_photoz.errors import UserError
from sdss_photoz.sample.chunks import shard_length
from sdss_photoz.sample.paper_labels import published_cuts
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.catalogue import INTEGERS, NEEDED, RENAMED, names_of_others
from sdss_photoz.surveys.sdss import split_object_id
from sdss_photoz.surveys.sphere import linked

MISSING = -9999  # the archive's fill value
_ORDER = HEALPix(nside=2**16, order="nested")  # cells of 3 arcsec, smaller than the distance of any two galaxies

_VALID = ("ra", "dec", "z_spec", "ebv", "dered_petro_r", *(f"model_mag_{band}" for band in SDSS.band_names))


def _renamed(galaxies, others):
    """The archive's rows with our column names and types; missing values become NaN."""
    columns = {column.lower(): column for column in galaxies}
    missing = [column for column in NEEDED if column.lower() not in columns]
    if missing:
        raise UserError(f"the archive's table of galaxies lacks the column {missing[0]}: query the galaxies again.")
    table = pd.DataFrame({ours: galaxies[columns[theirs]] for theirs, ours in RENAMED.items() if theirs in columns})
    for column in table:
        if column not in INTEGERS and pd.api.types.is_numeric_dtype(table[column]) and not column.endswith("_id"):
            table[column] = table[column].astype(float).where(table[column] != MISSING, np.nan)
    table["object_id"] = table["object_id"].astype(np.int64)
    table["spec_id"] = table["spec_id"].astype(np.uint64)
    table["run"], table["camcol"], table["field"], _ = split_object_id(table["object_id"])
    for column in INTEGERS & set(table):
        table[column] = table[column].fillna(-1).astype(np.int64)
    # the query subtracts the extinction, so that a petroMag_r of -9999 is no longer equal to MISSING
    table.loc[~table["dered_petro_r"].between(0, 40), "dered_petro_r"] = np.nan
    table["best_object"] = galaxies[columns["bestobjid"]].astype(np.int64)
    table["science_primary"] = galaxies[columns["scienceprimary"]]
    return table.assign(**_others(galaxies)) if others else table


def _others(galaxies):
    """The columns that have no name of ours; missing numbers become NaN, whole ones stay so if none is missing."""
    found = {}
    for column, name in names_of_others(galaxies).items():
        values = galaxies[column]
        if values.dtype.kind == "f" or (values.dtype.kind in "iu" and (values == MISSING).any()):
            values = values.astype(float).where(values != MISSING, np.nan)
        found[name] = values
    return found


def _best_of(table, labels):
    """Mask of one row per label, that with the smallest z_err; rows with missing values only if there is no other."""
    valid = table[list(_VALID)].notna().all(axis=1)
    error = table["z_err"].where(valid & (table["z_err"] > 0), np.inf)
    order = np.lexsort((table["spec_id"], error, labels))
    first = np.concatenate([[True], np.diff(np.asarray(labels)[order]) != 0]) if len(order) else np.zeros(0, bool)
    kept = np.zeros(len(table), dtype=bool)
    kept[order[first]] = True
    return kept


def select(galaxies: pd.DataFrame, sample, published=None, others: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep each galaxy once, apply the sample's limits, order along the sky, split into chunks.

    The cuts, in order: primary spectra; one row for each photometric object; one row for each group of objects linked
    within ``sample.match_radius`` (of several rows the one with the smallest redshift error stays); redshift at most
    ``z_max``; redshift at least ``z_min``, where that is above 0 or one is negative; dereddened Petrosian r at most
    ``r_max``; position, redshift, E(B-V), r and model magnitudes measured; the condition ``where``, if there is one.
    With published cubes, spectra without a good cube of the paper's sample are removed first.

    Parameters
    ----------
    galaxies : DataFrame
        The archive's rows, named as in its queries.
    sample : config.Sample
        Limits, match radius and number of chunks.
    published : DataFrame, optional
        spec_id, state of the published cubes.
    others : bool
        Keep columns that have no name of ours as well, under the query's names in lower case.

    Returns
    -------
    galaxies : DataFrame
        One row per galaxy, ordered by HEALPix (nested) and object id, with cube ``row`` and ``chunk``.
    counts : DataFrame
        cut, galaxies (that pass it), removed.

    Raises
    ------
    UserError
        If a needed column is missing, the condition cannot be evaluated, no galaxy is left, or a chunk would be empty.
    """
    table = _renamed(galaxies, others)
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
    if sample.z_min > 0 or (table["z_spec"] < 0).any():  # the package's own query asks for z > 0
        cut(f"z >= {sample.z_min:g}", table["z_spec"].ge(sample.z_min) | table["z_spec"].isna())
    cut(
        f"dereddened petro r <= {sample.r_max:g}",
        table["dered_petro_r"].le(sample.r_max) | table["dered_petro_r"].isna(),
    )
    cut("measured values", table[list(_VALID)].notna().all(axis=1))
    table = table.drop(columns=["best_object", "science_primary"])
    if sample.where is not None:
        passed = chosen(sample.where, table, "sample.where")
        cut("measured values of sample.where", ~passed.isna())
        cut(" ".join(sample.where.split()), passed[~passed.isna()])
    cell = _ORDER.lonlat_to_healpix(table["ra"].to_numpy() * units.deg, table["dec"].to_numpy() * units.deg)
    table = table.iloc[np.lexsort((table["object_id"], cell))].reset_index(drop=True)
    shard = shard_length(len(table), sample.chunks)
    table["row"] = np.arange(len(table), dtype=np.int64)
    table["chunk"] = table["row"] // shard
    return table, pd.DataFrame(counts, columns=["cut", "galaxies", "removed"])
