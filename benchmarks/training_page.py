"""Tables as text, JSON and Markdown, the page and the figure of the benchmark of training.

The figure needs matplotlib, and is left out if it is missing."""

import datetime
import json
import os
import platform
import re
from pathlib import Path

import numpy as np
import torch

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"  # told apart by all eyes (Okabe and Ito)
TITLES = {
    "ceilings": "Speed of the device",
    "layers": "Layers of the paper's network, forward and backward",
    "ladder": "A step of the paper's network, form by form",
    "residence": "Where the cubes stay",
    "parity": "Parity of the fast forms and the plain one",
    "parity-curves": "Validation during these trainings",
    "restart": "Killed with SIGKILL and restarted",
    "inference": "Prediction",
    "recipes": "Recipes",
}
NOTES = {
    "layers": "The floor is the larger of the times of the layer's operations at the speed of a matrix product and of "
    "its bytes at that of a copy. Convolutions by Fourier transform take fewer operations and may lie below it.",
    "ladder": "From index to new weights, median of three measurements, the forms in alternation on three batches.",
    "parity": "Same initial weights, order and symmetries. Differences are fast minus plain, paired by seed, with "
    "standard errors. Passed: both differences zero within two standard errors, that of the loss below 0.5 % of it, "
    "and both forms 0.5 below the entropy of the redshifts after 2,000 steps or more. `NarrowNetwork` has the layers "
    "of the paper's network with few channels, for a CPU; bfloat16 is emulated where the processor lacks it.",
    "restart": "The small network, a checkpoint at the end of each epoch; elapsed seconds, including Python's start.",
    "recipes": "Rows with a + differ from the second row as named. Scores are those of the last step on validation "
    "galaxies, with standard errors over seeds; seconds are those of training, and those until the paper's final loss, "
    "CRPS and sigma_MAD are reached together, at twelve validations. On a CPU the small network is trained on 800 "
    "galaxies, so that the differences need not hold elsewhere. Muon and the schedule-free course were "
    "removed after this measurement: they lowered no score by more than two standard errors.",
    "residence": "Streamed cubes are read from a file that was just written, mostly from the page cache.",
}
HIDDEN = ("parity-curves",)  # drawn, and in its CSV


def machine(device: torch.device) -> str:
    """Date, hardware and versions."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    model = named[1].strip() if named else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    places = f"{cores} cores of {model} ({torch.backends.cpu.get_cpu_capability()})"
    if device.type == "cuda":
        places = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}; {places}"
    else:
        instructions = "with" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "without"
        places += f", {instructions} bfloat16 instructions; one thread, in CPU seconds"
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    places = f"{places}; {load}" if load else places
    return f"{datetime.date.today()}; {places}; PyTorch {torch.__version__}, Python {platform.python_version()}"


def text(table: list[dict]) -> str:
    """A table in columns."""
    cells = [_keys(table), *([_cell(row.get(key)) for key in _keys(table)] for row in table)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def keep(path: Path, tables: dict[str, list[dict]], place: str, about: str, options: str) -> list[dict]:
    """Add tables to the file of all that was measured; those of the same name and place are replaced.

    So phases may be run one by one, and a page tells of more than one machine.
    """
    records = json.loads(path.read_text()) if path.exists() else []
    records = [record for record in records if record["place"] != place or record["name"] not in tables]
    records += [
        {"name": name, "place": place, "about": about, "options": options, "table": table}
        for name, table in tables.items()
    ]
    order = list(TITLES)
    records.sort(key=lambda record: (record["place"] == "CPU", record["place"], order.index(record["name"])))
    path.write_text(json.dumps(records, indent=1, allow_nan=False) + "\n")
    return records


def publish(folder: Path, tables: dict[str, list[dict]], device: torch.device, options: str) -> None:
    """Write the tables, the page and the figures of all machines to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    records = keep(folder / "training.json", tables, device_name(device), machine(device), options)
    parts = ["# Training: speed, parity, restarts"]
    for place in dict.fromkeys(record["place"] for record in records):
        here = {record["name"]: record for record in records if record["place"] == place}
        figure = f"training-{re.sub('[^a-z0-9]+', '-', place.lower())}.png"
        drawn = draw({name: record["table"] for name, record in here.items()}, folder / figure)
        parts.append(f"## {place}")
        parts += [f"![Speed of each form, and how each learns]({figure})"] if drawn else []
        for name, record in here.items():
            if name not in HIDDEN:
                parts += [f"### {TITLES[name]}", *([NOTES[name]] if name in NOTES else []), _markdown(record["table"])]
                phase = name.partition("-")[0]
                parts.append(f"{record['about']}; `python benchmarks/training.py --phase {phase}{record['options']}`.")
    (folder / "training.md").write_text("\n\n".join(parts) + "\n")


def device_name(device: torch.device) -> str:
    """Name of a GPU, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _keys(table: list[dict]) -> list[str]:
    return list(dict.fromkeys(key for row in table for key in row))


def _cell(value) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value >= 1000:
        return f"{value:,.0f}"
    return str(value)


def _markdown(table: list[dict]) -> str:
    keys = _keys(table)
    lines = [f"| {' | '.join(key.replace('_', ' ') for key in keys)} |", "|---" + "|---:" * (len(keys) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(row.get(key)) for key in keys)} |" for row in table)])


def draw(tables: dict[str, list[dict]], path: Path) -> bool:
    """The figure: how fast each form is over the plain one, and how each learns. False where it cannot be drawn."""
    shown = [name for name in ("ladder", "parity-curves") if name in tables]
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not shown:
        return False
    figure = Figure(figsize=(5.5 * len(shown), 4), layout="constrained")
    for name, axes in zip(shown, np.atleast_1d(figure.subplots(1, len(shown))), strict=True):
        {"ladder": _bars, "parity-curves": _curves}[name](axes, tables)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return True


def _bars(axes, tables) -> None:
    names, times = zip(*((row["form"], row["times_as_fast"]) for row in tables["ladder"]), strict=True)
    bars = axes.barh(names, times, color=[GREY, *[BLUE] * (len(names) - 1)])
    axes.bar_label(bars, padding=3)
    axes.axvline(1, color=GREY, linestyle=":")
    axes.invert_yaxis()
    axes.set(xlabel="times the speed of the plain form", xlim=(0, 1.15 * max(times)))
    axes.set_title(f"A step of {tables['ladder'][0]['batch']} galaxies")


def _curves(axes, tables) -> None:
    curves = tables["parity-curves"]
    for form, color in zip(dict.fromkeys(row["form"] for row in curves), (GREY, BLUE, ORANGE, GREEN), strict=False):
        for number, seed in enumerate(dict.fromkeys(row["seed"] for row in curves)):
            steps, losses = zip(
                *(
                    (row["step"], row["validation_loss"])
                    for row in curves
                    if (row["form"], row["seed"]) == (form, seed)
                ),
                strict=True,
            )
            style = {"linewidth": 3, "alpha": 0.5} if color == GREY else {"linewidth": 1}
            axes.plot(steps, losses, color=color, label=None if number else form, **style)
    prior = tables["parity"][0]["entropy"]
    axes.axhline(prior - 0.5, color="black", linestyle="--", linewidth=0.8)
    axes.annotate(
        "0.5 below the entropy", (0.98, prior - 0.5), xycoords=("axes fraction", "data"), ha="right", va="bottom"
    )
    axes.set(xlabel="step", ylabel="validation loss (nat)", title="Parity: each line a seed")
    axes.legend(frameon=False)
