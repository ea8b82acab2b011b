"""What a run will take, before anything is spent: galaxies, frames, bytes, disk, hours.

Figures come from the run's own tables as soon as they exist (results/<run>/sample/galaxies.parquet and
archive/fields.parquet: frames are then counted exactly, less those in the mirror), and from the survey's mean
densities before. Each says what it rests on.
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz import config as configuration
from sdss_photoz.archive.consent import FRAME_BYTES, check_consent, is_remote, size
from sdss_photoz.errors import UserError
from sdss_photoz.needs import frames_needed, frames_to_fetch, summary
from sdss_photoz.sample.folds import in_region
from sdss_photoz.survey import BANDS
from sdss_photoz.training.demand import COSTS

GALAXIES = 516_525  # the paper's sample
FRAMES = 1_000_000  # the frames of its sky, before the repeats of Stripe 82
AREA = 8_032  # square degrees of the Legacy survey's spectra (SDSS DR7)
FIELD = 0.19  # degrees: mean side of a field, by which fields reach out of a box
FRAMES_OF_A_GALAXY = 1.5 * len(BANDS)  # one or two fields in the ordinary sky
CONNECTIONS = 8  # archive_connections of profiles/default and slurm
CUBE_BYTES = {"float32": 81_920, "float16": 40_960, "bits10": 39_000}  # the last one as benchmarks/cubes.py measures it
EMBEDDED_FRAME_BYTES, EMBEDDED_SECONDS = 2_000_000, 1.2  # size and processor time of a simulated frame

# Processor seconds on one core of an AMD EPYC, as benchmarks/cubes.py measures them.
CHECK_SECONDS = 0.023  # a frame: its first block and its SHA-256
DECOMPRESS_SECONDS = 0.26 * 1.04  # a frame
CUTOUT_SECONDS = 0.000_15  # a galaxy on a frame


class Stage(NamedTuple):
    """One row of the plan; None where a figure does not apply or nothing is known."""

    stage: str
    galaxies: int | None = None
    frames: int | None = None
    bytes_to_fetch: int | None = None
    disk_bytes: int | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = None
    wall_hours: float | None = None


class Means(NamedTuple):
    """What the run may use."""

    cores: int
    gpus: int
    connections: int
    mb_per_second: float
    tflops: float


class Extent(NamedTuple):
    """How large the run is: galaxies, frames (each once), frames to fetch, cutouts, and what each rests on."""

    galaxies: int
    frames: int
    to_fetch: int
    cutouts: int
    rests_on: list[str]
    table: pd.DataFrame | None = None


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
    means = Means(
        arguments.cores,
        0 if config.training.device == "cpu" else gpus,
        arguments.connections,
        arguments.mb_per_second,
        arguments.tflops,
    )
    found = plan(config, means)
    print(json.dumps(found, indent=1, allow_nan=False) if arguments.json else as_text(found))


def plan(config, means: Means) -> dict:
    """What the run will take.

    Parameters
    ----------
    config : config.Config
    means : Means
        Cores, GPUs and connections that share the work; wall-clock hours are for these.

    Returns
    -------
    dict
        ``stages``: a dict for each `Stage`; ``total``: one more; ``rests_on``: sentences; ``warnings``: sentences.
    """
    extent = measure(config)
    training, networks, pace = _training(config, extent, means)
    stages = [*_data_stages(config, extent, means), training]
    sums = {
        key: sum(getattr(stage, key) or 0 for stage in stages)
        for key in ("bytes_to_fetch", "disk_bytes", "cpu_hours", "gpu_hours", "wall_hours")
    }
    total = Stage("total", extent.galaxies, extent.frames, **sums)
    return {
        "run": config.run,
        "stages": [stage._asdict() for stage in stages],
        "total": total._asdict(),
        "networks": networks,
        "rests_on": [*extent.rests_on, *_rates(config, extent, means), pace],
        "warnings": _warnings(config, total, stages),
    }


def measure(config) -> Extent:
    """How large a run is, from its own tables where they exist."""
    galaxies, fields = config.folder / "sample" / "galaxies.parquet", config.folder / "archive" / "fields.parquet"
    published = config.cubes.source == "published"
    table = pd.read_parquet(galaxies, columns=["ra", "dec", "chunk"]) if galaxies.is_file() else None
    number, basis = _expected_galaxies(config) if table is None else (len(table), f"counted in {galaxies}")
    rests_on = [f"galaxies: {basis}"]
    if published:
        rests_on.append("frames: none, the cubes are the published ones")
        return Extent(number, 0, 0, 0, rests_on, table)
    if table is not None and fields.is_file():
        frames = frames_needed(table, fields)
        counted = summary(frames)
        to_fetch = frames_to_fetch(config, frames)
        rests_on.append(
            f"frames: footprints of {galaxies} on {fields}; {counted['frames'] - to_fetch:,} need no download"
            if to_fetch <= counted["frames"]
            else f"frames: footprints of {galaxies} on {fields}; those on the border of two chunks are fetched twice"
        )
        return Extent(number, counted["frames"], to_fetch, counted["cutouts"], rests_on, table)
    if config.archive.service == "embedded":
        frames = (config.embedded.fields + config.embedded.visits) * len(BANDS)
        rests_on.append("frames: the simulated fields and visits, in five bands")
    else:
        frames = round(number * FRAMES / GALAXIES * (1.0 if config.region is None else border(config.region)))
        rests_on.append(
            f"frames: {FRAMES:,} for {GALAXIES:,} galaxies, before repeats in Stripe 82"
            + ("" if config.region is None else ", and those on the border of the region")
        )
    return Extent(
        number, frames, frames if is_remote(config) else 0, round(number * FRAMES_OF_A_GALAXY), rests_on, table
    )


def _expected_galaxies(config):
    if config.archive.service == "embedded":
        simulated = config.embedded
        return simulated.galaxies_per_field * (simulated.fields + 1), "the simulated fields and one patch"
    if config.region is None:
        return GALAXIES, "the paper's sample"
    area = box_area(config.region)
    return round(GALAXIES * min(1.0, area / AREA)), (
        f"{area:.3g} square degrees of archive.region at the survey's mean density, {GALAXIES / AREA:.0f} each"
    )


def box_area(region) -> float:
    """Area of a box on the sky (square degrees)."""
    south, north = np.radians(region.dec)
    return float(region.width * np.degrees(np.sin(north) - np.sin(south)))


def border(region) -> float:
    """By how much the fields that reach into a box cover more sky than the box."""
    height = region.dec[1] - region.dec[0]
    width = box_area(region) / height
    whole_circle = region.width == 360
    return (1 + FIELD / height) * (1.0 if whole_circle else 1 + FIELD / width)


def _data_stages(config, extent, means):
    """Archive, sample and cubes."""
    embedded, remote, jobs = config.archive.service == "embedded", is_remote(config), _cubes_jobs(config, means)
    fetched, kept, simulating = extent.to_fetch * FRAME_BYTES, 0, 0.0
    if embedded:
        kept, simulating = extent.frames * EMBEDDED_FRAME_BYTES, extent.frames * EMBEDDED_SECONDS / 3600
    if config.frames_come_later:
        kept += round(jobs * config.frames.scratch_gb * 1e9)
    else:
        kept += fetched
    seconds_of_download = fetched / 1e6 / (means.mb_per_second * means.connections)
    checking = extent.to_fetch * CHECK_SECONDS / 3600 if remote else 0.0
    cutting = (extent.frames * DECOMPRESS_SECONDS + extent.cutouts * CUTOUT_SECONDS) / 3600
    cubes = extent.galaxies * CUBE_BYTES[config.cubes.precision]
    return [
        Stage(
            "archive",
            extent.galaxies,
            extent.frames,
            fetched,
            kept,
            checking + simulating,
            None,
            max(seconds_of_download / 3600, (checking + simulating) / means.cores),
        ),
        Stage(
            "cubes",
            extent.galaxies,
            extent.frames,
            None,
            cubes,
            cutting,
            None,
            cutting / jobs,
        ),
    ]


def _cubes_jobs(config, means):
    """Jobs that make cubes at a time; those that fetch their frames share the connections."""
    jobs = min(means.cores, config.sample.chunks)
    return max(1, min(jobs, means.connections // config.archive.connections)) if config.frames_come_later else jobs


def _training(config, extent, means):
    """Training and prediction of all trials."""
    flop = seconds = disk = networks = 0.0
    for name, trial in config.trials.items():
        settings, folds = config.trial_training(name), trial.folds
        cost, count = COSTS[settings.network], len(trial.fold_numbers) * trial.members
        where, tested = (_share(config, extent.table, region) for region in (folds.train_in, folds.test_in))
        tested *= len(trial.fold_numbers) / folds.count  # galaxies, all repeats together
        share = (1 - 1 / folds.count) * where if folds.train_fraction is None else folds.train_fraction
        trained = share * extent.galaxies * (1 - folds.validation_fraction) * settings.epochs * count
        looked_at = share * extent.galaxies * folds.validation_fraction * settings.epochs * count
        looked_at += tested * extent.galaxies * trial.members
        flop += trained * cost.training_flop + looked_at * cost.prediction_flop
        seconds += trained * cost.training_seconds + looked_at * cost.prediction_seconds
        networks += count
        pdfs = tested * extent.galaxies * (trial.members + 1) * settings.bins * 4
        disk += count * cost.weights + pdfs
    if means.gpus:
        hours = flop / (means.tflops * 1e12) / 3600
        pace = f"GPU hours: {flop:.2g} FLOP at {means.tflops:g} TFLOP/s, which is assumed (--tflops)"
        stage = Stage("training", extent.galaxies, None, None, round(disk), None, hours, hours / means.gpus)
    else:
        hours = seconds / 3600
        pace = (
            "training on the CPU, float32 on one thread a network, as benchmarks/training.py measures it "
            "(--gpus 8 plans for eight GPUs)"
        )
        stage = Stage("training", extent.galaxies, None, None, round(disk), hours, None, hours / means.cores)
    return stage, int(networks), pace


def _share(config, table, region):
    """Share of the galaxies in a region of a trial."""
    if region is None:
        return 1.0
    if table is not None:
        return float(in_region(table, region, config.regions).mean())
    inside = min(1.0, box_area(config.regions[region.removeprefix("not ")]) / AREA)
    return 1 - inside if region.startswith("not ") else inside


def _rates(config, extent, means):
    """What bytes and hours rest on."""
    frames, cubes = "", f"cubes as {config.cubes.precision}"
    if extent.to_fetch:
        frames = "scratch folders of the jobs that make cubes, " if config.frames_come_later else "frames to fetch, "
    elif config.archive.service == "embedded" and extent.frames:
        frames = "simulated frames, "
    found = [f"disk at peak: {frames}{cubes}, weights of the networks, distributions, all at a time"]
    if extent.to_fetch:
        found += [
            f"bytes to fetch: {FRAME_BYTES / 1e6:g} MB a frame",
            f"download: {means.connections} connections at {means.mb_per_second:g} MB/s, assumed (--mb-per-second)",
        ]
    if extent.frames:
        found.append(
            f"CPU hours of the cubes: {DECOMPRESS_SECONDS:.2f} s a frame and {1e3 * CUTOUT_SECONDS:g} ms a cutout"
        )
    if config.archive.service != "embedded":
        found.append("not in the figures: the queue of the query service; selection, scores and report (minutes)")
    return found


def _warnings(config, total, stages):
    """What would stop the run, or fill a disk."""
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
        free = shutil.disk_usage(_existing(path)).free
        if needed > free:
            found.append(
                f"{what} take {size(needed)}, but the disk of {path} has {size(free)} free: free some, or {remedy}."
            )
    return found


def _existing(path):
    """The path, or the nearest folder above it that exists."""
    path = Path(path).absolute()
    return next(place for place in (path, *path.parents) if os.path.exists(place))  # Path.exists raises at a locked one


def _disk(path):
    return _existing(path).stat().st_dev


def as_text(found: dict) -> str:
    """The plan as a table, with what it rests on."""
    rows = [["stage", "galaxies", "frames", "to fetch", "disk at peak", "CPU hours", "GPU hours", "wall clock"]]
    for stage in (*found["stages"], found["total"]):
        rows.append(
            [
                stage["stage"],
                *("-" if stage[key] is None else f"{stage[key]:,}" for key in ("galaxies", "frames")),
                *("-" if not stage[key] else size(stage[key]) for key in ("bytes_to_fetch", "disk_bytes")),
                *("-" if not stage[key] else hours(stage[key]) for key in ("cpu_hours", "gpu_hours")),
                duration(stage["wall_hours"]),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"Run {found['run']}: {found['networks']} networks", ""]
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        lines.append("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]))
    lines += ["", "These figures rest on", *(f"- {reason}" for reason in found["rests_on"])]
    return "\n".join(lines + [f"\nWarning: {warning}" for warning in found["warnings"]])


def hours(amount: float) -> str:
    """Hours of a processor, as one applies for them: 68,300 or 0.05."""
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.1g}" if amount < 0.1 else f"{amount:.1f}"


def duration(hours: float | None) -> str:
    """Hours on the clock, as people say them."""
    if not hours:
        return "-"
    if hours < 1 / 60:
        return "< 1 min"
    if hours < 2:
        return f"{60 * hours:.0f} min"
    return f"{hours:.0f} h" if hours < 100 else f"{hours / 24:.0f} d"
