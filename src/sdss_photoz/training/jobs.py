"""What the workflow's rules call: one training, or the predictions of one fold."""

import re
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import torch

from sdss_photoz import files
from sdss_photoz.config import Training
from sdss_photoz.errors import UserError
from sdss_photoz.training.controls import shuffled
from sdss_photoz.training.data import complete, load_examples, select, selection
from sdss_photoz.training.device import claim, cpu_threads, full_memory_said, numerics, on_gpu
from sdss_photoz.training.fit import check_counts, train_member
from sdss_photoz.training.model import Trained, architecture, load_models, name_models
from sdss_photoz.training.predict import predict_fold
from sdss_photoz.training.replay import keep_kernels
from sdss_photoz.training.room import choose_residence, resident_bytes
from sdss_photoz.training.watch import Scalars


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
    scratch=None,
    scalars=None,
    control: str = "none",
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
    scratch : str or Path, optional
        Folder of the float16 copy of the cubes, where one is needed and ``settings.scratch`` names none; default:
        ``.scratch`` beside the model.
    scalars : str or Path, optional
        Folder of this training's scalars for TensorBoard; default: none are written.
    control : {"none", "target_removed", "shuffled_labels"}
        What makes the training a negative control (`controls`).

    Raises
    ------
    UserError
        Where the fold has too few galaxies, or data cannot be trained on, or the cubes are those of another selection,
        or there is no room in the GPU's memory or on the scratch disk.
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
    if control == "shuffled_labels":
        chosen = shuffled(chosen, settings.seed, fold)
    model_path = Path(model_path)
    counts = {role: len(table) for role, table in chosen.items()}
    check_counts(counts["train"], counts["validation"], settings, label)
    scratch = settings.scratch or scratch or model_path.with_name(".scratch")
    with claim(settings.device) as device, cpu_threads(settings.cpu_threads):
        if on_gpu(device):
            keep_kernels(scratch)
        residence = choose_residence(settings.residence, sum(counts.values()), device)
        if residence == "streamed" and settings.sampling == "balanced":
            raise UserError(
                f"{label}: training.sampling is balanced, but cubes that are streamed from disk are visited chunk by "
                "chunk: set training.sampling to all, or training.residence to device or pinned."
            )
        with _memory_in_one_sentence(label, settings, residence, resident_bytes(sum(counts.values()), device)):
            examples = {
                role: load_examples(
                    table,
                    store,
                    settings.bins,
                    settings.stretch,
                    device,
                    digest,
                    residence=residence,
                    scratch=scratch,
                    outside=settings.outside_bins,
                    without_target=control == "target_removed",
                )
                for role, table in chosen.items()
            }
            train_member(
                examples["train"],
                examples["validation"],
                settings,
                trial,
                fold,
                member,
                model_path,
                history_path,
                model_path.with_name(f".member-{member}.checkpoint"),
                partial(Scalars, scalars) if scalars else None,
            )


def _memory_in_one_sentence(label: str, settings: Training, residence: str, cubes: int):
    """Say which setting to lower, and by how much, where the GPU's memory is full."""
    remedies = []
    if residence == "device":
        remedies.append(f"set training.residence to pinned, which frees {cubes:,} bytes")
    if settings.batch > 1:
        remedies.append(f"lower training.batch from {settings.batch} to {settings.batch // 2}")
    return full_memory_said(
        f"{label}: the GPU's memory is full with cubes {residence} and training.batch {settings.batch}: "
        f"{', or '.join(remedies) or 'use a GPU with more memory'}."
    )


@full_memory_said("the GPU's memory is full: free it of other programs, or set training.device to cpu.")
def predict(
    galaxies: pd.DataFrame,
    folds: pd.DataFrame,
    store,
    settings: Training,
    trial: str,
    fold: int,
    models: list,
    out_path,
    control: str = "none",
) -> None:
    """Predict all test galaxies of one fold with each member of its ensemble, also those without a frame in a band.

    Parameters
    ----------
    galaxies, folds, store, settings, trial, fold
        As for `train`.
    models : list of str or Path
        Files of the members, named ``member-<member>.safetensors``.
    out_path : str or Path
        Output: parquet with columns object_id, member, pdf; its metadata tell the models (`model.name_models`).
    control : {"none", "target_removed", "shuffled_labels"}
        As for `train`.

    Raises
    ------
    UserError
        Where the fold has no test galaxies, a model is another network's or another training's (`model.load_models`),
        or the cubes are those of another selection.
    """
    chosen = select(galaxies, folds, fold, "test")
    if chosen.empty:
        raise UserError(f"fold {fold} has no test galaxies: lower folds.count, or correct the trial's test_in.")
    kind = torch.float32 if settings.precision == "float32" else torch.bfloat16
    with claim(settings.device) as device, cpu_threads(settings.cpu_threads), numerics(device, kind):
        paths = {Trained(trial, fold, _member(path)): path for path in sorted(models, key=_member)}
        networks = load_models(paths, **architecture(settings))
        table = predict_fold(
            chosen,
            store,
            [(of.member, network.to(device)) for of, network in networks.items()],
            settings.stretch,
            settings.bins,
            device,
            selection(galaxies),
            without_target=control == "target_removed",
            symmetries=settings.symmetry_averaging,
        )
        with files.whole(out_path) as part:
            pq.write_table(name_models(table, networks), part)


def _member(path) -> int:
    match = re.search(r"member-(\d+)\.safetensors$", str(path))
    if match is None:
        raise UserError(f"{path} is not named like a member's model file (member-<number>.safetensors).")
    return int(match[1])
