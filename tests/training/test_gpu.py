"""What only a GPU's training asks for: counted operations of each network and recipe, telemetry that may fail."""

from typing import Literal, get_args, get_origin

import pytest
from quick_training import QUICK, train_in

from sdss_photoz.config import Training
from sdss_photoz.training import ceiling, fit
from sdss_photoz.training.networks import build, names, variant

RECIPES = {
    "documented": {},
    "the paper's": {
        "stretch": "none", "initialisation": "paper", "schedule": "step", "activation": "prelu", "augment": False,
        "precision": "float32",
    },
    "wide": {
        "pooling": "max", "activation": "relu", "batch_norm": True, "dropout": 0.2, "optimizer": "muon",
        "averaging": "exponential", "stretch": "sqrt", "precision": "bfloat16", "symmetry_averaging": True,
    },
    "schedule-free": {
        "schedule": "free", "label_width": 0.03, "crps_weight": 1.0, "stretch": "gamma", "sampling": "balanced",
        "outside_bins": "clip",
    },
    "averaged": {"averaging": "last", "optimizer": "muon", "regressed_point": True},
}  # fmt: skip
EVERY = [pytest.param(name, recipe, id=f"{name}, {key}") for name in names() for key, recipe in RECIPES.items()]


def test_the_recipes_take_every_choice_of_the_configuration():
    recipes = [Training(**recipe) for recipe in RECIPES.values()]
    for key in Training.what_keys():
        field = Training.model_fields[key]
        kinds = [field.annotation, *get_args(field.annotation)]
        choices = {choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)}
        choices |= {True, False} if field.annotation is bool else set()
        taken = {getattr(recipe, key) for recipe in recipes}
        if key == "network":
            assert choices == set(names())
        else:
            assert choices <= taken, key
            assert field.default != 0 or key == "seed" or any(taken), f"{key} is never on"


@pytest.mark.parametrize(("network", "recipe"), EVERY)
def test_operations_of_every_network_and_recipe_are_counted(network, recipe):
    settings = Training(network=network, **recipe)
    assert ceiling.flop_of_a_galaxy(build(network, settings.bins, settings.initialisation, 1, variant(settings))) > 1e6


def test_a_training_goes_on_without_telemetry_that_fails(tmp_path, monkeypatch, capsys):
    def fails(_):
        raise RuntimeError("unsupported scalarType\nand more")

    monkeypatch.setattr(fit._Run, "_galaxies_per_second_at_the_ceiling", fails)
    train_in(tmp_path, QUICK.model_copy(update={"epochs": 1}))
    assert (tmp_path / "member-0.safetensors").is_file()
    said = capsys.readouterr().err
    assert "goes on without the share of the GPU's ceiling" in said
    assert "unsupported scalarType" in said
