"""What trainings of a network of the user's cost, as its measurement tells; read without importing torch."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from sdss_photoz import files
from sdss_photoz.training.resources import COSTS, Cost

if TYPE_CHECKING:
    from sdss_photoz.config import Config

# Keys of a target that change no number of outputs
OF_VALUES = {"column", "low", "high", "kind", "loss", "distribution", "draws"}


def measurements(config: "Config") -> dict[str, list[str]]:
    """The trials whose networks are not the library's, by the name of their network's measurement.

    One for each network with its options, images, numbers and outputs.
    """
    found = {}
    for trial in config.trials:
        if (name := _name(config, trial)) is not None:
            found.setdefault(name, []).append(trial)
    return found


def measurement(config: "Config", trial: str) -> Path | None:
    """The file with the cost of a trial's network, ``training/networks/NAME.json``; None for one of the library's."""
    name = _name(config, trial)
    return None if name is None else config.folder / "training" / "networks" / f"{name}.json"


def read_cost(config: "Config", trial: str) -> Cost | None:
    """The measured cost of a trial's network; None for one of the library's, and before it is measured."""
    path = measurement(config, trial)
    try:
        return None if path is None else Cost(**json.loads(path.read_text(encoding="utf-8"))["cost"])
    except (OSError, ValueError, KeyError, TypeError):  # missing, or of another version
        return None


def _name(config: "Config", trial: str) -> str | None:
    settings = config.trial_training(trial)
    if settings.network in COSTS:
        return None
    inputs, target = config.trial_inputs(trial), config.trial_target(trial)
    image = inputs.image_grid(config.cubes.grid)
    measured = [
        settings.options,
        [image.size, *image.bands, inputs.channels],
        inputs.numbers,
        target.model_dump(mode="json", exclude=OF_VALUES),
    ]
    return f"{settings.network.replace(':', '.')}-{files.digest(measured)[:8]}"
