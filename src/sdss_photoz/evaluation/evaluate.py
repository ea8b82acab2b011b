"""Photometric redshifts, distributions and scores of one trial."""

from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import qp

from sdss_photoz.config import Evaluation
from sdss_photoz.cubes.quality import bands_of
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation.controls import control_scores
from sdss_photoz.files import whole, write_json, write_parquet
from sdss_photoz.methods import METHODS
from sdss_photoz.scores import metrics, pdfs
from sdss_photoz.scores.residuals import residuals
from sdss_photoz.targets.label import Label

BLOCK = 16_384  # galaxies whose distributions are integrated at a time
REDSHIFT_COLUMNS = {  # name in metrics.json: column of photoz.parquet
    "network": "z_phot",
    "local_linear": "z_phot_local_linear",
    "archive": "z_phot_archive",
    "mean": "z_phot_mean",
    "regressed": "z_phot_regressed",
    "forest": "z_phot_forest",
}
SCORED_BY_FOLD = ("network", "local_linear")
OTHER_PAIRS = (("network", "archive"), ("regressed", "network"))  # besides those with local-linear regression


def evaluate(
    *,
    galaxies: Path,
    folds: Path,
    quality: Sequence[Path],
    member_pdfs: dict[int, Path],
    photoz: Path,
    ensemble: Path,
    scores: Path,
    trial: str,
    fold_count: int,
    settings: Evaluation,
    label: Label = Label(),  # noqa: B008 (immutable)
    bands: Sequence[str] = (),
    control: str = "none",
    fields: Path | None = None,
) -> None:
    """Write a trial's redshifts, its distributions and its scores.

    All methods are trained and scored on the same galaxies, those with a frame in each band that is read. The others
    are predicted, flagged (``has_frames`` False) and counted, and enter no score. The networks' predictions are read;
    the estimators of `sdss_photoz.methods` are trained here, on the galaxies with the roles train and validation, for
    they have no epoch to choose.

    Parameters
    ----------
    galaxies, folds : Path
        ``sample/galaxies.parquet`` and ``sample/folds-<trial>.parquet``.
    quality : sequence of Path
        ``cubes/quality-N.parquet`` of all chunks, with ``object_id`` and ``coverage_{b}``.
    member_pdfs : dict of int to Path
        ``pdfs.parquet`` of each fold that was tested, by its number: fold + fold_count x repeat.
    photoz, ensemble, scores : Path
        The outputs ``photoz.parquet`` (a row for each galaxy and repeat), ``photoz.hdf5`` (a qp ensemble of histograms,
        in the same order) and ``metrics.json``.
    trial : str
        Name of the trial.
    fold_count : int
        Folds of one repeat.
    settings : config.Evaluation
        Bootstrap, neighbours, outlier limit, and whether to score a forest as a negative control.
    label : Label
        What is predicted.
    bands : sequence of str
        Bands that the networks read; default: all of the cubes.
    control : {"none", "target_removed", "shuffled_labels"}
        Kind of negative control that the trial's networks are; they are then compared with the prior.
    fields : Path, optional
        ``archive/fields.parquet``, for the forest.

    Raises
    ------
    UserError
        Where tables hold different galaxies, one cannot be read, or no galaxy can be scored.
    """
    sample = _galaxies_with_coverage(galaxies, quality, bands)
    sample["label"] = label.read(sample)
    roles = pd.read_parquet(folds).set_index("object_id")
    unknown = roles.index.difference(sample.index)
    if len(unknown):
        raise UserError(f"{folds} holds object {unknown[0]}, which {galaxies} does not: make the folds again.")
    control_method = "network" if control != "none" else "forest" if settings.controls else None
    methods = {name: METHODS[name] for name in _methods(control_method)}
    features = {name: method.features(sample, quality, fields) for name, method in methods.items()}
    tables, distributions = [], []
    for index, path in member_pdfs.items():
        role = roles[f"role_{index}"].reindex(sample.index)
        test = sample.index[role == "test"]
        members = _read_members(path, test, label.grid)
        table, mean = _predictions(sample.loc[test], members, label.grid)
        if (regressed := _read_regressed(path)) is not None:
            table["z_phot_regressed"] = regressed.loc[test].to_numpy()
        table.insert(4, "fold", index % fold_count)
        table.insert(5, "repeat", index // fold_count)
        train = (role.isin(["train", "validation"]) & sample["has_frames"]).to_numpy()
        train_z = sample["label"].to_numpy()[train]
        rows = sample.index.get_indexer(test)
        for name, method in methods.items():
            known = features[name]
            table = table.assign(**method.estimate(known[train], train_z, known[rows], settings))
        tables.append(table)
        distributions.append(mean)
    result = pd.concat(tables, ignore_index=True)
    result["z_phot_mean"] = (result["z_phot"] + result["z_phot_local_linear"]) / 2
    write_parquet(photoz, result)
    _write_ensemble(ensemble, np.concatenate(distributions), label.grid, result)
    found = {"trial": trial, **score_table(result, settings)}
    if control_method is not None:
        scored = result[result["has_frames"]]
        found["controls"] = control_scores(scored, REDSHIFT_COLUMNS[control_method], settings)
    write_json(scores, found)


def score_table(photoz: pd.DataFrame, settings: Evaluation) -> dict:
    """Scores of a trial's table, with errors, differences, and the scatter over folds and members.

    Parameters
    ----------
    photoz : DataFrame
        As `evaluate` writes it.
    settings : config.Evaluation

    Returns
    -------
    dict
        ``galaxies`` (counts), ``bootstrap``, ``headline`` (all scored galaxies: network, local_linear, the mean of the
        two, and the regressed point estimate where there is one), ``with_archive`` (the scored galaxies that have a
        redshift in the archive, all methods; None where there are fewer than two), ``folds`` and ``members`` (each
        one's scores) and ``scatter`` (their standard deviations over folds and over members).
    """
    scored = photoz[photoz["has_frames"]].reset_index(drop=True)
    if scored.empty:
        raise UserError("no test galaxy has a frame in each band of the cubes, so there is nothing to score.")
    cells = metrics.sky_cells(scored["ra"], scored["dec"], settings.bootstrap_nside)
    known = scored["z_phot_archive"].notna()
    headline = ["network", "local_linear", "mean"] + ["regressed"] * ("z_phot_regressed" in scored)
    members = sorted(int(name.rsplit("_", 1)[1]) for name in scored if name.startswith("z_phot_member_"))

    def compared(rows, methods):
        pairs = [(name, "local_linear") for name in ("network", "mean") if name in methods]
        pairs += [(name, other) for name, other in OTHER_PAIRS if {name, other} <= set(methods)]
        table = scored[rows]
        comparison = metrics.compare(
            {name: _residuals(table, name) for name in methods},
            np.unique(cells[rows], return_inverse=True)[1],
            pairs=pairs,
            repeat=table["repeat"].to_numpy(),
            outlier=settings.outlier,
            resamples=settings.bootstrap,
            seed=settings.seed,
        )
        return {"galaxies": int(table["object_id"].nunique()), **comparison}

    by_fold = [
        {
            "fold": int(fold),
            "repeat": int(repeat),
            "galaxies": len(table),
            **{name: _scores(table, name, settings) for name in SCORED_BY_FOLD},
        }
        for (repeat, fold), table in scored.groupby(["repeat", "fold"])
    ]
    repeats = [table for _, table in scored.groupby("repeat")]
    by_member = [
        {"member": member, **_mean([_scores(table, f"member_{member}", settings) for table in repeats])}
        for member in members
    ]
    each = photoz.drop_duplicates("object_id")
    return {
        "galaxies": {
            "predicted": len(each),
            "scored": int(each["has_frames"].sum()),
            "complete": int(each["complete"].sum()),
            "partial": int((each["has_frames"] & ~each["complete"]).sum()),
            "without_frame": int((~each["has_frames"]).sum()),
            "with_archive": int((each["has_frames"] & each["z_phot_archive"].notna()).sum()),
            "features_missing": int(each["features_missing"].sum()),
        },
        "bootstrap": {
            "resamples": settings.bootstrap,
            "nside": settings.bootstrap_nside,
            "cells": int(cells.max()) + 1,
        },
        "outlier": settings.outlier,
        "headline": compared(np.ones(len(scored), dtype=bool), headline),
        "with_archive": compared(known.to_numpy(), ["network", "local_linear", "archive"]) if known.sum() > 1 else None,
        "folds": by_fold,
        "members": by_member,
        "scatter": {
            "folds": {name: _scatter([fold[name] for fold in by_fold]) for name in SCORED_BY_FOLD},
            "members": _scatter(by_member),
        },
    }


def _methods(control_method):
    """Names of the methods that are trained here: the baseline, and what a negative control needs."""
    return ["local_linear", *["prior"] * (control_method is not None), *["forest"] * (control_method == "forest")]


def _galaxies_with_coverage(galaxies, quality, bands=()):
    """The sample, indexed by object, with the flags ``complete`` and ``has_frames``."""
    with _reading(quality[0]):
        columns = [f"coverage_{band}" for band in bands or bands_of(quality)]
    coverage = pd.concat([_read(path, ["object_id", *columns]) for path in quality])
    coverage = coverage.set_index("object_id")[columns]
    sample = pd.read_parquet(galaxies).set_index("object_id")
    absent = sample.index.difference(coverage.index)
    if len(absent):
        raise UserError(
            f"no quality table of the cubes holds object {absent[0]} of {galaxies}: make the cubes of this sample."
        )
    least = coverage.loc[sample.index].min(axis=1)
    sample["has_frames"] = least > 0
    sample["complete"] = least >= 1
    return sample


def _read(path, columns):
    """Columns of a parquet table."""
    with _reading(path):
        return pd.read_parquet(path, columns=columns)


@contextmanager
def _reading(path):
    """Raise a UserError that names the file where reading it fails."""
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's exceptions derive from these
        found = " ".join(str(error).split())[:100]
        raise UserError(f"{path} cannot be read ({found}): delete it and run again, which makes it anew.") from None


def _read_members(path, test, grid):
    """Member numbers and their distributions for the test galaxies: {member: (galaxy, bin) float32}."""
    with _reading(path):
        table = pq.read_table(path)
    bins = table.schema.field("pdf").type.list_size
    if bins != grid.bins:
        raise UserError(
            f"{path} holds distributions over {bins} bins, but the configuration says {grid.bins}: predict the fold "
            "again."
        )
    values = table["pdf"].combine_chunks()
    values = values.flatten().to_numpy(zero_copy_only=False).reshape(-1, bins)
    objects, member = (table[name].to_numpy() for name in ("object_id", "member"))
    found = {}
    for number in np.unique(member):
        rows = np.flatnonzero(member == number)
        order = pd.Index(objects[rows]).get_indexer(test) if len(set(objects[rows])) == len(rows) else None
        if order is None or len(rows) != len(test) or (order < 0).any():
            raise UserError(
                f"{path} holds {len(rows)} distributions of member {number}, but should hold one for each of the "
                f"fold's {len(test)} test galaxies: predict the fold again."
            )
        found[int(number)] = values[rows[order]]
    if not found:
        raise UserError(f"{path} holds no distributions, though its fold has {len(test)} test galaxies.")
    return found


def _read_regressed(path):
    """The regressed point estimates, mean of the members, by object; None where there are none."""
    if "z_regressed" not in pq.read_schema(path).names:
        return None
    return (
        pq.read_table(path, columns=["object_id", "z_regressed"]).to_pandas().groupby("object_id")["z_regressed"].mean()
    )


def _predictions(galaxies, members, grid):
    """Redshifts and scores of the ensemble and its members for the galaxies of one fold; the averaged distributions."""
    z_spec, pit, crps = galaxies["label"].to_numpy(), partial(pdfs.pit, grid=grid), partial(pdfs.crps, grid=grid)
    mean = pdfs.average(list(members.values()))
    table = galaxies.reset_index()[["object_id", "ra", "dec", "z_spec", "complete", "has_frames"]].copy()
    table["z_phot"] = pdfs.point_estimate(mean, grid=grid)
    table["pit"] = _in_blocks(pit, mean, z_spec)
    table["crps"] = _in_blocks(crps, mean, z_spec)
    table["width_68"] = _in_blocks(lambda pdf: pdfs.width(pdf, 0.68, grid), mean)
    table["width_90"] = _in_blocks(lambda pdf: pdfs.width(pdf, 0.90, grid), mean)
    for member, pdf in members.items():
        table[f"z_phot_member_{member}"] = pdfs.point_estimate(pdf, grid=grid)
        table[f"pit_member_{member}"] = _in_blocks(pit, pdf, z_spec)
        table[f"crps_member_{member}"] = _in_blocks(crps, pdf, z_spec)
    archive = galaxies["z_archive"].to_numpy(np.float64) if "z_archive" in galaxies else np.nan
    table["z_phot_archive"] = archive
    return table, mean


def _in_blocks(function, pdf, *others):
    starts = range(0, len(pdf), BLOCK)
    parts = [function(pdf[i : i + BLOCK], *(other[i : i + BLOCK] for other in others)) for i in starts]
    return np.concatenate(parts) if parts else np.empty(0)


def _write_ensemble(path, distributions, grid, table):
    """Write the averaged distributions as a qp ensemble of histograms."""
    ensemble = qp.Ensemble(
        qp.hist,
        data={"bins": grid.edges(), "pdfs": distributions},
        ancil={name: table[name].to_numpy() for name in ("object_id", "fold", "repeat", "z_spec", "z_phot")},
    )
    with whole(path) as part:
        named = part.with_name(f"{part.name}.hdf5")  # qp reads the format from the name
        try:
            ensemble.write_to(str(named))
            named.replace(part)
        finally:
            named.unlink(missing_ok=True)


def _residuals(table, method):
    """Residuals, and CRPS where the method has distributions."""
    column = REDSHIFT_COLUMNS.get(method, f"z_phot_{method}")
    crps = {"network": "crps"}.get(method, f"crps_{method}")
    found = {"dz": residuals(table[column], table["z_spec"])}
    if crps in table:
        found["crps"] = table[crps].to_numpy()
    return found


def _scores(table, method, settings):
    return metrics.scores(**_residuals(table, method), outlier=settings.outlier)


def _mean(each):
    """Mean of each score over repeats, as in the headline, so that a galaxy predicted twice counts once."""
    return {key: float(np.mean([one[key] for one in each])) for key in each[0]}


def _scatter(each):
    """Standard deviation of each score over folds or members; None for a single one."""
    keys = [key for key in metrics.SCORES if each and key in each[0]]
    return {key: float(np.std([one[key] for one in each], ddof=1)) if len(each) > 1 else None for key in keys}
