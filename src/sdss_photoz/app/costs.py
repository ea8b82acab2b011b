"""Costs of a run's stages: galaxies, frames, bytes, disk and hours, from its tables or the survey's mean densities."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz.frames.consent import FRAME_BYTES, is_remote
from sdss_photoz.frames.needs import frames_needed, frames_to_fetch, summary
from sdss_photoz.sample.folds import in_region
from sdss_photoz.surveys import SDSS
from sdss_photoz.training.measured import read_cost
from sdss_photoz.training.resources import COSTS, cost_of

GALAXIES = 516_525  # the paper's sample
FRAMES = 1_000_000  # the frames of its sky, before the repeats of Stripe 82
AREA = 8_032  # square degrees of the Legacy survey's spectra (SDSS DR7)
FIELD = 0.19  # degrees: mean side of a field, by which fields extend beyond a box
FIELDS_PER_GALAXY = 1.5  # one or two fields in most of the sky
VALUE_BYTES = {"float32": 4, "float16": 2, "bits10": 39_000 / 20_480}  # the last one as benchmarks/cubes.py measures it
EMBEDDED_FRAME_BYTES, EMBEDDED_SECONDS = 2_000_000, 1.2  # size and processor time of a simulated frame

# Processor seconds on one core of an AMD EPYC, as benchmarks/cubes.py measures them.
CHECK_SECONDS = 0.023  # per frame: its first block and its SHA-256
DECOMPRESS_SECONDS = 0.26 * 1.04  # per frame
CUTOUT_SECONDS = 0.000_15  # per galaxy and frame


class Stage(NamedTuple):
    """One row of the plan; None if a figure does not apply or is unknown."""

    stage: str
    galaxies: int | None = None
    frames: int | None = None
    bytes_to_fetch: int | None = None
    disk_bytes: int | None = None
    cpu_hours: float | None = None
    gpu_hours: float | None = None
    wall_hours: float | None = None


class Resources(NamedTuple):
    """Resources that a run may use."""

    cores: int
    gpus: int
    connections: int
    mb_per_second: float
    tflops: float


class RunSize(NamedTuple):
    """Size of a run: galaxies, distinct frames, frames to fetch, cutouts, and what each number rests on."""

    galaxies: int
    frames: int
    to_fetch: int
    cutouts: int
    rests_on: list[str]
    table: pd.DataFrame | None = None


def estimate_size(config) -> RunSize:
    """Size of a run, from its own tables if they exist."""
    galaxies, fields = config.folder / "sample" / "galaxies.parquet", config.folder / "archive" / "fields.parquet"
    published = config.cubes.source == "published"
    table = pd.read_parquet(galaxies, columns=["ra", "dec", "chunk"]) if galaxies.is_file() else None
    number, basis = _expected_galaxies(config) if table is None else (len(table), f"counted in {galaxies}")
    rests_on = [f"galaxies: {basis}"]
    if published:
        rests_on.append("frames: none, the cubes are the published ones")
        return RunSize(number, 0, 0, 0, rests_on, table)
    if table is not None and fields.is_file():
        frames = frames_needed(table, fields, config.cubes.grid)
        counted = summary(frames)
        to_fetch = frames_to_fetch(config, frames)
        rests_on.append(
            f"frames: footprints of {galaxies} on {fields}; {counted['frames'] - to_fetch:,} need no download"
            if to_fetch <= counted["frames"]
            else f"frames: footprints of {galaxies} on {fields}; those on the border of two chunks are fetched twice"
        )
        return RunSize(number, counted["frames"], to_fetch, counted["cutouts"], rests_on, table)
    bands = config.cubes.grid.bands
    if config.archive.service == "embedded":
        frames = (config.embedded.fields + config.embedded.visits) * len(SDSS.band_names)
        rests_on.append("frames: the simulated fields and visits, in five bands")
    else:
        fraction = len(bands) / len(SDSS.band_names) * (1.0 if config.region is None else border_factor(config.region))
        frames = round(number * FRAMES / GALAXIES * fraction)
        rests_on.append(
            f"frames: {FRAMES:,} for {GALAXIES:,} galaxies, before repeats in Stripe 82"
            + ("" if config.region is None else ", and those on the border of the region")
        )
    return RunSize(
        number,
        frames,
        frames if is_remote(config) else 0,
        round(number * FIELDS_PER_GALAXY * len(bands)),
        rests_on,
        table,
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


def border_factor(region) -> float:
    """Area of the fields that overlap a box, over the area of the box."""
    height = region.dec[1] - region.dec[0]
    width = box_area(region) / height
    whole_circle = region.width == 360
    return (1 + FIELD / height) * (1.0 if whole_circle else 1 + FIELD / width)


def data_stages(config, size, resources):
    """Costs of the stages archive (with sample) and cubes."""
    embedded, remote, jobs = config.archive.service == "embedded", is_remote(config), _cubes_jobs(config, resources)
    fetched, kept, simulating = size.to_fetch * FRAME_BYTES, 0, 0.0
    if embedded:
        kept, simulating = size.frames * EMBEDDED_FRAME_BYTES, size.frames * EMBEDDED_SECONDS / 3600
    if config.frames_come_later:
        kept += round(jobs * config.frames.scratch_gb * 1e9)
    else:
        kept += fetched
    seconds_of_download = fetched / 1e6 / (resources.mb_per_second * resources.connections)
    checking = size.to_fetch * CHECK_SECONDS / 3600 if remote else 0.0
    cutting = (size.frames * DECOMPRESS_SECONDS + size.cutouts * CUTOUT_SECONDS) / 3600
    cubes = round(size.galaxies * math.prod(config.cubes.grid.shape) * VALUE_BYTES[config.cubes.precision])
    return [
        Stage(
            "archive",
            size.galaxies,
            size.frames,
            fetched,
            kept,
            checking + simulating,
            None,
            max(seconds_of_download / 3600, (checking + simulating) / resources.cores),
        ),
        Stage(
            "cubes",
            size.galaxies,
            size.frames,
            None,
            cubes,
            cutting,
            None,
            cutting / jobs,
        ),
    ]


def _cubes_jobs(config, resources):
    """Number of simultaneous cubes jobs; those that fetch their own frames divide the connections among them."""
    jobs = min(resources.cores, config.sample.chunks)
    return max(1, min(jobs, resources.connections // config.archive.connections)) if config.frames_come_later else jobs


def training_stage(config, size, resources):
    """Costs of training and prediction, the number of networks, and a sentence on what the hours rest on."""
    flop = seconds = disk = networks = 0.0
    own, counted = set(), set()  # networks of the user's, without and with a measurement
    for name, trial in config.trials.items():
        settings, folds = config.trial_training(name), trial.folds
        measured, count = read_cost(config, name), len(trial.fold_numbers) * trial.members
        cost = measured or cost_of(settings.network, config.trial_inputs(name).image_grid(config.cubes.grid))
        where, tested = (_fraction_in_region(config, size.table, region) for region in (folds.train_in, folds.test_in))
        tested *= len(trial.fold_numbers) / folds.count  # galaxies, all repeats together
        trained_fraction = (1 - 1 / folds.count) * where if folds.train_fraction is None else folds.train_fraction
        trained = trained_fraction * size.galaxies * (1 - folds.validation_fraction) * settings.epochs * count
        predicted = trained_fraction * size.galaxies * folds.validation_fraction * settings.epochs * count
        predicted += tested * size.galaxies * trial.members
        flop += trained * cost.training_flop + predicted * cost.prediction_flop
        seconds += trained * cost.training_seconds + predicted * cost.prediction_seconds
        networks += count
        if settings.network not in COSTS:
            (own if measured is None else counted).add(settings.network)
        pdfs = tested * size.galaxies * (trial.members + 1) * config.trial_target(name).bins * 4
        disk += count * cost.weights + pdfs
    if resources.gpus:
        hours = flop / (resources.tflops * 1e12) / 3600
        pace = f"GPU hours: {flop:.2g} FLOP at {resources.tflops:g} TFLOP/s, which is assumed (--tflops)"
        stage = Stage("training", size.galaxies, None, None, round(disk), None, hours, hours / resources.gpus)
    else:
        hours = seconds / 3600
        pace = (
            "training on the CPU, float32 on one thread a network, as benchmarks/training.py measures it "
            "(--gpus 8 plans for eight GPUs)"
        )
        stage = Stage("training", size.galaxies, None, None, round(disk), hours, None, hours / resources.cores)
    if own:
        pace += f"; {', '.join(sorted(own))}: counted as inception, for no run has measured it yet"
    if counted:
        pace += f"; {', '.join(sorted(counted))}: as this run has measured it"
    return stage, int(networks), pace


def _fraction_in_region(config, table, region):
    """Fraction of the galaxies in a region of a trial."""
    if region is None:
        return 1.0
    if table is not None:
        return float(in_region(table, region, config.regions).mean())
    inside = min(1.0, box_area(config.regions[region.removeprefix("not ")]) / AREA)
    return 1 - inside if region.startswith("not ") else inside
