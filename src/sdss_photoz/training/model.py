"""The file of a trained network: safetensors, with its architecture and training in the metadata."""

import json
import logging
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sdss_photoz import files, import_path, training
from sdss_photoz.config import Training
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build, variant
from sdss_photoz.networks.parts.layers import DOCUMENTED, Variant
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.targets.head import Head
from sdss_photoz.targets.head import recorded as recorded_head

ARCHITECTURE = ("network", "bins", "stretch", "variant", "grid", "options", "inputs", "target", "source")
KEY = "sdss_photoz"  # a single entry of the metadata: safetensors writes several in random order

_log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """Identifies a training by the name of the trial and the indices of fold and member."""

    trial: str
    fold: int
    member: int

    @property
    def name(self) -> str:
        """Name within the trial: ``fold_0_member_0``, …"""
        return f"fold_{self.fold}_member_{self.member}"

    def __str__(self):
        return f"trial {self.trial}, fold {self.fold}, member {self.member}"


def architecture(settings: Training, inputs: Inputs, head: Head) -> dict:
    """The entries of a model file that describe its network: network, bins, stretch, and what is not the default of it.

    Those are the variant; pixels and bands of the cubes; ``inputs`` and ``target`` (`Inputs.record`, `Head.record`);
    and of a network that an import path names the SHA-256 of its source and its options.
    """
    chosen = variant(settings)
    if head.passes == 1:  # dropout concerns training alone
        chosen = chosen._replace(dropout=DOCUMENTED.dropout)
    varied = {key: value for key, value in chosen._asdict().items() if value != getattr(DOCUMENTED, key)}
    required = {"network": settings.network, "bins": head.label.grid.bins, "stretch": inputs.stretch}
    cubes = inputs.cubes
    other = {
        "variant": varied,
        "grid": {} if cubes == CUBE else {**cubes._asdict(), "bands": "".join(cubes.bands)},
        "options": settings.options,
        **recorded(settings, inputs, head),
    }
    return required | {key: value for key, value in other.items() if value}


def recorded(settings: Training, inputs: Inputs, head: Head) -> dict:
    """The entries ``inputs``, ``target`` and ``source`` of `architecture`."""
    other = {"inputs": inputs.record(), "target": head.record(), **import_path.recorded(settings.network)}
    return {key: value for key, value in other.items() if value}


def grid_in(description: dict) -> PixelGrid:
    """The pixels and bands of the cubes for which a network was made, by the entries of `architecture`."""
    entry = description.get("grid")
    return PixelGrid(entry["size"], entry["pixel_scale"], tuple(entry["bands"])) if entry else CUBE


def inputs_in(description: dict) -> Inputs:
    """What a network reads, by the description of its model file; numbers scaled as in its training."""
    record, scaling = description.get("inputs", {}), description.get("scaling")
    return Inputs.recorded(grid_in(description), description["stretch"], record, scaling)


def head_in(description: dict) -> Head:
    """What a network predicts, by the description of its model file."""
    return recorded_head(description["bins"], description.get("target", {}), description.get("fitted"))


def save_model(path: str | Path, weights: dict[str, torch.Tensor], description: dict) -> None:
    """Write weights, and a description (JSON values) in the metadata, atomically."""
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with files.whole(path) as part:
        save_file(weights, part, metadata={KEY: json.dumps(description, sort_keys=True, allow_nan=False)})


def describe_model(path: str | Path) -> dict:
    """Read the description of a model file, as given to `save_model`.

    Raises
    ------
    UserError
        If the file is missing or damaged, or describes no network.
    """
    description = _read(path, weights=False)[0]
    if missing := {"network", "bins", "stretch"} - description.keys():
        raise UserError(f"{path} does not tell its {', '.join(sorted(missing))}: give a model of a finished run.")
    return description


def _read(path: str | Path, weights: bool = True) -> tuple[dict, dict[str, torch.Tensor]]:
    """Description and, on request, weights of a model file."""
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get(KEY, "{}"))
            names = file.keys() if weights else ()
            return description, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a whole model file ({error}): delete it and train again.") from None


class Predictor(NamedTuple):
    """A trained network.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode.
    inputs : Inputs
        What it reads; numbers scaled as in its training.
    head : Head
        What it predicts.
    point : list of float or None
        Value of each bin for the regressed point estimate, if the training learned them.
    sha256 : str
        Digest of the model file.
    names_trial : bool
        Whether the model file tells its trial.
    """

    network: nn.Module
    inputs: Inputs
    head: Head
    point: list[float] | None
    sha256: str
    names_trial: bool

    def to(self, device: torch.device) -> "Predictor":
        """The same, on a device."""
        return self._replace(network=self.network.to(device), head=self.head.to(device))


def load_models(paths: dict[Trained, Path], expected: dict) -> dict[Trained, Predictor]:
    """Read trained networks.

    Parameters
    ----------
    paths : dict of Trained to Path
        File of `save_model` of each training.
    expected : dict
        The entries of `architecture` that each must have.

    Raises
    ------
    UserError
        If a file is missing or damaged; has no or another training or VERSION of the stage; or has another
        architecture, other layers or another dtype; or the source of its network is missing or was edited.
    """
    networks = {trained: _load(path, trained, expected) for trained, path in paths.items()}
    unnamed = [str(paths[trained]) for trained, predictor in networks.items() if not predictor.names_trial]
    if unnamed:
        _log.warning(
            "%s%s do not tell their trial, for they were trained before model files did: taken, by their place, for "
            "those of trial %s",
            unnamed[0],
            f" and {len(unnamed) - 1} more" if len(unnamed) > 1 else "",
            next(iter(networks)).trial,
        )
    return networks


def _load(path: str | Path, trained: Trained, expected: dict) -> Predictor:
    description, weights = _read(path)
    found = architecture_in(description)
    if found != expected:
        raise UserError(
            f"{path} holds network {_describe(found)}, but {_describe(expected)} is expected: give the settings "
            "that it was trained with, or train again."
        )
    _check_training(path, description, trained)
    _check_source(path, expected["network"], expected.get("source"))
    name, inputs, head = expected["network"], inputs_in(description), head_in(description)
    chosen, options = Variant(**expected.get("variant", {})), expected.get("options", {})
    module = build(name, head.outputs, variant=chosen, inputs=inputs, options=options, ordered=head.ordered)
    dtypes = {key: (weights[key].dtype, value.dtype) for key, value in module.state_dict().items() if key in weights}
    for key, (stored, wanted) in dtypes.items():
        if stored != wanted:  # load_state_dict would convert it without a warning
            raise UserError(
                f"{path} holds {key} as {_name(stored)}, but the training writes {_name(wanted)}: put the file that "
                "the training wrote back, or train again."
            )
    try:
        module.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"{path} holds weights of other layers than {name} has in this version: train again, or use the version "
            "that trained it."
        ) from None
    about = description.get("point"), files.sha256(path), "trial" in description
    return Predictor(module.eval(), inputs, head, *about)


def architecture_in(description: dict) -> dict:
    """The entries of `architecture` in the description of a model file."""
    return {key: description[key] for key in ARCHITECTURE if key in description}


def _check_source(path: str | Path, network: str, trained: str | None) -> None:
    """Refuse a model file whose network has another source, SHA-256 `trained`, than there is now."""
    if trained is None:
        return
    try:
        found = import_path.digest(network)
    except ValueError as error:
        raise UserError(
            f"{path} holds {network}, but that must be {error}: give its folder by PYTHONPATH, or work in it."
        ) from None
    if found != trained:
        raise UserError(
            f"{path} was trained by another source of {network} than {import_path.source(network)} is now: put back "
            "the one that trained it, or train again."
        )


def _check_training(path: str | Path, description: dict, trained: Trained) -> None:
    """Refuse a model file of another training: its training galaxies may be those that it is to predict."""
    if missing := {"fold", "member", "version"} - description.keys():
        raise UserError(
            f"{path} does not tell its {', '.join(sorted(missing))}, so nobody knows which galaxies trained it: put "
            "the file that the training wrote back, or train again."
        )
    found = Trained(description.get("trial", trained.trial), description["fold"], description["member"])
    if found != trained:
        raise UserError(
            f"{path} holds the network of {found}, but that of {trained} is expected, which has not seen its test "
            "galaxies: put the file that this training wrote back, or train again."
        )
    if description["version"] != training.VERSION:
        raise UserError(
            f"{path} was trained by version {description['version']} of the stage training, but this is version "
            f"{training.VERSION}: train again, or use the sdss-photoz that trained it."
        )


def name_models(table: pa.Table, networks: dict[Trained, Predictor], **entries) -> pa.Table:
    """Add the networks that predicted a table to its metadata.

    Returns
    -------
    pyarrow.Table
        With an entry ``sdss_photoz``, JSON: ``trial``; ``version`` of the stage training; and ``models``, the SHA-256
        of each model file by its name within the trial, ``fold_0_member_0``, …; and the further entries.
    """
    metadata = {
        "trial": next(iter(networks)).trial,
        "version": training.VERSION,
        "models": {trained.name: predictor.sha256 for trained, predictor in networks.items()},
        **entries,
    }
    entry = json.dumps(metadata, sort_keys=True, allow_nan=False)
    return table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: entry})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _describe(entries: dict) -> str:
    varied = "".join(
        f", {key} {value}" for part in ("variant", "options") for key, value in entries.get(part, {}).items()
    )
    varied += f" for cubes of {grid_in(entries)}" if "grid" in entries else ""
    varied += "".join(f", {part} {entries[part]}" for part in ("inputs", "target") if part in entries)
    varied += f", source {entries['source'][:12]}" if "source" in entries else ""
    return f"{entries.get('network')} with {entries.get('bins')} bins and stretch {entries.get('stretch')}{varied}"
