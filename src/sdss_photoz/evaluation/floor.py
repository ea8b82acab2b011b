"""The floor of the simulated sky: the scores of the best estimator of redshifts from what its images hold."""

import json
from dataclasses import dataclass
from pathlib import Path

from sdss_photoz.config import Config, Sample
from sdss_photoz.embedded.population import population_digest
from sdss_photoz.surveys import CUBE

FLOOR = Path(__file__).parents[3] / "config" / "embedded-large.floor.json"  # of a checkout
SAMPLE = Sample()  # the limits within which the floor was computed
LIMITS = ("r_max", "z_min", "z_max", "where")

Scores = dict[str, dict[str, float]]  # of sigma_mad, bias, outliers, crps: value and error


@dataclass(frozen=True)
class Floor:
    """Scores, each with ``value`` and ``error``, of the best estimators from three kinds of knowledge of a galaxy."""

    images: Scores  # fluxes, bulge and disc, sizes, axis ratios, E(B-V), with the errors that the pixels leave
    colours: Scores  # total fluxes in five bands and E(B-V), with the same errors
    noise_free: Scores  # as images, without any error


def read_floor(config: Config, path: Path = FLOOR) -> Floor | None:
    """Read the floor of a run's population.

    Parameters
    ----------
    config : Config
        The run's. Seed, number of fields and density of its sky do not matter; what chooses its galaxies does.
    path : Path
        As `python -m benchmarks.floor` writes it.

    Returns
    -------
    Floor or None
        None where the run is not of the simulated sky, is of another population, has other limits, other pixels, other
        bands, a condition (also of a trial) or a query of the user's, or the file does not exist.
    """
    simulated = config.archive.service == "embedded" and config.cubes.source == "frames"
    limited = [key for key in LIMITS if getattr(config.sample, key) != getattr(SAMPLE, key)]
    limited += [name for name, trial in config.trials.items() if trial.where is not None]
    other = config.archive.query is not None or config.cubes.grid != CUBE
    if not simulated or other or limited or not path.is_file():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    if values["population"] != population_digest():
        return None
    return Floor(**{knowledge: values["scores"][knowledge] for knowledge in Floor.__dataclass_fields__})
