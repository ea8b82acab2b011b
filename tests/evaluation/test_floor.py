"""The floor belongs to one population, and is shown with the runs of that population alone."""

import json

import numpy as np
import pytest

from sdss_photoz import config
from sdss_photoz.embedded import population
from sdss_photoz.evaluation.floor import FLOOR, read_floor
from sdss_photoz.files import write_json


@pytest.fixture
def floor_file(tmp_path):
    """A floor of the present population, with made-up scores."""
    score = {"sigma_mad": {"value": 0.01, "error": 0.0001}}
    scores = {"images": score, "colours": score, "noise_free": score}
    write_json(tmp_path / "floor.json", {"population": population.population_digest(), "scores": scores})
    return tmp_path / "floor.json"


@pytest.mark.parametrize("values", [{}, {"run": "other", "embedded": {"fields": 400, "seed": 7}}])
def test_runs_of_the_population_have_its_floor(values, floor_file):
    assert read_floor(config.check(values), floor_file).images["sigma_mad"] == {"value": 0.01, "error": 0.0001}


@pytest.mark.parametrize(
    "values",
    [
        {"archive": {"service": "skyserver"}},
        {"cubes": {"source": "published", "published": "sdss.npz"}},
        {"sample": {"r_max": 17.0}},
        {"sample": {"z_max": 0.2}},
        {"sample": {"z_min": 0.1}},
        {"sample": {"where": "ebv < 0.1"}},
        {"trials": {"a": {}, "b": {"where": "ebv < 0.1"}}},
        {"archive": {"query": "own.sql"}},
    ],
    ids=str,
)
def test_other_runs_have_none(values, floor_file):
    assert read_floor(config.check(values), floor_file) is None


def test_another_population_has_none(floor_file, monkeypatch):
    monkeypatch.setattr(population, "THINNEST_DISC", 0.2)
    population._mixture.cache_clear()
    population.population_digest.cache_clear()
    try:
        assert read_floor(config.Config(), floor_file) is None
    finally:
        monkeypatch.undo()
        population._mixture.cache_clear()
        population.population_digest.cache_clear()


def test_the_population_is_told_from_others_whatever_the_last_digits(monkeypatch):
    digest = population.population_digest.__wrapped__
    draw = population.draw_galaxies
    drawn = lambda factor: lambda *a: draw(*a).select_dtypes(float) * factor  # noqa: E731
    monkeypatch.setattr(population, "draw_galaxies", drawn(1.0))
    usual = digest()
    monkeypatch.setattr(population, "draw_galaxies", drawn(1 + 4 * np.finfo(float).eps))
    assert digest() == usual
    monkeypatch.setattr(population, "draw_galaxies", drawn(1.001))
    assert digest() != usual


def test_the_population_is_frozen_since_its_floor_was_computed():
    computed_for = json.loads(FLOOR.read_text())["population"]
    assert population.population_digest() == computed_for, (
        "the population of the simulated sky is not the one whose floor stands in config/embedded-large.floor.json: "
        "undo the change, or have the floor computed anew by `python -m benchmarks.floor`, before any tuning."
    )


def test_who_knows_more_scores_better():
    floor = read_floor(config.Config())
    for score in ("sigma_mad", "crps"):
        best = [getattr(floor, knowledge)[score] for knowledge in ("noise_free", "images", "colours")]
        assert best[0]["value"] < best[1]["value"] < best[2]["value"]
        assert all(found["error"] < 0.02 * found["value"] for found in best)


def test_networks_on_draws_tend_to_the_floor_and_never_pass_it():
    found = json.loads(FLOOR.read_text())
    assert found["networks"]
    for knowledge, network in found["networks"].items():
        for score in ("sigma_mad", "crps"):
            best, grown = found["scores"][knowledge][score], [point["value"] for point in network[score]["growth"]]
            assert min(grown) > best["value"] - 2 * best["error"]
            assert grown[-1] < grown[0]


def test_the_errors_behind_the_floor_are_those_of_fits_to_500_cutouts():
    fits = json.loads(FLOOR.read_text())["fits"]
    assert fits["galaxies"] == 500
    assert fits["scatter_over_error"]
    ratios = [ratio["value"] for ratio in fits["scatter_over_error"].values()]
    assert ratios == pytest.approx(np.ones(len(ratios)), abs=0.2)


def test_without_the_file_there_is_none(tmp_path):
    assert read_floor(config.Config(), tmp_path / "floor.json") is None
