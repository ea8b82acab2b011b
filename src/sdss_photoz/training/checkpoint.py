"""Checkpoints, from which a training resumes with the same result as without interruption."""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdss_photoz import files

KEPT = 2  # the newest, and the one before in case the newest is damaged

_log = logging.getLogger(__name__)


@dataclass
class State:
    """State of a training.

    Attributes
    ----------
    tensors : dict
        Weights, Adam's moments, the best weights so far and the sum of losses, by name.
    step, epoch : int
        Number of completed steps and epochs.
    history : list of dict
        A row per completed epoch.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    epoch: int = 0
    history: list[dict] = field(default_factory=list)


def _digest(tensors: dict[str, Tensor], metadata: dict) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Checkpoints:
    """The folder of a training's checkpoints.

    Checkpoints of a training with another digest and damaged files are renamed, with a log message each.

    Parameters
    ----------
    folder : str or Path
        The folder, for example ``.member-0.checkpoint``; created when first needed.
    digest : str
        Digest of all that the training's result depends on.
    """

    def __init__(self, folder: str | Path, digest: str):
        self.folder, self.digest = Path(folder), digest

    def save(self, state: State) -> None:
        """Write a checkpoint atomically and remove all but the newest two."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
        metadata = {"step": state.step, "epoch": state.epoch, "history": state.history, "training": self.digest}
        metadata["digest"] = _digest(tensors, metadata)
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.whole(self.folder / f"step-{state.step:09d}.safetensors") as part:
            save_file(tensors, part, metadata={"state": json.dumps(metadata)})
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def load(self) -> State | None:
        """The newest undamaged checkpoint of this training, or None. Incomplete files of killed jobs are removed."""
        for part in self.folder.glob(".step-*.part"):
            part.unlink()
        for path in self._newest_first():
            try:
                metadata, tensors = _read(path)
            except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
                path.replace(path.with_name(f"{path.name}.damaged"))
                _log.warning("checkpoint %s is damaged (%s): set aside, using any before it", path, error)
                continue
            if metadata["training"] != self.digest:
                self._rename_folder(metadata["training"])
                return None
            return State(tensors, metadata["step"], metadata["epoch"], metadata["history"])
        return None

    def remove(self) -> None:
        """Remove the folder, at the end of the training."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _rename_folder(self, other: str) -> None:
        aside = self.folder.with_name(f"{self.folder.name}-of-{other[:12]}")
        shutil.rmtree(aside, ignore_errors=True)
        self.folder.replace(aside)
        _log.warning("checkpoints of other settings, data or code are set aside as %s: starting anew", aside)


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["state"])
        written = metadata.pop("digest")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    if _digest(tensors, metadata) != written:
        raise ValueError("it does not hold what was written")
    return metadata, tensors
