"""A training that is killed with -9 and started again: what it loses, and whether it ends with the same bytes."""

import math
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

OUTPUTS = ("member-0.safetensors", "history.csv")
BATCH = 16
SIZES = {"quick": (64, 16, 3), "whole": (1500, 300, 16)}  # galaxies to train on, to validate on, and epochs


def restart(device: torch.device, quick: bool) -> list[dict]:
    """Train undisturbed; train again, killed a moment after the checkpoint of a random epoch, and go on.

    Returns
    -------
    list of dict
        A row per kill: seconds of the undisturbed training with its start, seconds until the kill, seconds from there
        to the end, seconds lost, and whether the files have the same bytes.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, rows = Path(folder) / "whole", []
        undisturbed = _train(whole, device, quick)
        for kill in range(1 if quick else 3):
            out = Path(folder) / f"killed-{kill}"
            before = _train(out, device, quick, killed=random.Random(kill))
            after = _train(out, device, quick)
            same = all((whole / name).read_bytes() == (out / name).read_bytes() for name in OUTPUTS)
            rows.append(
                {
                    "undisturbed_s": round(undisturbed, 1),
                    "killed_after_s": round(before, 1),
                    "went_on_for_s": round(after, 1),
                    "lost_s": round(before + after - undisturbed, 1),
                    "same_bytes": "yes" if same else "no",
                }
            )
    return rows


def _train(out: Path, device: torch.device, quick: bool, killed: random.Random | None = None) -> float:
    """Seconds of a training in a process of its own."""
    size = "quick" if quick else "whole"
    command = [sys.executable, __file__, str(out), str(device), size]
    start = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        if killed is None:
            _, stderr = process.communicate()
            if process.returncode:
                raise RuntimeError(f"the training ended with an error: {stderr}")
        else:
            galaxies, _, epochs = SIZES[size]
            step = math.ceil(killed.randint(1, epochs - 2) * galaxies / BATCH)
            while process.poll() is None and _newest(out / ".checkpoint") < step:
                time.sleep(0.01)
            time.sleep(killed.uniform(0, 0.1))
            process.kill()
            process.communicate()
    return time.perf_counter() - start


def _newest(checkpoints: Path) -> int:
    """Steps that the newest checkpoint holds; 0: there is none."""
    return max((int(path.stem.removeprefix("step-")) for path in checkpoints.glob("step-*.safetensors")), default=0)


def main(out: str, device: str, size: str) -> None:
    """Train the default network on galaxies of the benchmark."""
    from training_forms import Settings
    from training_galaxies import make_examples

    from sdss_photoz.training.fit import train_member

    *counts, epochs = SIZES[size]
    settings = Settings(epochs=epochs, batch=BATCH, checkpoint_minutes=0.0, deterministic=True)
    train, validation = (
        make_examples(count, seed, torch.device(device), settings) for seed, count in enumerate(counts)
    )
    places = (Path(out) / name for name in (*OUTPUTS, ".checkpoint"))
    train_member(train, validation, settings, "benchmark", 0, 0, *places)


if __name__ == "__main__":
    main(*sys.argv[1:])
