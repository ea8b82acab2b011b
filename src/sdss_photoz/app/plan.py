"""What a run will take: galaxies, frames, bytes, disk, hours.

Figures come from the run's own tables if they exist (results/<run>/sample/galaxies.parquet and archive/fields.parquet:
frames are then counted exactly, less those in the mirror), else from the survey's mean densities. The plan lists what
each figure rests on.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

from sdss_photoz import config as configuration
from sdss_photoz.app.costs import (
    CUTOUT_SECONDS,
    DECOMPRESS_SECONDS,
    Resources,
    Stage,
    data_stages,
    estimate_size,
    training_stage,
)
from sdss_photoz.errors import UserError
from sdss_photoz.frames.consent import FRAME_BYTES, check_consent, format_bytes

CONNECTIONS = 8  # archive_connections of profiles/default and slurm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `sdss-photoz plan`."""
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"), help="configuration of the run")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="cores (default: this machine's)")
    parser.add_argument("--gpus", type=int, default=None, help="GPUs (default: this machine's)")
    parser.add_argument(
        "--connections", type=int, default=CONNECTIONS, help="connections to the archive, all jobs together (8)"
    )
    parser.add_argument("--mb-per-second", type=float, default=2.0, help="what one connection brings (2, assumed)")
    parser.add_argument("--tflops", type=float, default=100.0, help="what a GPU does in training (100, assumed)")
    parser.add_argument("--json", action="store_true", help="print JSON, in bytes and hours")


def main(arguments) -> None:
    """Print the plan."""
    for name in ("cores", "connections", "mb_per_second", "tflops"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}, but must be above 0.")
    config = configuration.load(arguments.configfile)
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*"))) if arguments.gpus is None else max(arguments.gpus, 0)
    resources = Resources(
        arguments.cores,
        0 if config.training.device == "cpu" else gpus,
        arguments.connections,
        arguments.mb_per_second,
        arguments.tflops,
    )
    found = plan(config, resources)
    print(json.dumps(found, indent=1, allow_nan=False) if arguments.json else as_text(found))


def plan(config, resources: Resources) -> dict:
    """Plan a run.

    Parameters
    ----------
    config : config.Config
    resources : Resources
        Cores, GPUs and connections that the run may use; wall-clock hours are for these.

    Returns
    -------
    dict
        ``stages``: a dict for each `Stage`; ``total``: one more; ``rests_on``: sentences; ``warnings``: sentences.
    """
    size = estimate_size(config)
    training, networks, pace = training_stage(config, size, resources)
    stages = [*data_stages(config, size, resources), training]
    sums = {
        key: sum(getattr(stage, key) or 0 for stage in stages)
        for key in ("bytes_to_fetch", "disk_bytes", "cpu_hours", "gpu_hours", "wall_hours")
    }
    total = Stage("total", size.galaxies, size.frames, **sums)
    return {
        "run": config.run,
        "stages": [stage._asdict() for stage in stages],
        "total": total._asdict(),
        "networks": networks,
        "rests_on": [*size.rests_on, *_assumptions(config, size, resources), pace],
        "warnings": _warnings(config, total, stages),
    }


def _assumptions(config, size, resources):
    """What bytes and hours rest on, a sentence each."""
    frames, cubes = "", f"cubes as {config.cubes.precision}"
    if size.to_fetch:
        frames = "scratch folders of the jobs that make cubes, " if config.frames_come_later else "frames to fetch, "
    elif config.archive.service == "embedded" and size.frames:
        frames = "simulated frames, "
    found = [f"disk at peak: {frames}{cubes}, weights of the networks, distributions, all at a time"]
    if size.to_fetch:
        found += [
            f"bytes to fetch: {FRAME_BYTES / 1e6:g} MB a frame",
            f"download: {resources.connections} connections at {resources.mb_per_second:g} MB/s, assumed "
            "(--mb-per-second)",
        ]
    conditions = [f"trials.{name}.where" for name, trial in config.trials.items() if trial.where is not None]
    if size.table is None:
        conditions += ["sample.where"] * (config.sample.where is not None)
        if config.archive.query is not None:
            found.append("the galaxies of the package's own query: those of archive.query are not known before the run")
    if conditions:
        found.append(f"no condition ({', '.join(conditions)}): the figures are upper limits")
    if size.frames:
        found.append(
            f"CPU hours of the cubes: {DECOMPRESS_SECONDS:.2f} s a frame and {1e3 * CUTOUT_SECONDS:g} ms a cutout"
        )
    if config.archive.service != "embedded":
        found.append("not in the figures: the queue of the query service; selection, scores and report (minutes)")
    return found


def _warnings(config, total, stages):
    """Warnings of what would stop the run or fill a disk."""
    found = []
    try:
        check_consent(config, total.bytes_to_fetch)
    except UserError as error:
        found.append(str(error))
    kept = 0 if config.frames_come_later else total.bytes_to_fetch
    places = {"frames": (config.mirror, kept), "results": (config.folder, total.disk_bytes - stages[0].disk_bytes)}
    if _disk(config.mirror) == _disk(config.folder):
        places = {"results and frames": (config.folder, total.disk_bytes)}
    remedy = "name another disk in archive.mirror, or set frames.keep: false" if kept else "work on another disk"
    for what, (path, needed) in places.items():
        free = shutil.disk_usage(_nearest_existing(path)).free
        if needed > free:
            found.append(
                f"{what} take {format_bytes(needed)}, but the disk of {path} has {format_bytes(free)} free: free some, "
                f"or {remedy}."
            )
    return found


def _nearest_existing(path):
    """The path, or the nearest folder above it that exists."""
    path = Path(path).absolute()
    # not Path.exists, which raises without permission
    return next(folder for folder in (path, *path.parents) if os.path.exists(folder))


def _disk(path):
    return _nearest_existing(path).stat().st_dev


def as_text(found: dict) -> str:
    """The plan as a table, with what it rests on."""
    rows = [["stage", "galaxies", "frames", "to fetch", "disk at peak", "CPU hours", "GPU hours", "wall clock"]]
    for stage in (*found["stages"], found["total"]):
        rows.append(
            [
                stage["stage"],
                *("-" if stage[key] is None else f"{stage[key]:,}" for key in ("galaxies", "frames")),
                *("-" if not stage[key] else format_bytes(stage[key]) for key in ("bytes_to_fetch", "disk_bytes")),
                *("-" if not stage[key] else format_hours(stage[key]) for key in ("cpu_hours", "gpu_hours")),
                format_duration(stage["wall_hours"]),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"Run {found['run']}: {found['networks']} networks", ""]
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        lines.append("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]))
    lines += ["", "These figures rest on", *(f"- {reason}" for reason in found["rests_on"])]
    return "\n".join(lines + [f"\nWarning: {warning}" for warning in found["warnings"]])


def format_hours(amount: float) -> str:
    """Format processor hours, for example 68,300 or 0.05."""
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.1g}" if amount < 0.1 else f"{amount:.1f}"


def format_duration(hours: float | None) -> str:
    """Format wall-clock hours as minutes, hours or days."""
    if not hours:
        return "-"
    if hours < 1 / 60:
        return "< 1 min"
    if hours < 2:
        return f"{60 * hours:.0f} min"
    return f"{hours:.0f} h" if hours < 100 else f"{hours / 24:.0f} d"
