"""Training and validation loss of each network against epoch."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from sdss_photoz.config import Training
from sdss_photoz.config.target import LOSSES as OF_METHOD
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.style import BLACK, BLUE, ORANGE, WIDTH, styled
from sdss_photoz.scores.grid import Grid

TEMPLATE = """\
{% call figure(figures.training, "Training and validation loss against epoch") %}Loss of each network in training\
{% if entropy is none %}: {{ loss }}. {% else %}. \
Dashed: entropy of the {{ predicted }} histogram, {{ "%.3f" | format(entropy) }} nat, which is the loss of a network \
that has learnt the {{ predicted }} distribution and nothing about single galaxies. {% endif %}The weights of the best \
epoch are used.{% endcall %}"""
LOSSES = {  # of heads but classes: name, whether it is in nat
    "nll": ("negative log-likelihood", True),
    "crps": ("CRPS", False),
    "rmse": ("root mean squared error", False),
    "mae": ("mean absolute error", False),
}


def content(run: Run, trial: Trial) -> Content | None:
    """Histories of the trial's networks; None without any."""
    paths = trial.files.histories
    if not paths:
        return None
    histories = {f"{path.parent.name} {path.name.split('.')[0]}": pd.read_csv(path) for path in paths}
    galaxies = run.galaxies
    if run.config.trials[trial.name].where is not None:  # of the others it learned nothing
        galaxies = galaxies[galaxies["object_id"].isin(trial.photoz["object_id"])]
    target = run.config.trial_target(trial.name)
    own = target.column == "z_spec"
    entropy, name, unit = None, "cross-entropy", "nat"
    if target.method == "classes":
        known = galaxies[target.column].to_numpy(np.float64, na_value=np.nan)
        entropy = redshift_entropy(known[~np.isnan(known)], target.bins, target.low, target.high)
    else:
        name, in_nat = LOSSES[target.loss or OF_METHOD[target.method][0]]
        unit = "nat" if in_nat else f"unit of {'the redshift' if own else target.column}"
    labels = {"loss_label": loss_label(trial.training, name), "name": name, "unit": unit}
    labels["predicted"] = "redshifts" if own else f"values of {target.column}"
    return Content(
        values={"entropy": entropy, "loss": f"{name} ({unit})", "predicted": "redshift" if own else target.column},
        tables={"training": training_table(histories, entropy)},
        figures={"training": partial(training, **labels)},
    )


def redshift_entropy(z: ArrayLike, bins: int, low: float = Grid().low, high: float = Grid().high) -> float:
    """Entropy (nat) of the histogram of redshifts, or of other values: the cross-entropy of a network that predicts it
    for every galaxy.

    Those beyond the bins count in the first or last one, as in a training that takes them.
    """
    grid = Grid(low, high, bins)
    fraction = np.histogram(np.clip(z, grid.low, grid.high), bins=grid.edges())[0] / len(z)
    fraction = fraction[fraction > 0]
    return float(-np.sum(fraction * np.log(fraction)))


def loss_label(training: Training, name: str = "cross-entropy") -> str:
    """Label of the training loss: its name, or the terms that the recipe adds to it."""
    more = [
        *["CRPS term"] * (training.crps_weight > 0),
        *["spread labels"] * (training.label_width > 0),
        *["balanced draws"] * (training.sampling == "balanced"),
        *["dropout"] * (training.dropout > 0),
    ]
    return f"training ({', '.join(more)})" if more else f"training ({name})"


def training_table(histories: Mapping[str, pd.DataFrame], entropy: float | None) -> pd.DataFrame:
    """The histories of all networks, one below the other.

    Parameters
    ----------
    histories : dict of DataFrame
        As `sdss_photoz.training.fit.train_member` writes them.
    entropy : float or None
        Of the redshifts (nat); None for networks that do not classify.

    Returns
    -------
    DataFrame
        network (the key), epoch, train_loss, validation_loss, best, and the entropy if there is one.
    """
    columns = ["network", "epoch", "train_loss", "validation_loss", "best", *["entropy"] * (entropy is not None)]
    parts = [history.assign(network=name, entropy=entropy)[columns] for name, history in histories.items()]
    return pd.concat(parts, ignore_index=True)


@styled
def training(
    table: pd.DataFrame,
    loss_label: str,
    name: str = "cross-entropy",
    unit: str = "nat",
    predicted: str = "redshifts",
) -> Figure:
    """Loss against epoch of each network, with the entropy of the labels of classes, from `training_table`.

    Parameters
    ----------
    table : DataFrame
    loss_label : str
        Label of the training loss.
    name, unit : str
        The validation loss.
    predicted : str
        The labels, in words.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axis = figure.subplots()
    networks = [history for _, history in table.groupby("network", sort=False)]
    opaque = 0.9 if len(networks) <= 8 else 0.4
    for index, history in enumerate(networks):
        first = index == 0
        axis.plot(history["epoch"], history["train_loss"], color=ORANGE, lw=1, alpha=opaque,
                  label=loss_label if first else None)  # fmt: skip
        axis.plot(history["epoch"], history["validation_loss"], color=BLUE, lw=1.3, alpha=opaque,
                  label=f"validation ({name})" if first else None)  # fmt: skip
        best = history[history["best"]]
        axis.plot(best["epoch"], best["validation_loss"], "o", color=BLUE, ms=4,
                  label="best epoch" if first else None)  # fmt: skip
    if "entropy" in table:
        axis.axhline(table["entropy"].iloc[0], color=BLACK, lw=1, ls="--", label=f"entropy of the {predicted}")
    axis.set(xlabel="epoch", ylabel=f"loss ({unit})", xlim=(0, max(1, table["epoch"].max()) + 0.5))
    axis.legend(ncols=2)
    return figure
