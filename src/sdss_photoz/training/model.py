"""The file of a trained network: safetensors, with what is needed to use it, and to know which training made it."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sdss_photoz import files, training
from sdss_photoz.config import Training
from sdss_photoz.errors import UserError
from sdss_photoz.training.layers import DOCUMENTED, Variant
from sdss_photoz.training.networks import build, variant

KEY = "sdss_photoz"  # one entry with all: safetensors writes several entries in random order


class Trained(NamedTuple):
    """Which training a network is of: the trial's name, the index of the fold, the number of the member."""

    trial: str
    fold: int
    member: int

    @property
    def name(self) -> str:
        """``fold_0_member_0``, …: its name within the trial."""
        return f"fold_{self.fold}_member_{self.member}"

    def __str__(self):
        return f"trial {self.trial}, fold {self.fold}, member {self.member}"


def architecture(settings: Training) -> dict:
    """What a model file must tell for its weights to be used: network, bins, stretch, and what the network varies."""
    # dropout is of the training alone, and the stretch has its own entry
    chosen = variant(settings)._replace(dropout=DOCUMENTED.dropout, stretch=DOCUMENTED.stretch)
    varied = {key: value for key, value in chosen._asdict().items() if value != getattr(DOCUMENTED, key)}
    fixed = {key: getattr(settings, key) for key in ("network", "bins", "stretch")}
    return fixed | ({"variant": varied} if varied else {})


def save_model(path, weights: dict[str, torch.Tensor], description: dict) -> None:
    """Write weights, and a description (JSON values) in the file's metadata, whole."""
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with files.whole(path) as part:
        save_file(weights, part, metadata={KEY: json.dumps(description, sort_keys=True, allow_nan=False)})


def describe_model(path) -> dict:
    """Read what a model file says of its network: the description of `save_model`.

    Raises
    ------
    UserError
        Where the file is missing or damaged, or describes no network.
    """
    description = _read(path, weights=False)[0]
    if lacking := {"network", "bins", "stretch"} - description.keys():
        raise UserError(f"{path} does not tell its {', '.join(sorted(lacking))}: give a model of a finished run.")
    return description


def _read(path, weights: bool = True) -> tuple[dict, dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get(KEY, "{}"))
            names = file.keys() if weights else ()
            return description, {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a whole model file ({error}): delete it and train again.") from None


def load_models(
    paths: dict[Trained, Path], network: str, bins: int, stretch: str, variant: dict | None = None
) -> dict[Trained, nn.Module]:
    """Read trained networks.

    Parameters
    ----------
    paths : dict of Trained to Path
        File of `save_model` of each training.
    network, bins, stretch, variant : str, int, str, dict
        What the caller expects, as of `architecture`: the network, the number of redshift bins, the stretch of the
        flux, and in what the network differs from the documented one.

    Returns
    -------
    dict of Trained to nn.Module
        The networks, ready to predict. The attribute ``point`` of each holds the redshifts that its bins stand for in a
        regressed point estimate, None where none was learned; ``sha256`` the digest of its file.

    Raises
    ------
    UserError
        Where a file is missing or damaged, or does not tell its training; is of another training or another VERSION of
        the stage; or holds another network, other layers, other bins, another stretch or numbers of another type.
    """
    expected = {"network": network, "bins": bins, "stretch": stretch, "variant": variant or {}}
    networks = {of: _load(path, of, expected) for of, path in paths.items()}
    unnamed = [str(paths[of]) for of, module in networks.items() if not module.names_trial]
    if unnamed:
        print(
            f"{unnamed[0]}{f' and {len(unnamed) - 1} more' if len(unnamed) > 1 else ''} do not tell their trial, for "
            "they were trained before model files did: taken, by their place, for those of trial "
            f"{next(iter(networks)).trial}",
            file=sys.stderr,
        )
    return networks


def _load(path, of: Trained, expected: dict) -> nn.Module:
    description, weights = _read(path)
    found = {key: description.get(key, {} if key == "variant" else None) for key in expected}
    if found != expected:
        raise UserError(
            f"{path} holds network {_words(**found)}, but {_words(**expected)} is expected: give the settings that it "
            "was trained with, or train again."
        )
    _check_training(path, description, of)
    name, stretch = expected["network"], expected["stretch"]
    module = build(name, expected["bins"], variant=Variant(**expected["variant"], stretch=stretch))
    types = {key: (weights[key].dtype, value.dtype) for key, value in module.state_dict().items() if key in weights}
    for key, (there, wanted) in types.items():
        if there != wanted:  # it would be converted in silence
            raise UserError(
                f"{path} holds {key} as {_short(there)}, but the training writes {_short(wanted)}: put the file that "
                "the training wrote back, or train again."
            )
    try:
        module.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"{path} holds weights of other layers than {name} has in this version: train again, or use the version "
            "that trained it."
        ) from None
    module.point, module.names_trial = description.get("point"), "trial" in description
    module.sha256 = files.sha256(path)
    return module.eval()


def _check_training(path, description: dict, of: Trained) -> None:
    """Refuse a model file of another training: its network may have learned the very galaxies that it is to predict."""
    if lacking := {"fold", "member", "version"} - description.keys():
        raise UserError(
            f"{path} does not tell its {', '.join(sorted(lacking))}, so nobody knows which galaxies trained it: put "
            "the file that the training wrote back, or train again."
        )
    found = Trained(description.get("trial", of.trial), description["fold"], description["member"])
    if found != of:
        raise UserError(
            f"{path} holds the network of {found}, but that of {of} is expected, which has not seen its test galaxies: "
            "put the file that this training wrote back, or train again."
        )
    if description["version"] != training.VERSION:
        raise UserError(
            f"{path} was trained by version {description['version']} of the stage training, but this is version "
            f"{training.VERSION}: train again, or use the sdss-photoz that trained it."
        )


def name_models(table: pa.Table, networks: dict[Trained, nn.Module], **told) -> pa.Table:
    """Note in a table's metadata which networks predicted it.

    Returns
    -------
    pyarrow.Table
        With an entry ``sdss_photoz``, JSON: ``trial``; ``version`` of the stage training; and ``models``, the SHA-256
        of each model file by its name within the trial, ``fold_0_member_0``, …; and what else is told.
    """
    noted = {
        "trial": next(iter(networks)).trial,
        "version": training.VERSION,
        "models": {of.name: module.sha256 for of, module in networks.items()},
        **told,
    }
    entry = json.dumps(noted, sort_keys=True, allow_nan=False)
    return table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: entry})


def _short(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _words(network: str, bins: int, stretch: str, variant: dict) -> str:
    varied = "".join(f", {key} {value}" for key, value in variant.items())
    return f"{network} with {bins} bins and stretch {stretch}{varied}"
