"""From a label to a loss, and from a network's outputs back to a distribution: a head for each way to predict."""

from typing import TYPE_CHECKING

from sdss_photoz.scores.grid import Grid
from sdss_photoz.targets.base import Head
from sdss_photoz.targets.classes import Classes
from sdss_photoz.targets.label import Label
from sdss_photoz.targets.mixture import Mixture
from sdss_photoz.targets.regression import Regression

if TYPE_CHECKING:
    from sdss_photoz import config

METHODS: dict[str, type[Head]] = {"classes": Classes, "mixture": Mixture, "regression": Regression}


def head_of(target: "config.Target", training: "config.Training") -> Head:
    """The head of a trial, from its blocks of the configuration (`Config.trial_target`, `Config.trial_training`)."""
    label = Label(target.column, Grid(target.low, target.high, target.bins), target.kind, training.outside_bins)
    return METHODS[target.method].of(label, target, training)


def recorded(bins: int, record: dict, state: dict | None = None) -> Head:
    """The head of a model file, by its entries `bins`, ``target`` (`Head.record`) and ``fitted`` (`Head.state`)."""
    label = Label.recorded(bins, record)
    return METHODS[record.get("method", "classes")].recorded(label, record, state or {})
