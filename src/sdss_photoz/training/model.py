"""The file of a trained network: safetensors, with what is needed to use it."""

import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from sdss_photoz import files
from sdss_photoz.config import Training
from sdss_photoz.errors import UserError
from sdss_photoz.training.layers import DOCUMENTED, Variant
from sdss_photoz.training.networks import build, variant

KEY = "sdss_photoz"  # one entry with all: safetensors writes several entries in random order


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


def load_model(path, network: str, bins: int, stretch: str, variant: dict | None = None) -> nn.Module:
    """Read a trained network.

    Parameters
    ----------
    path : str or Path
        File of `save_model`.
    network, bins, stretch, variant : str, int, str, dict
        What the caller expects, as of `architecture`: the network, the number of redshift bins, the stretch of the
        flux, and in what the network differs from the documented one.

    Returns
    -------
    nn.Module
        The network, ready to predict; its attribute ``point`` holds the redshifts that its bins stand for in a
        regressed point estimate, None where none was learned.

    Raises
    ------
    UserError
        Where the file is missing, damaged, or holds another network, other layers, other bins or another stretch.
    """
    description, weights = _read(path)
    expected = {"network": network, "bins": bins, "stretch": stretch, "variant": variant or {}}
    found = {key: description.get(key, {} if key == "variant" else None) for key in expected}
    if found != expected:
        raise UserError(
            f"{path} holds network {_words(**found)}, but {_words(**expected)} is expected: give the settings that it "
            "was trained with, or train again."
        )
    module = build(network, bins, variant=Variant(**expected["variant"], stretch=stretch))
    try:
        module.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"{path} holds weights of other layers than {network} has in this version: train again, or use the version "
            "that trained it."
        ) from None
    module.point = description.get("point")
    return module.eval()


def _words(network: str, bins: int, stretch: str, variant: dict) -> str:
    varied = "".join(f", {key} {value}" for key, value in variant.items())
    return f"{network} with {bins} bins and stretch {stretch}{varied}"
