"""All scores of a trial, from its table of predictions."""

import numpy as np
import pandas as pd

from sdss_photoz.config import Evaluation
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation.kinds import KINDS, Kind
from sdss_photoz.scores import metrics

SCORED_BY_FOLD = ("network", "local_linear")
OTHER_PAIRS = (("network", "archive"), ("regressed", "network"))  # besides those with local-linear regression


def score_table(photoz: pd.DataFrame, settings: Evaluation, kind: Kind = KINDS["redshift"]) -> dict:
    """Scores of a trial's table, with errors, differences, and the scatter over folds and members.

    Parameters
    ----------
    photoz : DataFrame
        As `evaluate` writes it.
    settings : config.Evaluation
    kind : Kind
        What is predicted.

    Returns
    -------
    dict
        ``galaxies`` (counts), ``bootstrap``, ``headline`` (all scored galaxies: network, local_linear, the regressed
        point estimate where there is one and, of redshifts, the mean of the first two), ``with_archive`` (the scored
        galaxies that have a redshift in the archive, all methods; None where there are fewer than two, or something
        else is predicted), ``folds`` and ``members`` (each one's scores) and ``scatter`` (their standard deviations
        over folds and over members). A score that is not defined is None.

    Raises
    ------
    UserError
        If no galaxy can be scored.
    """
    redshifts = kind.name == "redshift"
    scored = kind.scored(photoz).reset_index(drop=True)
    if not photoz["has_frames"].any():
        raise UserError("no test galaxy has a frame in each band of the cubes, so there is nothing to score.")
    if scored.empty:
        raise UserError(
            "no test galaxy has a true value of target.column, so there is nothing to score: choose galaxies that have "
            "one by sample.where or trials.NAME.where."
        )
    cells = metrics.sky_cells(scored["ra"], scored["dec"], settings.bootstrap_nside)
    known = scored["z_phot_archive"].notna() if redshifts else pd.Series(False, scored.index)
    headline = ["network", "local_linear"] + [
        name for name in ("mean", "regressed") if kind.column(name) in scored
    ]  # fmt: skip
    prefix = kind.column("member_")
    members = sorted(int(name.rsplit("_", 1)[1]) for name in scored if name.startswith(prefix))
    score = kind.score(settings)

    def scores_of(table, method):
        return score(**kind.arrays(table, method))

    def compared(rows, methods):
        pairs = [(name, "local_linear") for name in ("network", "mean") if name in methods]
        pairs += [(name, other) for name, other in OTHER_PAIRS if {name, other} <= set(methods)]
        table = scored[rows]
        comparison = metrics.compare(
            {name: kind.arrays(table, name) for name in methods},
            np.unique(cells[rows], return_inverse=True)[1],
            pairs=pairs,
            repeat=table["repeat"].to_numpy(),
            score=score,
            resamples=settings.bootstrap,
            seed=settings.seed,
        )
        return {"galaxies": int(table["object_id"].nunique()), **comparison}

    by_fold = [
        {
            "fold": int(fold),
            "repeat": int(repeat),
            "galaxies": len(table),
            **{name: scores_of(table, name) for name in SCORED_BY_FOLD},
        }
        for (repeat, fold), table in scored.groupby(["repeat", "fold"])
    ]
    repeats = [table for _, table in scored.groupby("repeat")]
    by_member = [
        {"member": member, **_mean([scores_of(table, f"member_{member}") for table in repeats])} for member in members
    ]
    found = {
        "galaxies": _counts(photoz, kind),
        "bootstrap": {
            "resamples": settings.bootstrap,
            "nside": settings.bootstrap_nside,
            "cells": int(cells.max()) + 1,
        },
        "headline": compared(np.ones(len(scored), dtype=bool), headline),
        "with_archive": compared(known.to_numpy(), ["network", "local_linear", "archive"]) if known.sum() > 1 else None,
        "folds": by_fold,
        "members": by_member,
        "scatter": {
            "folds": {name: _scatter([fold[name] for fold in by_fold]) for name in SCORED_BY_FOLD},
            "members": _scatter([{key: value for key, value in one.items() if key != "member"} for one in by_member]),
        },
    }
    return _without_nan(found) | ({"outlier": settings.outlier} if redshifts else {})


def _counts(photoz, kind):
    """Numbers of galaxies."""
    each = photoz.drop_duplicates("object_id")
    found = {
        "predicted": len(each),
        "scored": len(kind.scored(each)),
        "complete": int(each["complete"].sum()),
        "partial": int((each["has_frames"] & ~each["complete"]).sum()),
        "without_frame": int((~each["has_frames"]).sum()),
        "features_missing": int(each["features_missing"].sum()),
    }
    if kind.name == "redshift":
        return found | {"with_archive": int((each["has_frames"] & each["z_phot_archive"].notna()).sum())}
    return found | {"without_true_value": int(each[kind.true].isna().sum())}


def _mean(each):
    """Mean of each score over repeats, as in the headline, so that a galaxy predicted twice counts once."""
    return {key: float(np.mean([one[key] for one in each])) for key in each[0]}


def _scatter(each):
    """Standard deviation of each score over folds or members; None for a single one."""
    keys = list(each[0]) if each else []
    return {key: float(np.std([one[key] for one in each], ddof=1)) if len(each) > 1 else None for key in keys}


def _without_nan(value):
    """A JSON value with None in place of NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value
