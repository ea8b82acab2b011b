"""What a finished run knows of a trial: its networks, the galaxies that trained them, its cubes and its sky."""

import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq

from sdss_photoz.cubes.store import grid_of, open_store
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation import domain
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.training.data.load import selection
from sdss_photoz.training.model import Predictor, Trained, architecture_in, describe_model, grid_in, load_models

SKIES = {  # kinds of sky that a run learned from, and the warning for predictions
    "survey": None,
    "simulated": "the networks learned from the simulated sky: what they predict says nothing about real galaxies",
    "unknown": "the run lacks its folder archive, so nothing tells whether its networks learned from the simulated sky",
}


class Trial(NamedTuple):
    """One trial of a finished run.

    Attributes
    ----------
    name : str
        Its name.
    models : dict of Trained to Path
        File of each network.
    trained : DataFrame
        The galaxies that trained or validated some of its networks.
    store : Path
        The run's cubes.
    grid : PixelGrid
        Their pixels and bands.
    selection : str
        Digest of the selection that the cubes belong to.
    """

    name: str
    models: dict[Trained, Path]
    trained: pd.DataFrame
    store: Path
    grid: PixelGrid
    selection: str


def sky_of(run) -> str:
    """Kind of sky that a run learned from: "simulated", "survey", or "unknown" if its folder archive is missing."""
    archive = Path(run) / "archive"
    if (archive / "catalog.duckdb").is_file():
        return "simulated"
    return "survey" if (archive / "galaxies.parquet").is_file() else "unknown"


def find_trial(run, name: str | None = None) -> Trial:
    """Find a trial of a finished run.

    Parameters
    ----------
    run : str or Path
        Results folder of the run.
    name : str, optional
        Name of the trial; default: the only one.

    Raises
    ------
    UserError
        If there is no such run, it is not finished, it has no such trial, or several and no name is given.
    """
    run = Path(run)
    known = sorted(path.stem.removeprefix("folds-") for path in run.glob("sample/folds-*.parquet"))
    if not known:
        raise UserError(f"{run} is not the results folder of a run: give results/<run> of a finished one.")
    if name is None and len(known) > 1:
        raise UserError(f"{run} has the trials {', '.join(known)}: choose one with --trial.")
    name = known[0] if name is None else name
    if name not in known:
        raise UserError(f"{run} has no trial {name!r}, but {', '.join(known)}: choose one of them with --trial.")
    scored = run / "evaluation" / name / "photoz.parquet"
    store = run / "cubes.zarr"
    for needed in (scored, store):
        if not needed.exists():
            raise UserError(f"{run} is not finished, for {needed} is missing: run its workflow to the end first.")
    grid = grid_of(open_store(store))
    folds = pd.read_parquet(run / "sample" / f"folds-{name}.parquet")
    galaxies = pd.read_parquet(run / "sample" / "galaxies.parquet")
    tested = pd.read_parquet(scored, columns=["fold", "repeat"]).drop_duplicates()
    count = sum(re.fullmatch(r"role_\d+", column) is not None for column in folds) // (tested["repeat"].max() + 1)
    numbers = sorted(tested["fold"] + count * tested["repeat"])
    folds = folds[["object_id", *(f"role_{number}" for number in numbers)]]
    members = [
        m[1] for m in (re.fullmatch(r"(?:z_phot|predicted)_member_(\d+)", c) for c in pq.read_schema(scored).names) if m
    ]
    models = {
        Trained(name, fold, member): run / "training" / name / f"fold-{fold}" / f"member-{member}.safetensors"
        for fold in numbers
        for member in map(int, members)
    }
    return Trial(name, models, domain.training_galaxies(galaxies, folds), store, grid, selection(galaxies, grid))


def load_ensemble(models: dict[Trained, Path], grid: PixelGrid = CUBE) -> dict[Trained, Predictor]:
    """Load all networks of a trial; all must be of the kind of the first, for cubes of the grid.

    Raises
    ------
    UserError
        If a file is missing or damaged, is of another training (`model.load_models`), or differs from the first in
        network, bins, stretch, variant, options, inputs, target or source.
    """
    first = describe_model(next(iter(models.values())))
    if grid_in(first) != grid:
        raise UserError(
            f"{next(iter(models.values()))} was trained on cubes of {grid_in(first)}, but those of the run have "
            f"{grid}: run its workflow to the end, which trains again."
        )
    return load_models(models, architecture_in(first))
