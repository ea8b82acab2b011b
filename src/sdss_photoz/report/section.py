"""What a section of the report is given and what it returns.

A section is a module of `report.sections` with two names:

``TEMPLATE``
    Jinja template of its part of the page. It sees the `Content.values`, ``figures`` (name: data of an img tag), the
    arguments of `content` and the macros of ``macros.html``.
``content(run)``, or ``content(run, trial)`` in a section of each trial
    Returns the section's `Content`, or None where the run has nothing to show in it.

`report.sections` lists them in the order of the page.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from sdss_photoz.config import Config, Target, Training
from sdss_photoz.evaluation.floor import Floor
from sdss_photoz.evaluation.gap import calibration, gap_closed
from sdss_photoz.evaluation.kinds import KINDS, Kind
from sdss_photoz.scores.grid import Grid
from sdss_photoz.surveys import PixelGrid


class TrialFiles(NamedTuple):
    """Files of one trial that the report reads."""

    photoz: Path  # evaluation/<trial>/photoz.parquet
    ensemble: Path  # evaluation/<trial>/photoz.hdf5
    metrics: Path  # evaluation/<trial>/metrics.json
    histories: Sequence[Path]  # training/<trial>/fold-K/member-M.history.csv


@dataclass(frozen=True)
class Trial:
    """One trial: its settings and what its files hold, read on first use."""

    name: str
    files: TrialFiles
    config: Config
    floor: Floor | None = None  # of the run's population

    @property
    def training(self) -> Training:
        """The trial's training settings."""
        return self.config.trial_training(self.name)

    @property
    def target(self) -> Target:
        """What the trial predicts."""
        return self.config.trial_target(self.name)

    @property
    def grid(self) -> Grid:
        """The bins of its distributions."""
        return Grid(self.target.low, self.target.high, self.target.bins)

    @property
    def kind(self) -> Kind:
        """How that is named and scored."""
        return KINDS[self.target.kind]

    @property
    def control(self) -> str:
        """``none``, or the kind of negative control that the trial's networks are."""
        return self.config.trials[self.name].control

    @cached_property
    def photoz(self) -> pd.DataFrame:
        """``photoz.parquet``: a row for each galaxy and repeat."""
        return pd.read_parquet(self.files.photoz)

    @cached_property
    def scored(self) -> pd.DataFrame:
        """Rows of `photoz` that enter scores: galaxies with a frame in every band, and a true value."""
        return self.kind.scored(self.photoz)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``."""
        return json.loads(Path(self.files.metrics).read_text(encoding="utf-8"))

    @cached_property
    def gap(self) -> dict[str, float | None]:
        """Fraction of the gap to the floor that the ensemble closes, as of `evaluation.gap.gap_closed`."""
        return gap_closed(self.scored, self.floor.images["sigma_mad"], self.config.evaluation)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """Calibration of the ensemble and of each member, as of `evaluation.gap.calibration`."""
        return calibration(self.scored, self.config.evaluation)


@dataclass(frozen=True)
class Run:
    """A finished run, as the sections read it."""

    config: Config
    galaxies: pd.DataFrame  # sample/galaxies.parquet
    counts: pd.DataFrame  # sample/counts.csv
    store: Path  # cubes.zarr
    trials: Mapping[str, Trial]  # by name, negative controls included
    published: pd.DataFrame | None  # sample/published.csv
    quality: pd.DataFrame | None  # cubes/quality-N.parquet of all chunks
    context: Path | None  # report/context.png

    @property
    def grid(self) -> PixelGrid:
        """Pixels and bands of the cubes."""
        return self.config.cubes.grid

    @property
    def predicted(self) -> Markup:
        """What the trials predict, in words."""
        targets = [trial.target for trial in self.trials.values()]
        others = dict.fromkeys(target.column for target in targets if target.kind != "redshift")
        words = [Markup("photometric redshifts")] if len(others) == 0 or self.predicts_redshifts else []
        if others:
            words.append(Markup("predictions of ") + Markup(", ").join(map(Markup("<code>{}</code>").format, others)))
        return Markup(" and ").join(words)

    @property
    def predicts_redshifts(self) -> bool:
        """Whether a trial predicts redshifts."""
        return any(trial.target.kind == "redshift" for trial in self.trials.values())

    @property
    def wide(self) -> str:
        """Side of a cube (arcsec), in words."""
        return f"{self.grid.size * self.grid.pixel_scale:.1f}"


@dataclass(frozen=True)
class Content:
    """What a section shows.

    Each table is written as ``tables/NAME.csv`` and each figure as ``figures/NAME.png``, drawn from the table of the
    same name and from nothing else that is measured. In a section of a trial NAME begins with the trial's name.
    """

    values: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Callable[[pd.DataFrame], Figure]] = field(default_factory=dict)
