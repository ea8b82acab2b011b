"""The curves are those of the histories."""

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.config import Training
from sdss_photoz.report.sections.training import loss_label, redshift_entropy, training, training_table


def test_training_curves_are_those_of_each_history_with_its_best_epoch():
    losses = {"fold-0 member-0": [4.0, 3.5, 3.8], "fold-1 member-0": [4.1, 3.9, 3.6]}
    histories = {
        name: pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [5.0, 4.5, 4.2], "validation_loss": loss})
        for name, loss in losses.items()
    }
    histories = {name: table.assign(best=table["validation_loss"].eq(min(losses[name])))
                 for name, table in histories.items()}  # fmt: skip
    table = training_table(histories, 4.4)
    (axis,) = training(table, "training").axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "loss (nat)")
    *curves, entropy = axis.lines
    assert entropy.get_ydata()[0] == 4.4
    drawn = [list(map(list, curve.get_data())) for curve in curves]
    for place, (name, best) in enumerate((("fold-0 member-0", 2), ("fold-1 member-0", 3))):
        train, validation, marker = drawn[3 * place : 3 * place + 3]
        assert train == [[1, 2, 3], [5.0, 4.5, 4.2]]
        assert validation == [[1, 2, 3], losses[name]]
        assert marker == [[best], [min(losses[name])]]


def test_losses_of_a_regression_are_named_without_an_entropy():
    history = pd.DataFrame({"epoch": [1], "train_loss": [0.2], "validation_loss": [0.3], "best": [True]})
    table = training_table({"one": history}, None)
    assert "entropy" not in table
    label = loss_label(Training(), "mean absolute error")
    (axis,) = training(table, label, "mean absolute error", "unit of mass").axes
    assert axis.get_ylabel() == "loss (unit of mass)"
    shown = [text.get_text() for text in axis.get_legend().get_texts()]
    assert shown == ["training (mean absolute error)", "validation (mean absolute error)", "best epoch"]


def test_entropy_of_a_flat_histogram_is_the_logarithm_of_its_bins():
    assert redshift_entropy((np.arange(1800) + 0.5) * 0.4 / 1800, 180) == pytest.approx(np.log(180))
    assert redshift_entropy(np.full(50, 0.1), 180) == 0
    assert redshift_entropy([0.1, 0.5, 2.0, 0.1], 180) == pytest.approx(np.log(2))  # two in the last bin


def test_the_training_curve_is_labelled_with_the_terms_of_the_loss():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [4.5, 4.2], "validation_loss": [4.0, 3.7]})
    table = training_table({"one": history.assign(best=[False, True])}, 4.4)
    recipe = Training(crps_weight=50.0, dropout=0.2)
    for settings, expected in ((Training(), "training (cross-entropy)"), (recipe, "training (CRPS term, dropout)")):
        figure = training(table, loss_label(settings))
        assert expected in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
