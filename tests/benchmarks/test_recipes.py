"""The recipes of the benchmark are configurations, each as its name states."""

import pytest
from training_recipes import CPU, GPU, PAPER, row, rows

from sdss_photoz.config import Training


@pytest.mark.parametrize("size", [CPU, GPU])
def test_each_recipe_is_a_configuration_of_its_own(size):
    recipes = [Training(**change) for change in rows(size).values()]
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(recipes) == 15
    assert next(iter(rows(size))) == PAPER


def test_the_papers_recipe_is_the_published_one():
    recipe = Training(**rows(GPU)[PAPER])
    assert (recipe.network, recipe.schedule, recipe.learning_rate, recipe.batch) == ("inception", "step", 1e-4, 128)
    assert (recipe.stretch, recipe.initialisation) == ("none", "paper")
    assert recipe.epochs * GPU.train / recipe.batch == pytest.approx(120_000, rel=0.01)


def test_a_row_tells_how_long_a_recipe_takes_to_all_three_scores_of_the_papers_together():
    def scores(loss, crps, sigma_mad, seconds):
        return {"loss": loss, "crps": crps, "sigma_mad": sigma_mad, "seconds": seconds}

    goal = scores(4.0, 0.01, 0.02, 100.0)
    runs = [
        [scores(3.9, 0.02, 0.02, 1.0), scores(3.9, 0.01, 0.02, 2.0), scores(3.7, 0.01, 0.02, 3.0)],
        [scores(4.1, 0.01, 0.01, 1.0), scores(4.1, 0.01, 0.01, 2.0), scores(3.8, 0.01, 0.01, 4.0)],
        [scores(4.1, 0.01, 0.01, 1.0), scores(4.1, 0.01, 0.01, 2.0), scores(4.2, 0.01, 0.01, 5.0)],
    ]
    found = row("a recipe", Training(), runs, goal)
    assert (found["reach_the_papers"], found["seconds_to_the_papers"], found["seconds"]) == ("2 of 3", 3.0, 4.0)
    assert (found["loss"], found["loss_error"]) == (3.9, 0.2)
