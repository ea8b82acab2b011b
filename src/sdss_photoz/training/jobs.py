"""What the workflow's rules call: one training, or the predictions of one fold."""

import re
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from sdss_photoz import files
from sdss_photoz.config import Training
from sdss_photoz.errors import UserError
from sdss_photoz.training.data import complete, load_examples, select, selection
from sdss_photoz.training.device import claim, cpu_threads
from sdss_photoz.training.fit import train_member
from sdss_photoz.training.model import load_model
from sdss_photoz.training.predict import predict_fold


def train(
    galaxies: pd.DataFrame,
    folds: pd.DataFrame,
    store,
    settings: Training,
    trial: str,
    fold: int,
    member: int,
    model_path,
    history_path,
) -> None:
    """Train one member of one fold's ensemble and write its weights and history.

    Galaxies without any frame in a band do not take part; partial coverage does, with zeros where uncovered.

    Parameters
    ----------
    galaxies : DataFrame
        sample/galaxies.parquet.
    folds : DataFrame
        sample/folds-<trial>.parquet.
    store : str or Path
        cubes.zarr.
    settings : config.Training
        The block of the configuration as it holds for the trial.
    trial : str
        Name of the trial, for messages.
    fold, member : int
        Index of the fold and number of the member.
    model_path, history_path : str or Path
        Outputs; checkpoints lie beside them in ``.member-<member>.checkpoint``.

    Raises
    ------
    UserError
        Where the fold has too few galaxies, or data cannot be trained on, or the cubes are those of another selection.
    """
    label = f"{trial}, fold {fold}, member {member}"
    covered, digest = complete(store), selection(galaxies)
    chosen = {}
    for role in ("train", "validation"):
        table = select(galaxies, folds, fold, role)
        chosen[role] = table[covered[table["row"]]]
        if chosen[role].empty:
            raise UserError(
                f"{label} has no {role} galaxies with a frame in every band: widen the sample, lower folds.count, or "
                "correct the trial's train_in, train_fraction or validation_fraction."
            )
        if dropped := len(table) - len(chosen[role]):
            print(f"{label}: {dropped} {role} galaxies without any frame in a band left out", file=sys.stderr)
    with claim(settings.device) as device, cpu_threads(settings.cpu_threads):
        examples = {
            role: load_examples(table, store, settings.bins, settings.stretch, device, digest)
            for role, table in chosen.items()
        }
        folder = Path(model_path).with_name(f".member-{member}.checkpoint")
        train_member(
            examples["train"],
            examples["validation"],
            settings,
            fold,
            member,
            model_path,
            history_path,
            folder,
            label,
        )


def predict(
    galaxies: pd.DataFrame, folds: pd.DataFrame, store, settings: Training, fold: int, models: list, out_path
) -> None:
    """Predict all test galaxies of one fold with each member of its ensemble, also those without a frame in a band.

    Parameters
    ----------
    galaxies, folds, store, settings, fold
        As for `train`.
    models : list of str or Path
        Files of the members, named ``member-<member>.safetensors``.
    out_path : str or Path
        Output: parquet with columns object_id, member, pdf.

    Raises
    ------
    UserError
        Where the fold has no test galaxies, a model is another network's, or the cubes are those of another selection.
    """
    chosen = select(galaxies, folds, fold, "test")
    if chosen.empty:
        raise UserError(f"fold {fold} has no test galaxies: lower folds.count, or correct the trial's test_in.")
    with claim(settings.device) as device, cpu_threads(settings.cpu_threads):
        networks = [
            (_member(path), load_model(path, settings.network, settings.bins, settings.stretch).to(device))
            for path in sorted(models, key=_member)
        ]
        table = predict_fold(chosen, store, networks, settings.stretch, settings.bins, device, selection(galaxies))
        with files.whole(out_path) as part:
            pq.write_table(table, part)


def _member(path) -> int:
    match = re.search(r"member-(\d+)\.safetensors$", str(path))
    if match is None:
        raise UserError(f"{path} is not named like a member's model file (member-<number>.safetensors).")
    return int(match[1])
