"""The jobs of the workflow's rules: one training, or the predictions of one fold."""

import logging
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from sdss_photoz import files
from sdss_photoz.config import Training
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.device import claim, cpu_threads, full_memory_as_user_error, numerics, on_gpu
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.targets.head import Head
from sdss_photoz.training.data.load import has_all_bands, load_examples, select, selection
from sdss_photoz.training.data.memory import choose_residence, resident_bytes
from sdss_photoz.training.data.negative_controls import shuffled
from sdss_photoz.training.fast.cuda_graph import cache_kernels
from sdss_photoz.training.fit import check_counts, train_member
from sdss_photoz.training.inference import predict_fold
from sdss_photoz.training.model import Trained, architecture, load_models, name_models
from sdss_photoz.training.rehearsal import rehearse
from sdss_photoz.training.resources import COSTS
from sdss_photoz.training.tensorboard import Scalars

_log = logging.getLogger(__name__)


def train(
    galaxies: pd.DataFrame,
    folds: pd.DataFrame,
    store: str | Path,
    settings: Training,
    inputs: Inputs,
    head: Head,
    trial: str,
    fold: int,
    member: int,
    model_path: str | Path,
    history_path: str | Path,
    scratch: str | Path | None = None,
    scalars: str | Path | None = None,
    control: str = "none",
) -> None:
    """Train one member of one fold's ensemble and write its weights and history.

    Galaxies without any frame in a band that is read are left out. Pixels without coverage are NaN.

    Parameters
    ----------
    galaxies : DataFrame
        sample/galaxies.parquet.
    folds : DataFrame
        sample/folds-<trial>.parquet.
    store : str or Path
        cubes.zarr.
    settings : config.Training
        The configuration's block `training` of the trial.
    inputs, head : Inputs, Head
        What its networks read and predict.
    trial : str
        Name of the trial, for messages.
    fold, member : int
        Index of the fold and number of the member.
    model_path, history_path : str or Path
        Outputs; checkpoints are in ``.member-<member>.checkpoint`` beside the model.
    scratch : str or Path, optional
        Folder of the float16 copy of the cubes, unless ``settings.scratch`` is set; default: ``.scratch`` beside the
        model.
    scalars : str or Path, optional
        Folder of this training's TensorBoard scalars; default: none are written.
    control : {"none", "target_removed", "shuffled_labels"}
        Kind of negative control (`negative_controls`).

    Raises
    ------
    UserError
        If a new network, or its groups, are not what a training needs (`rehearsal.rehearse`), the fold has too few
        galaxies, a value cannot be used in a training, the cubes belong to another selection, or the GPU's memory or
        the scratch disk is full.
    """
    label = f"{trial}, fold {fold}, member {member}"
    if settings.network not in COSTS or settings.groups:
        rehearse(settings, inputs, head)
    grid = inputs.cubes
    digest = selection(galaxies, grid)
    load_cubes(store, (), digest)  # refuses a store of another selection or grid
    covered = has_all_bands(store, inputs)
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
            _log.info("%s: %d %s galaxies without any frame in a band left out", label, dropped, role)
    if control == "shuffled_labels":
        chosen = shuffled(chosen, settings.seed, fold, head.label.column)
    inputs, values = inputs.fitted(chosen["train"]), head.label.read(chosen["train"])
    inputs.warn_of_missing(pd.concat(chosen.values()))
    head = head.fitted(values[np.isfinite(values)])  # the others are refused as the cubes are read
    model_path = Path(model_path)
    counts = {role: len(table) for role, table in chosen.items()}
    check_counts(counts["train"], counts["validation"], settings, label)
    scratch = settings.scratch or scratch or model_path.with_name(".scratch")
    with claim(settings.device) as device, cpu_threads(settings.cpu_threads):
        if on_gpu(device):
            cache_kernels(scratch)
        kept, count = inputs.kept(images=not on_gpu(device)), sum(counts.values())
        residence = choose_residence(settings.residence, count, device, kept)
        if residence == "streamed" and settings.sampling == "balanced":
            raise UserError(
                f"{label}: training.sampling is balanced, but cubes that are streamed from disk are visited chunk by "
                "chunk: set training.sampling to all, or training.residence to device or pinned."
            )
        with _full_memory_as_user_error(label, settings, residence, resident_bytes(count, device, kept)):
            examples = {
                role: load_examples(
                    table,
                    store,
                    inputs if role == "train" else inputs.untouched(),
                    head,
                    device,
                    digest,
                    residence=residence,
                    scratch=scratch,
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


def _full_memory_as_user_error(label: str, settings: Training, residence: str, cubes: int):
    """Convert the error of a full GPU memory to a `UserError` with the settings to lower; `cubes` in bytes."""
    remedies = []
    if residence == "device":
        remedies.append(f"set training.residence to pinned, which frees {cubes:,} bytes")
    if settings.batch > 1:
        remedies.append(f"lower training.batch from {settings.batch} to {settings.batch // 2}")
    return full_memory_as_user_error(
        f"{label}: the GPU's memory is full with cubes {residence} and training.batch {settings.batch}: "
        f"{', or '.join(remedies) or 'use a GPU with more memory'}."
    )


@full_memory_as_user_error("the GPU's memory is full: free it of other programs, or set training.device to cpu.")
def predict(
    galaxies: pd.DataFrame,
    folds: pd.DataFrame,
    store: str | Path,
    settings: Training,
    inputs: Inputs,
    head: Head,
    trial: str,
    fold: int,
    models: list,
    out_path: str | Path,
    control: str = "none",
) -> None:
    """Predict all test galaxies of one fold, also those without a frame in a band, with each member of its ensemble.

    Parameters
    ----------
    galaxies, folds, store, settings, inputs, head, trial, fold
        As for `train`.
    models : list of str or Path
        Files of the members, named ``member-<member>.safetensors``.
    out_path : str or Path
        Output: parquet with columns object_id, member, pdf and those of `inference.predict_fold`, and the models in its
        metadata (`model.name_models`).
    control : {"none", "target_removed", "shuffled_labels"}
        As for `train`.

    Raises
    ------
    UserError
        If the fold has no test galaxies, a model belongs to another network or training (`model.load_models`), or the
        cubes belong to another selection.
    """
    chosen = select(galaxies, folds, fold, "test")
    if chosen.empty:
        raise UserError(f"fold {fold} has no test galaxies: lower folds.count, or correct the trial's test_in.")
    dtype = torch.float32 if settings.precision == "float32" else torch.bfloat16
    with claim(settings.device) as device, cpu_threads(settings.cpu_threads), numerics(device, dtype):
        paths = {Trained(trial, fold, _member(path)): path for path in sorted(models, key=_member)}
        networks = load_models(paths, architecture(settings, inputs, head))
        table = predict_fold(
            chosen,
            store,
            {trained.member: predictor.to(device) for trained, predictor in networks.items()},
            device,
            selection(galaxies, inputs.cubes),
            without_target=control == "target_removed",
            symmetries=settings.symmetry_averaging,
        )
        with files.whole(out_path) as part:
            pq.write_table(name_models(table, networks), part)


def _member(path: str | Path) -> int:
    match = re.search(r"member-(\d+)\.safetensors$", str(path))
    if match is None:
        raise UserError(f"{path} is not named like a member's model file (member-<number>.safetensors).")
    return int(match[1])
