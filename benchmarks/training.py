"""How long a galaxy takes in training and prediction, and what the default training learns from synthetic galaxies.

python benchmarks/training.py [--out FOLDER] [--quick]

On a CPU it measures one thread in processor seconds, so that other programs on the machine matter little.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sdss_photoz.config import Training
from sdss_photoz.training.data import entropy, gather
from sdss_photoz.training.device import arithmetic, claim, cpu_threads
from sdss_photoz.training.fit import train_member
from sdss_photoz.training.networks import build, names
from sdss_photoz.training.step import adam, logits, train_step

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))
from synthetic_galaxies import draw_population, render


def main() -> None:
    """Print the tables, and write them to the folder where one is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the tables, as CSV")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    arguments = parser.parse_args()
    with claim(arguments.device) as device, cpu_threads(1):
        tables = {
            "training-steps": time_steps(device, arguments.quick),
            "training-learning": learn(device, 256 if arguments.quick else 3000),
        }
    for name, table in tables.items():
        print(f"\n{name}\n{table.to_string(index=False)}")
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            table.to_csv(arguments.out / f"{name}.csv", index=False)


def time_steps(device: torch.device, quick: bool) -> pd.DataFrame:
    """Milliseconds a galaxy of a step (forward, backward, Adam) and of prediction, for each network and arithmetic."""
    rows = []
    for name in names():
        batch = 2 if quick else (8 if device.type == "cpu" and name == "inception" else 128)
        cubes, ebv = torch.randn(batch, 64, 64, 5, device=device), torch.rand(batch, device=device)
        labels = torch.randint(0, 180, (batch,), device=device)
        for kind in dict.fromkeys((torch.float32, arithmetic(device))):
            network = build(name).to(device, memory_format=torch.channels_last)
            optimizer = adam(network)

            def step(network=network, optimizer=optimizer, data=(cubes, ebv, labels), kind=kind):
                train_step(network, optimizer, data, 1e-4, kind)

            def predict(network=network, cubes=cubes, ebv=ebv):
                with torch.no_grad():
                    logits(network, cubes, ebv, torch.float32)

            rows.append(
                {
                    "network": name,
                    "arithmetic": str(kind).removeprefix("torch."),
                    "batch": batch,
                    "step_ms_per_galaxy": 1e3 * _median_seconds(step, device, 1 if quick else 5) / batch,
                    "prediction_ms_per_galaxy": 1e3 * _median_seconds(predict, device, 1 if quick else 5) / batch,
                }
            )
    return pd.DataFrame(rows).round(3)


def _median_seconds(action, device: torch.device, repeats: int) -> float:
    """Median time of an action after one run to warm up: processor seconds on a CPU, elapsed seconds on a GPU."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds = []
    for _ in range(repeats + 1):
        start = clock()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(clock() - start)
    return statistics.median(seconds[1:])


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
