"""Benchmark of training: speed of the device and of each form of a step, and parity of the forms.

    python benchmarks/training.py [--phase ladder parity …] [--out docs/benchmarks]

Needs only torch and numpy; galaxies are simulated on the device. Prints a table per phase; ``--out`` adds them to
training.json in the folder and writes a page, and a figure if matplotlib is installed. On a CPU it measures the CPU
time of one thread, which depends less on other load. ``--quick`` is a test of the code; its numbers mean nothing.
Recipes are meant for a GPU: on a CPU they run only on request.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))  # a machine with torch and numpy alone has no install

import torch
from training_page import HIDDEN, machine, publish, text
from training_parity import parity
from training_restart import restart
from training_speed import ceilings, inference, ladder, layers, residence

from sdss_photoz.device import claim, cpu_threads, numerics

PHASES = ["ceilings", "layers", "ladder", "residence", "parity", "restart", "inference", "recipes"]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phase", nargs="+", choices=PHASES, metavar="NAME", help=f"of {', '.join(PHASES)}; all")
    parser.add_argument("--out", type=Path, help="folder for the page, the figure and the tables")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, not how fast")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--batch", type=int, help="galaxies in a step; 128 on a GPU, 64 on a CPU")
    options = parser.parse_args()
    with claim(options.device) as device, cpu_threads(1), numerics(device, torch.float32):
        phases = options.phase or [
            name for name in PHASES if name != "recipes" or options.quick or device.type == "cuda"
        ]
        print(machine(device))
        tables = {}
        for phase in phases:
            for name, table in measure(phase, device, options.quick, options.batch, tables).items():
                tables[name] = table
                if name not in HIDDEN:
                    print(f"\n{name}\n{text(table)}", flush=True)
        if options.out:
            flags = (" --quick" if options.quick else "") + (f" --batch {options.batch}" if options.batch else "")
            publish(options.out, tables, device, flags)


def measure(phase: str, device: torch.device, quick: bool, batch: int | None, done: dict) -> dict[str, list[dict]]:
    """Tables of a phase by name."""
    batch = batch or (128 if device.type == "cuda" else 64)
    if phase == "layers":
        return {phase: layers(device, quick, batch, done.get("ceilings") or ceilings(device, quick))}
    if phase == "parity":
        table, curves = parity(device, quick)
        return {phase: table, "parity-curves": curves}
    if phase == "restart":
        missing = [name for name in ("pandas", "pydantic", "safetensors", "tqdm") if find_spec(name) is None]
        if missing:
            print(f"\nrestart is left out: checkpoints and history need {', '.join(missing)}")
            return {}
        return {phase: restart(device, quick)}
    if phase == "recipes":
        if find_spec("training_recipes") is None:
            return {}
        from training_recipes import recipes

        return {phase: recipes(device, quick)}
    functions = {"ladder": ladder, "residence": residence}
    if phase in functions:
        return {phase: functions[phase](device, quick, batch)}
    return {phase: {"ceilings": ceilings, "inference": inference}[phase](device, quick)}


if __name__ == "__main__":
    main()
