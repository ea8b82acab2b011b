"""The plan of a run: the checked configuration as it was when Snakemake started, for jobs that start later.

A job of a cluster builds the workflow again from the files as they are when it starts. Whoever edits the configuration
while it waits would otherwise get another result than the one that was planned, and that Snakemake records.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from sdss_photoz.config import Config, check
from sdss_photoz.errors import UserError
from sdss_photoz.files import digest, write_text

VARIABLE = "SDSS_PHOTOZ_PLAN"  # of the environment: path of the plan
HEADER = "# What the jobs of this run compute: written by Snakemake when it started, read by jobs on other nodes.\n"


def plan_of(config: Config, versions: Mapping[str, int]) -> dict:
    """Return all keys of a configuration, defaults too, with the VERSION of each stage, as JSON values."""
    return {"config": config.model_dump(mode="json"), "versions": dict(versions)}


def write_plan(config: Config, versions: Mapping[str, int]) -> Path:
    """Write the plan of a run and name it in the environment, which jobs inherit.

    Parameters
    ----------
    config : config.Config
        The checked configuration.
    versions : mapping
        VERSION of each stage, by its name.

    Returns
    -------
    Path
        ``results/<run>/plans/<SHA-256>.yaml``, absolute: the same plan has the same name.
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
        Where the environment names no plan, the plan is missing or is not what its name says, or the code has another
        VERSION than the one that planned the run.
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
    return check(plan["config"])
