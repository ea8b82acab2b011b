"""Checkpoints: all that a training needs to go on as if it had never stopped."""

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdss_photoz import files

KEPT = 2  # the newest, and the one before in case the newest is damaged


@dataclass
class State:
    """Where a training stands.

    Attributes
    ----------
    tensors : dict
        Weights, Adam's moments, the best weights so far, sums; by name.
    step, epoch : int
        Steps and epochs done.
    history : list of dict
        A row per epoch done.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    epoch: int = 0
    history: list[dict] = field(default_factory=list)


def _digest(tensors: dict[str, Tensor], about: dict) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Checkpoints:
    """The folder of a training's checkpoints.

    A checkpoint is of use to nobody but a training of the same digest. Those of another are set aside, so are damaged
    files, each with one line in the log.

    Parameters
    ----------
    folder : Path
        The folder, for example ``.member-0.checkpoint``; made when first needed.
    digest : str
        Digest of all that decides the training's result.
    """

    def __init__(self, folder, digest: str):
        self.folder, self.digest = Path(folder), digest

    def save(self, state: State) -> None:
        """Write a checkpoint whole; drop all but the newest two."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
        about = {"step": state.step, "epoch": state.epoch, "history": state.history, "training": self.digest}
        about["digest"] = _digest(tensors, about)
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.whole(self.folder / f"step-{state.step:09d}.safetensors") as part:
            save_file(tensors, part, metadata={"state": json.dumps(about)})
        for old in self._newest_first()[KEPT:]:
            old.unlink()

    def load(self) -> State | None:
        """The newest whole checkpoint of this training, or None; what a killed job left half written goes."""
        for part in self.folder.glob(".step-*.part"):
            part.unlink()
        for path in self._newest_first():
            try:
                about, tensors = _read(path)
            except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
                path.replace(path.with_name(f"{path.name}.damaged"))
                print(f"checkpoint {path} is damaged ({error}): set aside, using any before it", file=sys.stderr)
                continue
            if about["training"] != self.digest:
                self._set_aside(about["training"])
                return None
            return State(tensors, about["step"], about["epoch"], about["history"])
        return None

    def remove(self) -> None:
        """Remove the folder: the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _set_aside(self, other: str) -> None:
        aside = self.folder.with_name(f"{self.folder.name}-of-{other[:12]}")
        shutil.rmtree(aside, ignore_errors=True)
        self.folder.replace(aside)
        print(f"checkpoints of other settings, data or code are set aside as {aside}: starting anew", file=sys.stderr)


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["state"])
        written = about.pop("digest")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    if _digest(tensors, about) != written:
        raise ValueError("it does not hold what was written")
    return about, tensors
