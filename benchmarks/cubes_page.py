"""The page and the figure of the benchmark of the cubes."""

import datetime
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

SWARP, DECOMPRESSION, GIGABYTES = 300, 1.05, 4  # targets: least speed over SWarp's, largest ratio, memory
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"  # colour-blind safe (Okabe and Ito)
NAMES = {
    "wall_ms": "wall ms",
    "cpu_ms": "CPU ms",
    "speed": "cutouts per second",
    "over_swarp": "times SWarp's speed (CPU)",
    "sigma": "largest difference from SWarp (noise)",
    "over_decompression": "stage over decompression",
    "ms_per_cutout": "CPU ms per cutout and frame",
    "gigabytes": "peak GB",
    "bytes": "bytes per cube",
    "rms": "error, RMS (noise)",
    "largest": "largest (noise)",
    "relative": "relative, above 100 times the noise",
    "write": "cubes per second, written",
    "load": "loaded",
}


class Results(NamedTuple):
    """Results of all benchmarks: see the functions that the attributes are named after."""

    frames: int  # real frames
    positions: int  # for each program, and galaxies on each frame of the stage
    kernels: pd.DataFrame
    readers: pd.DataFrame
    stage: dict[str, float]
    densities: pd.DataFrame  # over galaxies per frame
    deep_galaxies: int
    depths: pd.DataFrame
    precisions: pd.DataFrame | None
    shared: dict[str, float] | None


def page(found: Results, option: str) -> str:
    """Return the page, in Markdown."""
    command = f"python benchmarks/cubes.py SAS {option}".strip()
    parts = [
        "# Speed and memory of the cubes",
        machine(),
        f"`{command}`, SAS a folder with {found.frames} corrected frames.",
        "![Time per cutout, ratio to decompression, time and memory over depth](cubes.png)",
        "## Cutouts of an open frame",
        *_kernels(found.kernels, found.positions),
        "## Reading a whole frame",
        _markdown(found.readers, "library"),
        "## The stage",
        _stage(found.stage),
        "By the number of galaxies per frame:",
        _markdown(found.densities, "galaxies"),
        f"By the number of frames per galaxy ({found.deep_galaxies:,} galaxies, one band, plain files; target: at most "
        f"{GIGABYTES} GB):",
        _markdown(found.depths, "depth"),
    ]
    if found.precisions is not None:
        parts += ["## The store", _markdown(found.precisions, "`cubes.precision`")]
    if found.shared is not None:
        parts += ["## Frames needed by several chunks", _shared(found.shared)]
    return "\n\n".join(parts) + "\n"


def machine() -> str:
    """Return date, hardware and versions."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    model = named[1].strip() if named else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    programs = [f"{name} {version(name)}" for name in ("numpy", "numba", "reproject", "indexed_bzip2")]
    if shutil.which("SWarp"):
        shown = subprocess.run(["SWarp", "-v"], capture_output=True, text=True)
        programs.append(" ".join((shown.stdout + shown.stderr).split()[:3]))
    return (
        f"{datetime.date.today()}; {cores} cores of {model}, {memory:.0f} GB; {platform.system()}, Python "
        f"{platform.python_version()}, {', '.join(programs)}."
    )


def _kernels(table: pd.DataFrame, positions: int) -> list[str]:
    text = (
        f"{positions} positions on one frame, in memory for the kernel; SWarp reads the uncompressed frame from disk "
        "for each cutout; reproject, which maps all of its input, gets a part of the frame around each position."
    )
    if "over_swarp" in table:
        text += (
            f" On one core the default kernel has **{table['over_swarp']['kernel']:.0f}** times SWarp's speed (target: "
            f"{SWARP}), with exact weights {table['over_swarp']['kernel, exact weights']:.0f} times."
        )
    return [text, _markdown(table, "program")]


def _stage(found: dict[str, float]) -> str:
    return (
        f"{found['frames']} frames with {found['galaxies_per_frame']} galaxies each, stacked and written as a shard: "
        f"**{found['over_decompression']:.3f}** times the decompression of the same frames to the same last row "
        f"(target: at most {DECOMPRESSION}; {found['fastest']:.3f} for the fastest visit to each frame). Decompression "
        f"is {100 * found['decompression']:.1f} % of the stage. {found['frame_ms']:.0f} CPU ms per frame, "
        f"{found['cutouts_per_second']:.0f} cutouts per second on one core; peak memory {found['gigabytes']:.2f} GB, "
        f"of which {found['libraries_gigabytes']:.2f} GB are libraries."
    )


def _shared(found: dict[str, float]) -> str:
    return (
        f"In a synthetic survey whose {found['galaxies']:,} galaxies need {found['frames']:,} frames, in "
        f"{found['chunks']} chunks along the sky, {100 * found['fraction']:.1f} % of the frames are needed by two "
        f"chunks or more; a frame is decompressed {found['decompressions']:.3f} times on average, for "
        f"{found['galaxies_per_frame']:.1f} galaxies each time."
    )


def _markdown(table: pd.DataFrame, index: str) -> str:
    """Format a table in Markdown, with three significant digits."""
    table = table.rename(columns=NAMES)
    lines = [f"| {' | '.join([index, *table.columns])} |", "|---" + "|---:" * len(table.columns) + "|"]
    for name, row in zip(table.index, table.itertuples(index=False), strict=True):
        lines.append(f"| {' | '.join([str(name), *map(_digits, row)])} |")
    return "\n".join(lines)


def _digits(value: float) -> str:
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1e}" if value < 1e-3 else f"{value:.3g}"


def draw(found: Results, path: Path) -> None:
    """Draw time per cutout, ratio to decompression, time and memory over depth."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    (bars, ratio), (cost, memory) = figure.subplots(2, 2)
    alone = found.kernels.loc[[name for name in found.kernels.index if "threads" not in name], "cpu_ms"]
    ours = alone.index.str.contains("kernel|lanczos3")
    drawn = bars.barh(alone.index, alone, color=[BLUE if own else GREY for own in ours])
    bars.bar_label(drawn, labels=[f"{value:.3g}" for value in alone], padding=3)
    bars.set(xscale="log", xlim=(alone.min() / 3, alone.max() * 5), xlabel="CPU milliseconds per cutout, one core")
    bars.set_title("Cutouts of an open frame")
    bars.invert_yaxis()
    ratio.plot(found.densities.index, found.densities["over_decompression"], "o-", color=BLUE)
    ratio.set(xlabel="galaxies per frame", ylabel="stage over decompression", title="The stage")
    cost.plot(found.depths.index, found.depths["ms_per_cutout"], "o-", color=BLUE)
    cost.set(xlabel="frames per galaxy", ylabel="CPU milliseconds per cutout and frame", title="Time over depth")
    memory.plot(found.depths.index, found.depths["gigabytes"], "s-", color=GREEN)
    memory.set(
        xlabel="frames per galaxy", ylabel="peak GB", title=f"Memory of {found.deep_galaxies:,} galaxies, one band"
    )
    for axes, limit, words in (
        (ratio, DECOMPRESSION, f"target: at most {DECOMPRESSION}, at {found.positions} galaxies"),
        (memory, GIGABYTES, f"target: at most {GIGABYTES} GB"),
    ):
        axes.axhline(limit, color=ORANGE, linestyle="--")
        axes.annotate(words, (0.02, limit), xycoords=("axes fraction", "data"), color=ORANGE, va="bottom")
    for axes in (cost, memory):
        axes.set_ylim(0, axes.get_ylim()[1] * 1.1)
    for axes, table in ((ratio, found.densities), (cost, found.depths), (memory, found.depths)):
        axes.set_xscale("log")
        axes.set_xticks(table.index, table.index.astype(str))
        axes.minorticks_off()
    for axes in (bars, ratio, cost, memory):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
