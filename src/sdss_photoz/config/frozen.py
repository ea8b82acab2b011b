"""The plan of a run: the configuration at the start of Snakemake, for cluster jobs that start later.

A cluster job builds the workflow again from the files at the time when it starts. Without the plan, an edit of the
configuration while the job is queued would change its result, unnoticed by Snakemake.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from sdss_photoz import import_path
from sdss_photoz.config.run import Config, check
from sdss_photoz.errors import UserError
from sdss_photoz.files import digest, write_text

VARIABLE = "SDSS_PHOTOZ_PLAN"  # of the environment: path of the plan
HEADER = "# What the jobs of this run compute: written by Snakemake when it started, read by jobs on other nodes.\n"


def plan_of(config: Config, versions: Mapping[str, int]) -> dict:
    """Return all keys of a configuration, including defaults, and the VERSION of each stage, as JSON values.

    Where networks are named by import paths, also the SHA-256 of their sources, and the folders to search for them.
    """
    plan = {"config": config.model_dump(mode="json"), "versions": dict(versions)}
    sources = config.sources()
    return plan | ({"sources": sources, "folders": import_path.added_folders()} if sources else {})


def write_plan(config: Config, versions: Mapping[str, int]) -> Path:
    """Write the plan of a run and set its path in the environment, which jobs inherit.

    Parameters
    ----------
    config : config.Config
        The checked configuration.
    versions : mapping
        VERSION of each stage, by its name.

    Returns
    -------
    Path
        ``results/<run>/plans/<SHA-256>.yaml``, absolute; equal plans have equal names.
    """
    plan = plan_of(config, versions)
    path = (config.folder / "plans" / f"{digest(plan)}.yaml").absolute()
    if not path.is_file():
        write_text(path, HEADER + yaml.safe_dump(plan, sort_keys=False))
    os.environ[VARIABLE] = str(path)
    return path


def read_plan(versions: Mapping[str, int]) -> Config:
    """Read the plan that the environment names.

    Parameters
    ----------
    versions : mapping
        VERSION of each stage of the code that is running.

    Raises
    ------
    UserError
        If the environment names no plan, the plan is missing or differs from the digest in its name, or a stage of the
        code has another VERSION, or a network another source, than in the plan.
    """
    name = os.environ.get(VARIABLE)
    if name is None:
        raise UserError(
            f"this job was not told its run's plan ({VARIABLE} is not set): have the executor pass the environment to "
            "its jobs, as sbatch --export=ALL does."
        )
    path = Path(name)
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"the run's plan {path} cannot be read ({getattr(error, 'strerror', None) or 'it is not YAML'}): start "
            "Snakemake again, without --no-hooks, on a file system that all nodes see."
        ) from None
    if digest(plan) != path.stem:
        raise UserError(f"the run's plan {path} is not what its name says: remove it and start Snakemake again.")
    planned = plan["versions"]
    changed = [stage for stage in planned if planned[stage] != versions.get(stage)]
    if changed:
        stage = changed[0]
        raise UserError(
            f"the code of {stage} is version {versions.get(stage)}, but the run was planned with version "
            f"{planned[stage]}: the project changed while this job waited; start Snakemake again."
        )
    import_path.search_in(plan.get("folders", []))
    config, planned = check(plan["config"]), plan.get("sources", {})
    edited = [network for network, source in config.sources().items() if source != planned[network]]
    if edited:
        raise UserError(f"the source of {edited[0]} was edited while this job waited: start Snakemake again.")
    return config
