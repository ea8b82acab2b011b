"""The floor belongs to one population, and is shown with the runs of that population alone."""

import numpy as np
import pytest

from sdss_photoz import config
from sdss_photoz.embedded import population
from sdss_photoz.evaluation.floor import read_floor
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


def test_without_the_file_there_is_none(tmp_path):
    assert read_floor(config.Config(), tmp_path / "floor.json") is None
