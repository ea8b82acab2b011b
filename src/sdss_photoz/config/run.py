"""The whole configuration of a run."""

import difflib
import re
from pathlib import Path
from typing import Any

from pydantic import model_validator

from sdss_photoz import import_path
from sdss_photoz.config.archive import Archive
from sdss_photoz.config.block import Block, Name, what
from sdss_photoz.config.cubes import LEAST_SIZE, Cubes
from sdss_photoz.config.embedded import Embedded
from sdss_photoz.config.evaluation import Evaluation
from sdss_photoz.config.frames import Frames
from sdss_photoz.config.inputs import Inputs
from sdss_photoz.config.parse import parse
from sdss_photoz.config.region import Region
from sdss_photoz.config.report import Report
from sdss_photoz.config.sample import Sample
from sdss_photoz.config.target import Target
from sdss_photoz.config.training import Training
from sdss_photoz.config.trial import Trial
from sdss_photoz.errors import UserError

SAS = "https://data.sdss.org/sas"


class Config(Block):
    """The whole configuration of a run."""

    run: Name = what("default", "Name of the run: everything it makes lies under results/<run>.")
    archive: Archive = what(Archive(), "Where the catalogue and the frames come from.")
    embedded: Embedded = what(Embedded(), "The simulated sky behind the embedded archive.")
    frames: Frames = what(Frames(), "Whether fetched frames are kept.")
    regions: dict[Name, Region] = what({}, "Named boxes on the sky, for trials that train or test in or out of one.")
    sample: Sample = what(Sample(), "Which galaxies, in which order.")
    cubes: Cubes = what(Cubes(), "Where the cubes come from, and how frames that overlap are stacked.")
    inputs: Inputs = what(Inputs(), "What a network reads of a galaxy.")
    target: Target = what(Target(), "What a network predicts.")
    training: Training = what(Training(), "The network and its training.")
    trials: dict[Name, Trial] = what({"images": Trial()}, "The experiments, by name.", min_length=1)
    evaluation: Evaluation = what(
        Evaluation(), "Scores, their errors, and the methods that the network is compared with."
    )
    report: Report = what(Report(), "The page.")

    @model_validator(mode="after")
    def _regions_are_named(self):
        if self.archive.region is not None and self.archive.region not in self.regions:
            raise UserError(
                f"archive.region is {self.archive.region!r}, but regions names only "
                f"{sorted(self.regions) or 'no box'}: add the box or correct the name."
            )
        return self

    @model_validator(mode="after")
    def _trials_are_possible(self):
        for name, trial in self.trials.items():
            network = self.trial_training(name).network
            inputs, target = self.trial_inputs(name), self.trial_target(name)
            if trial.control != "none" and target.kind != "redshift":
                raise UserError(
                    f"trials.{name}.control is {trial.control!r}, but the trial predicts {target.column}, and only "
                    "redshifts are compared with negative controls: leave it out, or set target.kind to redshift."
                )
            inputs.check_within(self.cubes.grid, f"trial {name}")
            if network == "inception_small" and inputs.channels != "bands":
                raise UserError(
                    f"inputs.channels is {inputs.channels!r} in trial {name}, but inception_small measures magnitudes "
                    "and colours, for which it needs the bands themselves: leave it out, or choose another "
                    "training.network."
                )
            grid = inputs.image_grid(self.cubes.grid)
            if grid.size < (least := LEAST_SIZE.get(network, 1)):
                key = "cubes.size" if grid.size == self.cubes.size else "the side of the images, inputs.size / rebin,"
                raise UserError(
                    f"{key} is {grid.size}, but {network}, the network of the trial {name}, needs {least} "
                    f"pixels at least: raise {key.rstrip(',')}, or choose another training.network."
                )
            if trial.tested_folds is not None and trial.tested_folds > trial.folds.count:
                raise UserError(
                    f"trials.{name}.tested_folds is {trial.tested_folds}, but there are {trial.folds.count} folds: "
                    "lower it, or leave it out to test them all."
                )
            for key in ("train_in", "test_in"):
                region = getattr(trial.folds, key)
                if region is not None and region.removeprefix("not ") not in self.regions:
                    raise UserError(
                        f"trials.{name}.folds.{key} is {region!r}, but regions names only "
                        f"{sorted(self.regions) or 'no box'}: add the box or correct the name."
                    )
        return self

    @model_validator(mode="after")
    def _redshifts_are_possible(self):
        sample = self.sample
        if sample.z_min >= sample.z_max:
            raise UserError(
                f"sample.z_min is {sample.z_min:g}, but must be below sample.z_max, which is {sample.z_max:g}."
            )
        for name in self.trials:
            target = self.trial_target(name)
            if target.column != "z_spec" or self.trial_training(name).outside_bins == "clip":
                continue
            if sample.z_max > target.high:
                raise UserError(
                    f"sample.z_max is {sample.z_max:g}, but the bins of trial {name} end at {target.high:g}: "
                    "lower it, raise target.high, or set training.outside_bins to clip, which counts galaxies beyond "
                    "in the last bin."
                )
            if sample.z_min < target.low:
                raise UserError(
                    f"sample.z_min is {sample.z_min:g}, but the bins of trial {name} begin at {target.low:g}: "
                    "raise it, lower target.low, or set training.outside_bins to clip, which counts galaxies below "
                    "in the first bin."
                )
        return self

    @model_validator(mode="after")
    def _conditions_can_be_evaluated(self):
        for trial in self.trials:
            target = self.trial_target(trial).column
            for text in self.trial_inputs(trial).numbers:
                if re.search(rf"\b{re.escape(target)}\b", text):
                    raise UserError(
                        f"inputs.numbers names {text} in trial {trial}, but {target} is what its networks learn to "
                        "predict (target.column): leave it out."
                    )
        numbers = {name for trial in self.trials for name in self.trial_inputs(trial).numbers} - {"ebv"}
        if not self.conditions and not numbers:
            return self
        import pandas as pd  # not needed otherwise

        from sdss_photoz.condition import columns_of, evaluated, fulfilled, parsed
        from sdss_photoz.surveys.catalogue import example_row

        for text in sorted(numbers):
            if self.archive.query is None:
                evaluated(text, pd.DataFrame(example_row()), "inputs.numbers")
            else:
                columns_of(text, "inputs.numbers")
        for key, text in self.conditions.items():
            if self.archive.query is None:
                fulfilled(text, pd.DataFrame(example_row()), key)
            else:  # which columns there are is known when the query is answered
                parsed(text, key)
        return self

    @model_validator(mode="after")
    def _targets_are_columns(self):
        columns = {name: self.trial_target(name).column for name in self.trials}
        if self.archive.query is not None or set(columns.values()) == {Target.model_fields["column"].default}:
            return self  # which columns a query of one's own has is known when it is answered
        from sdss_photoz.surveys.catalogue import TEXTS, example_row

        known = example_row().keys() - TEXTS
        for name, column in columns.items():
            if column not in known:
                near = difflib.get_close_matches(column, sorted(known), n=1)
                raise UserError(
                    f"target.column is {column!r} in trial {name}, but the package's query returns no such column of "
                    f"numbers{f' (is it {near[0]}?)' if near else ''}: correct it, or return it by archive.query."
                )
        return self

    @property
    def conditions(self) -> dict[str, str]:
        """The conditions on the catalogue's columns that are set, by their keys."""
        found = {"sample.where": self.sample.where}
        found |= {f"trials.{name}.where": trial.where for name, trial in self.trials.items()}
        return {key: text for key, text in found.items() if text is not None}

    def trial_training(self, trial: str) -> Training:
        """Return the training block of one trial."""
        values = {**self.training.model_dump(), **self.trials[trial].training}
        return parse(Training, values, f"trials.{trial}.training")

    def trial_inputs(self, trial: str) -> Inputs:
        """Return the block `inputs` of one trial, whose stretch is that of its training where it gives none."""
        inputs = parse(Inputs, merged(self.inputs, self.trials[trial].inputs), f"trials.{trial}.inputs")
        return inputs.resolved(self.trial_training(trial), f"trial {trial}")

    def trial_target(self, trial: str) -> Target:
        """Return the block `target` of one trial, whose bins are those of its training where it gives none."""
        values = {**self.target.model_dump(), **self.trials[trial].target}
        target = parse(Target, values, f"trials.{trial}.target")
        return target.resolved(self.trial_training(trial), f"trial {trial}")

    def trial_task(self, trial: str) -> dict[str, Any]:
        """The blocks `inputs` and `target` of one trial, as params: keys that differ from their defaults."""
        trial_blocks = {"inputs": self.trials[trial].inputs, "target": self.trials[trial].target}
        found = {}
        for name, changes in trial_blocks.items():
            block = getattr(self, name)
            found[name] = type(block)(**merged(block, changes)).params()
        return {name: params for name, params in found.items() if params}

    def sources(self) -> dict[str, str]:
        """SHA-256 of the source of each network that an import path names, by the path."""
        networks = {self.trial_training(trial).network for trial in self.trials}
        return {name: import_path.digest(name) for name in sorted(networks) if ":" in name}

    @property
    def folder(self) -> Path:
        """Folder of the run's results, relative to the working directory."""
        return Path("results") / self.run

    @property
    def sas(self) -> str:
        """URL of the archive's frames: the configured one, the embedded archive's, or the survey's."""
        if self.archive.sas is None and self.archive.service != "embedded":
            return SAS
        return self.archive.sas or (self.folder / "archive" / "sas").resolve().as_uri()

    @property
    def region(self) -> Region | None:
        """The box that the queries are limited to, None for the whole sky."""
        return None if self.archive.region is None else self.regions[self.archive.region]

    @property
    def mirror(self) -> Path:
        """Folder where fetched frames are kept."""
        return Path(self.archive.mirror or self.folder / "archive" / "sas")

    @property
    def frames_come_later(self) -> bool:
        """Whether each cubes job fetches its own frames: they are not kept, and the archive is not a local folder."""
        return not self.frames.keep and not self.sas.startswith("file:")


def merged(block: Block, changes: dict) -> dict:
    """The values of a block and of those within it, with changes of some keys."""
    values = block.model_dump()
    for key, value in changes.items():
        within = getattr(block, key, None)
        values[key] = merged(within, value) if isinstance(within, Block) and isinstance(value, dict) else value
    return values


def check(values: dict) -> Config:
    """Check a configuration.

    Parameters
    ----------
    values : dict
        As read from YAML.

    Raises
    ------
    UserError
        One sentence that names the key, its value and what is allowed.
    """
    if not isinstance(values, dict):
        raise UserError(f"the configuration is {type(values).__name__}, but must be a mapping of keys to values.")
    return parse(Config, values)
