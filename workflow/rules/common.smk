# The checked configuration, and the small functions that the rules share.

import os
import sys
from importlib import import_module
from pathlib import Path

from snakemake.io import IOFile, apply_wildcards
from snakemake.utils import update_config

SRC = str(Path(workflow.basedir) / "src")
sys.path.insert(0, SRC)
os.environ.update(PYTHONPATH=SRC)  # scripts find the library, also in a conda environment

from sdss_photoz import files
from sdss_photoz.config import AT_PREDICTION, check, read_yaml, with_types
from sdss_photoz.duration import frames_of_chunk, minutes_to_cut, minutes_to_fetch
from sdss_photoz.errors import UserError
from sdss_photoz.config.frozen import read_plan, write_plan
from sdss_photoz.import_path import search_in
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.training.measured import measurement, measurements, read_cost
from sdss_photoz.training.resources import (
    DEFAULT_MEMORY,
    count_galaxies,
    memory_to_predict,
    memory_to_train,
    minutes_to_predict,
    minutes_to_train,
)

VERSION = {
    stage: import_module(f"sdss_photoz.{stage}").VERSION
    for stage in (
        "archive",
        "embedded",
        "sample",
        "cubes",
        "training",
        "evaluation",
        "report",
    )
}
try:
    if workflow.is_main_process:
        for file in workflow.configfiles:  # Snakemake does not report duplicate keys
            read_yaml(file)
        search_in([Path(file).parent for file in workflow.configfiles])
        update_config(config, with_types(workflow.config_settings.config))
        CONFIG = check(config)
        OWN_QUERY = {}
        if CONFIG.archive.query is not None:
            from sdss_photoz.archive.own_query import check_own_query  # reads SQL, which takes a package

            OWN_QUERY = {"query": check_own_query(CONFIG)}  # the file's SHA-256
    else:  # a job of a cluster: the planned configuration, even if its file has changed since
        CONFIG = read_plan(VERSION)
        OWN_QUERY = {}  # no job of a cluster asks the archive for its tables
        config.clear()
        config.update(CONFIG.model_dump(mode="json"))
except UserError as error:
    raise SystemExit(f"Configuration: {error}") from None


RUN = str(CONFIG.folder)
SOURCES = CONFIG.sources()  # as they are now: an edit during the run waits for the next one
MEASURED = measurements(CONFIG)  # trials with networks of the user's, by the name of their network's cost
GALAXIES = f"{RUN}/sample/galaxies.parquet"
CHUNKS = range(CONFIG.sample.chunks)
EMBEDDED = CONFIG.archive.service == "embedded"
PUBLISHED = CONFIG.cubes.source == "published"


wildcard_constraints:
    trial="[A-Za-z0-9_]+",
    chunk=r"\d+",
    fold=r"\d+",
    member=r"\d+",
    network=r"[\w.]+-[0-9a-f]{8}",


def jobs_of(rule):
    """Wildcards of each job of a rule."""
    names = rule.wildcard_names
    if "chunk" in names:
        yield from ({"chunk": str(chunk)} for chunk in CHUNKS)
    elif "network" in names:
        yield from ({"network": network} for network in MEASURED)
    elif "trial" in names:
        for trial, settings in CONFIG.trials.items():
            for fold in settings.fold_numbers if "fold" in names else [None]:
                for member in range(settings.members) if "member" in names else [None]:
                    yield {"trial": trial, "fold": str(fold), "member": str(member)}
    else:
        yield {}


def tracked_outputs():
    """Every output of the run."""
    for made_by in workflow.rules:
        for wildcards in jobs_of(made_by):
            yield from (apply_wildcards(pattern, wildcards) for pattern in made_by.output)


def refuse_unrecorded():
    """Refuse finished files without a record of Snakemake: their settings and VERSION are unknown."""
    if not workflow.is_main_process or workflow.executor_plugin is None:
        return  # a job, or a command that runs no job
    if workflow.touch or workflow.dag_settings.forceall:
        return  # all are accepted, or made again
    existing = [path for path in tracked_outputs() if os.path.exists(path)]
    unrecorded = [path for path in existing if workflow.persistence.metadata(IOFile(path)) is None]
    cut_off = workflow.persistence._filter_incomplete_keys(unrecorded)  # Snakemake makes these again
    unrecorded = [path for path in unrecorded if path not in cut_off]
    if unrecorded:
        raise SystemExit(
            f"Snakemake has no record of how {len(unrecorded):,} of {len(existing):,} files of {RUN} were made, for example "
            f"{unrecorded[0]}, so it cannot tell whether they are still right: copy the folder .snakemake too, from "
            "where they were made; or accept all files as they are with --touch --forceall; or make all again with "
            "--forceall; or remove the files."
        )


def catalog(wildcards):
    """The embedded archive's catalogue. Also refuses unrecorded files: every run calls this before its first job."""
    refuse_unrecorded()
    return rules.build_embedded_archive.output.catalog if EMBEDDED else []


def asked_of_archive(but=()):
    """The keys that determine the result of a query, except those in `but`."""
    box = {} if CONFIG.region is None else {"box": CONFIG.region.model_dump(mode="json")}
    return {key: value for key, value in CONFIG.archive.params().items() if key not in but} | box


def stacked():
    """The keys of stacking that differ from their defaults."""
    return {key: value for key, value in CONFIG.cubes.params().items() if key in ("stack", "overlap_rows")}


def download_runtime(wildcards, attempt):
    """Minutes for the download of a chunk's frames."""
    return minutes_to_fetch(frames_of_chunk(f"{RUN}/archive/plan.json", wildcards.chunk), attempt)


def cubes_runtime(wildcards, threads, attempt):
    """Minutes for the cubes of a chunk, by the number of its frames."""
    frames = frames_of_chunk(f"{RUN}/archive/plan.json", wildcards.chunk)
    return minutes_to_cut(frames, threads, attempt, CONFIG.frames_come_later)


def trial_folds(wildcards):
    """Settings of a trial's folds, the regions that they name, and its condition if there is one."""
    trial = CONFIG.trials[wildcards.trial]
    folds, condition = trial.folds, {} if trial.where is None else {"where": trial.where}
    names = {region.removeprefix("not ") for region in (folds.train_in, folds.test_in) if region is not None}
    regions = {name: CONFIG.regions[name].from_zero() for name in sorted(names)}
    return {"folds": folds.params(), "regions": regions} | condition


def trial_prediction(wildcards):
    """The training settings of one trial, the digest of its own network, and its key `control` if it has one."""
    trial, training = CONFIG.trials[wildcards.trial].params(), CONFIG.trial_training(wildcards.trial)
    source = {"source": SOURCES[training.network]} if training.network in SOURCES else {}
    control = {key: trial[key] for key in ("control",) if key in trial}
    return training.params() | source | control | CONFIG.trial_task(wildcards.trial)


def trial_training(wildcards):
    """As `trial_prediction`, without the keys that change only predictions."""
    return {key: value for key, value in trial_prediction(wildcards).items() if key not in AT_PREDICTION}


def trial_cost(wildcards):
    """The file with the measured cost of a trial's network; none for a network of the library's."""
    return measurement(CONFIG, wildcards.trial) or []


def measured_settings(wildcards):
    """What is tried before a network is measured: of each trial that it is for, what its network depends on."""
    keys, found = ("network", "options", "groups", "inputs", "target"), []
    for trial in MEASURED[wildcards.network]:
        training = CONFIG.trial_training(trial)
        params = training.params() | CONFIG.trial_task(trial)
        tried = {key: params[key] for key in keys if key in params}
        found.append(tried | {"source": SOURCES[training.network]})
    return found


def measuring_memory(wildcards, attempt):
    """Memory (MB) for the measurement of a network."""
    return attempt * DEFAULT_MEMORY


def measuring_runtime(wildcards, attempt):
    """Minutes for the measurement of a network."""
    return attempt * 20


def inputs_of(trial):
    """What the networks of a trial read."""
    return Inputs.of(CONFIG.trial_inputs(trial), CONFIG.cubes.grid)


def training_memory(wildcards, attempt):
    """Memory (MB) for one training."""
    settings, cost = CONFIG.trial_training(wildcards.trial), read_cost(CONFIG, wildcards.trial)
    return memory_to_train(count_galaxies(GALAXIES), settings, attempt, inputs_of(wildcards.trial), cost)


def training_runtime(wildcards, attempt):
    """Minutes for one training."""
    settings, cost = CONFIG.trial_training(wildcards.trial), read_cost(CONFIG, wildcards.trial)
    return minutes_to_train(count_galaxies(GALAXIES), settings, attempt, inputs_of(wildcards.trial), cost)


def ensemble(trial):
    """Settings, members and folds of a trial's predictions."""
    return CONFIG.trial_training(trial), CONFIG.trials[trial].members, CONFIG.trials[trial].folds.count


def prediction_memory(wildcards, attempt):
    """Memory (MB) for the predictions of one fold."""
    bins, cost = CONFIG.trial_target(wildcards.trial).bins, read_cost(CONFIG, wildcards.trial)
    return memory_to_predict(
        count_galaxies(GALAXIES), *ensemble(wildcards.trial), attempt, inputs_of(wildcards.trial), bins, cost
    )


def prediction_runtime(wildcards, attempt):
    """Minutes for the predictions of one fold."""
    passes, cost = CONFIG.trial_target(wildcards.trial).passes, read_cost(CONFIG, wildcards.trial)
    sizes = inputs_of(wildcards.trial), passes, cost
    return minutes_to_predict(count_galaxies(GALAXIES), *ensemble(wildcards.trial), attempt, *sizes)


def trial_threads(wildcards):
    """Threads of CPU training, on which the result depends; Snakemake grants at most its cores."""
    return CONFIG.trial_training(wildcards.trial).cpu_threads


def trial_evaluation(wildcards):
    """What the evaluation of a trial depends on: its settings, and the inputs and target that differ from the defaults."""
    return CONFIG.evaluation.params() | CONFIG.trial_task(wildcards.trial)


def trial_fold_count(wildcards):
    """Folds of one repeat of a trial."""
    return CONFIG.trials[wildcards.trial].folds.count


def trial_models(wildcards):
    """The ensemble of one fold."""
    return expand(
        "{run}/training/{trial}/fold-{fold}/member-{member}.safetensors",
        run=RUN,
        trial=wildcards.trial,
        fold=wildcards.fold,
        member=range(CONFIG.trials[wildcards.trial].members),
    )


def trial_pdfs(wildcards):
    """The distributions of all folds of one trial."""
    return expand(
        "{run}/training/{trial}/fold-{fold}/pdfs.parquet",
        run=RUN,
        trial=wildcards.trial,
        fold=CONFIG.trials[wildcards.trial].fold_numbers,
    )


def histories(wildcards):
    """The training histories of all trials, folds and members."""
    return [
        f"{RUN}/training/{trial}/fold-{fold}/member-{member}.history.csv"
        for trial, settings in CONFIG.trials.items()
        for fold in settings.fold_numbers
        for member in range(settings.members)
    ]


def all_shards(wildcards):
    """All flux shards. A function, because Snakemake hashes a list of inputs once for each of its files."""
    return [
        rules.make_cubes.output.flux.format(chunk=chunk) for chunk in CHUNKS
    ]  # depth and quality are of the same jobs
