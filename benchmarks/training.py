"""How long a step takes in each form, a galaxy in training and prediction, and what the default training learns.

python benchmarks/training.py [--out FOLDER] [--quick] [--batch 64]

On a CPU it measures one thread in processor seconds, so that other programs on the machine matter little.
"""

import argparse
import copy
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sdss_photoz.config import Training
from sdss_photoz.training.aligned import AlignedNetwork
from sdss_photoz.training.device import arithmetic, claim, cpu_threads
from sdss_photoz.training.examples import entropy, gather
from sdss_photoz.training.fit import train_member
from sdss_photoz.training.networks import build, names
from sdss_photoz.training.step import Descent, logits, train_step

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))
from synthetic_galaxies import draw_population, render

STEP = Training(schedule="step", learning_rate=1e-4)  # the paper's


def main() -> None:
    """Print the tables, and write them to the folder where one is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the tables, as CSV")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=64, help="galaxies in a step of the paper's network")
    arguments = parser.parse_args()
    with claim(arguments.device) as device, cpu_threads(1):
        tables = {
            "training-ladder": ladder(device, arguments.quick, arguments.batch),
            "training-steps": time_networks(device, arguments.quick),
            "training-learning": learn(device, 256 if arguments.quick else 3000),
        }
    for name, table in tables.items():
        print(f"\n{name}\n{table.to_string(index=False)}")
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            table.to_csv(arguments.out / f"{name}.csv", index=False)


def ladder(device: torch.device, quick: bool, batch: int) -> pd.DataFrame:
    """Time of a step of the paper's network, batch by batch, in each form; the plain one in float32 comes first."""
    plain = build("inception").to(device)
    batches = [_batch(2 if quick else batch, device) for _ in range(3)]
    forms = {
        "plain float32": (plain, torch.float32),
        "channels-last": (plain, torch.float32),
        "merged 1x1 convolutions": (AlignedNetwork(plain, row=1), torch.float32),
        "padded to multiples of 8": (AlignedNetwork(plain), torch.float32),
    }
    if arithmetic(device) == torch.bfloat16 or quick:
        forms["bfloat16 by autocast"] = (plain, torch.bfloat16)
        forms["bfloat16 copies of the weights"] = (AlignedNetwork(plain), torch.bfloat16)
    descents = {}
    for name, (form, kind) in forms.items():
        network = copy.deepcopy(plain)
        if name != "plain float32":
            network = network.to(memory_format=torch.channels_last)
        descents[name] = Descent(network, STEP, 1000, kind, network if form is plain else form)
    seconds = {name: [] for name in descents}
    for turn in range(1 if quick else 4):
        for name, descent in descents.items():
            cubes, ebv, labels = batches[turn % len(batches)]
            if name == "plain float32":  # images as (n, band, y, x) in memory, as most programs keep them
                cubes = cubes.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
            data = cubes, ebv, labels
            seconds[name].append(_seconds(lambda descent=descent, data=data: train_step(descent, data), device))
    measured = {name: statistics.median(times[1:] or times) for name, times in seconds.items()}
    return pd.DataFrame(
        {
            "form": list(measured),
            "batch": len(batches[0][1]),
            "seconds_a_step": [round(value, 4) for value in measured.values()],
            "galaxies_a_second": [round(len(batches[0][1]) / value, 1) for value in measured.values()],
            "times_as_fast": [round(measured["plain float32"] / value, 2) for value in measured.values()],
        }
    )


def time_networks(device: torch.device, quick: bool) -> pd.DataFrame:
    """Milliseconds a galaxy of a step (forward, backward, Adam) and of prediction, for each network."""
    rows = []
    for name in names():
        batch = 2 if quick else (8 if device.type == "cpu" and name == "inception" else 128)
        data, kind = _batch(batch, device), arithmetic(device)
        network = build(name).to(device, memory_format=torch.channels_last)
        descent = Descent(network, STEP, 1000, kind)

        def predict(network=network, data=data):
            with torch.no_grad():
                logits(network, *data[:2], torch.float32)

        actions = {"step": lambda descent=descent, data=data: train_step(descent, data), "prediction": predict}
        row = {"network": name, "arithmetic": str(kind).removeprefix("torch."), "batch": batch}
        for action, call in actions.items():
            seconds = [_seconds(call, device) for _ in range(2 if quick else 4)]
            row[f"{action}_ms_per_galaxy"] = round(1e3 * statistics.median(seconds[1:]) / batch, 3)
        rows.append(row)
    return pd.DataFrame(rows)


def _batch(count: int, device: torch.device):
    cubes, ebv = torch.randn(count, 64, 64, 5, device=device), torch.rand(count, device=device)
    return cubes, ebv, torch.randint(0, 180, (count,), device=device)


def _seconds(action, device: torch.device) -> float:
    """Time of an action: processor seconds on a CPU, elapsed seconds on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def learn(device: torch.device, count: int) -> pd.DataFrame:
    """Train with the default settings on synthetic galaxies."""
    settings = Training(epochs=2) if count < 1000 else Training()
    parts = {}
    for role, size, seed in (("train", count, 1), ("validation", count // 10, 2)):
        population = draw_population(size, seed)
        galaxies = pd.DataFrame({"object_id": np.arange(size), "z_spec": population["z"], "ebv": population["ebv"]})
        cubes = render(population, seed).numpy()
        pieces = (cubes[start : start + 1024] for start in range(0, size, 1024))
        parts[role] = gather(galaxies, pieces, settings.bins, settings.stretch, device)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("member-0.safetensors", "history.csv", ".checkpoint")]
        cpu, elapsed = time.process_time(), time.perf_counter()
        history = train_member(parts["train"], parts["validation"], settings, 0, 0, *outputs)
    return pd.DataFrame(
        {
            "network": [settings.network],
            "galaxies": [count],
            "epochs": [settings.epochs],
            "cpu_seconds": [round(time.process_time() - cpu, 1)],
            "elapsed_seconds": [round(time.perf_counter() - elapsed, 1)],
            "entropy": [round(entropy(parts["train"].labels.cpu().numpy()), 3)],
            "validation_loss": [round(history["validation_loss"].min(), 3)],
        }
    )


if __name__ == "__main__":
    main()
