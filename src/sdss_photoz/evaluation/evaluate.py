"""Predictions, distributions and scores of one trial."""

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
from sdss_photoz.evaluation.kinds import KINDS, Kind
from sdss_photoz.evaluation.score_table import score_table
from sdss_photoz.files import whole, write_json, write_parquet
from sdss_photoz.methods import METHODS
from sdss_photoz.scores import pdfs
from sdss_photoz.targets.label import Label

BLOCK = 16_384  # galaxies whose distributions are integrated at a time


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
    """Write a trial's predictions, its distributions and its scores.

    All methods are trained and scored on the same galaxies, those with a frame in each band that is read. The others
    are predicted, flagged (``has_frames`` False) and counted, and enter no score; so are those without a true value.
    The networks' predictions are read; the estimators of `sdss_photoz.methods` are trained here, on the galaxies with
    the roles train and validation, for they have no epoch to choose.

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
        Kind of negative control that the trial's networks are; they are then compared with the prior. Redshifts alone
        are compared with controls.
    fields : Path, optional
        ``archive/fields.parquet``, for the forest.

    Raises
    ------
    UserError
        Where tables hold different galaxies, one cannot be read, or no galaxy can be scored.
    """
    sample = _galaxies_with_coverage(galaxies, quality, bands)
    kind, sample["label"] = KINDS[label.kind], label.read(sample)
    roles = pd.read_parquet(folds).set_index("object_id")
    unknown = roles.index.difference(sample.index)
    if len(unknown):
        raise UserError(f"{folds} holds object {unknown[0]}, which {galaxies} does not: make the folds again.")
    control_method = "network" if control != "none" else "forest" if settings.controls else None
    if label.kind != "redshift":
        control_method = None
    methods = {name: METHODS[name] for name in _methods(control_method)}
    features = {name: method.features(sample, quality, fields) for name, method in methods.items()}
    tables, distributions = [], []
    for index, path in member_pdfs.items():
        role = roles[f"role_{index}"].reindex(sample.index)
        test = sample.index[role == "test"]
        members = _read_members(path, test, label.grid)
        table, mean = _predictions(sample.loc[test], members, label.grid, kind)
        if kind.name != "yes_no" and (regressed := _read_regressed(path)) is not None:
            table[kind.column("regressed")] = regressed.loc[test].to_numpy()
        table.insert(4, "fold", index % fold_count)
        table.insert(5, "repeat", index // fold_count)
        train = (role.isin(["train", "validation"]) & sample["has_frames"] & sample["label"].notna()).to_numpy()
        train_z = sample["label"].to_numpy()[train]
        rows = sample.index.get_indexer(test)
        for name, method in methods.items():
            known = features[name]
            table = table.assign(**_named(method.estimate(known[train], train_z, known[rows], settings), kind))
        tables.append(table)
        distributions.append(mean)
    result = pd.concat(tables, ignore_index=True)
    if kind.name == "redshift":
        result["z_phot_mean"] = (result["z_phot"] + result["z_phot_local_linear"]) / 2
    write_parquet(photoz, result)
    _write_ensemble(ensemble, np.concatenate(distributions), label.grid, result, kind)
    found = {"trial": trial, **score_table(result, settings, kind)}
    if kind.name != "redshift":
        found |= {"kind": label.kind, "column": label.column}
    if control_method is not None:
        found["controls"] = control_scores(kind.scored(result), kind.column(control_method), settings)
    write_json(scores, found)


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
    """Each member's distributions (galaxy, bin) float32 of the test galaxies, and own points (galaxy,) or None."""
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
    points = table["point"].to_numpy() if "point" in table.schema.names else None
    found = {}
    for number in np.unique(member):
        rows = np.flatnonzero(member == number)
        order = pd.Index(objects[rows]).get_indexer(test) if len(set(objects[rows])) == len(rows) else None
        if order is None or len(rows) != len(test) or (order < 0).any():
            raise UserError(
                f"{path} holds {len(rows)} distributions of member {number}, but should hold one for each of the "
                f"fold's {len(test)} test galaxies: predict the fold again."
            )
        found[int(number)] = values[rows[order]], None if points is None else points[rows[order]]
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


def _predictions(galaxies, members, grid, kind: Kind):
    """Predictions and scores of the ensemble and its members for the galaxies of one fold; the averaged distributions.

    `members`: each one's distributions, and its points or None.
    """
    true, redshifts = galaxies["label"].to_numpy(), kind.name == "redshift"
    mean = pdfs.average([pdf for pdf, _ in members.values()])
    table = galaxies.reset_index()[["object_id", "ra", "dec", "z_spec", "complete", "has_frames"]].copy()
    if redshifts:
        table["z_spec"] = true
    else:
        table.insert(3, kind.true, true)
    points = [points for _, points in members.values()]
    own = all(one is not None for one in points)
    table[kind.point] = np.mean(points, axis=0) if own else pdfs.point_estimate(mean, grid=grid)
    if kind.name != "yes_no":
        table["pit"], table["crps"] = _of_known(mean, true, grid)
        table["width_68"] = _in_blocks(lambda pdf: pdfs.width(pdf, 0.68, grid), mean)
        table["width_90"] = _in_blocks(lambda pdf: pdfs.width(pdf, 0.90, grid), mean)
    for member, (pdf, points) in members.items():
        name = f"member_{member}"
        table[kind.column(name)] = pdfs.point_estimate(pdf, grid=grid) if points is None else points
        if kind.name != "yes_no":
            table[f"pit_{name}"], table[f"crps_{name}"] = _of_known(pdf, true, grid)
    if redshifts:
        archive = galaxies["z_archive"].to_numpy(np.float64) if "z_archive" in galaxies else np.nan
        table["z_phot_archive"] = archive
    return table, mean


def _of_known(pdf, true, grid):
    """PIT and CRPS (galaxy,), NaN where the true value is."""
    known = np.isfinite(true)
    found = np.full((2, len(true)), np.nan)
    for values, score in zip(found, (pdfs.pit, pdfs.crps), strict=True):
        values[known] = _in_blocks(partial(score, grid=grid), pdf[known], true[known])
    return found


def _named(estimates, kind):
    """Estimates of a method, under the names of this kind of target; probabilities within 0 to 1."""
    found = {}
    for name, values in estimates.items():
        if name.startswith("z_phot"):
            name = f"{kind.point}{name.removeprefix('z_phot')}"
            values = values.clip(0, 1) if kind.name == "yes_no" else values
        found[name] = values
    return found


def _in_blocks(function, pdf, *others):
    starts = range(0, len(pdf), BLOCK)
    parts = [function(pdf[i : i + BLOCK], *(other[i : i + BLOCK] for other in others)) for i in starts]
    return np.concatenate(parts) if parts else np.empty(0)


def _write_ensemble(path, distributions, grid, table, kind):
    """Write the averaged distributions as a qp ensemble of histograms."""
    ensemble = qp.Ensemble(
        qp.hist,
        data={"bins": grid.edges(), "pdfs": distributions},
        ancil={name: table[name].to_numpy() for name in ("object_id", "fold", "repeat", kind.true, kind.point)},
    )
    with whole(path) as part:
        named = part.with_name(f"{part.name}.hdf5")  # qp reads the format from the name
        try:
            ensemble.write_to(str(named))
            named.replace(part)
        finally:
            named.unlink(missing_ok=True)
