"""Scores of training recipes: the paper's, a modern one, and single changes.

    python benchmarks/training_recipes.py [--rows NAME ...] [--seeds 3] [--epochs 30] [--quick]

All rows use the same galaxies; seeds change initial weights, order and symmetries. Rows between the first and the last
differ from `BASE` as their name states. Scores are those of the last step on the validation galaxies, with standard
errors over seeds. The time to the paper's recipe is that until the loss, CRPS and sigma_MAD of a network are all at
most those at the end of the paper's recipe; validation is not counted.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import numpy as np
import torch
from training_forms import Form, Settings, Steps, forms, seconds
from training_galaxies import make_examples
from training_page import machine, text

from sdss_photoz.device import claim, compute_dtype, cpu_threads, numerics
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.inputs.symmetry import SYMMETRIES
from sdss_photoz.networks import build, variant
from sdss_photoz.scores import pdfs
from sdss_photoz.scores.residuals import residuals, sigma_mad
from sdss_photoz.training.data.examples import Examples
from sdss_photoz.training.data.order import Sequence, strata_of
from sdss_photoz.training.fast.cuda_graph import WARM_UP
from sdss_photoz.training.step import outputs_of

SCORES = ("loss", "crps", "sigma_mad")
VALIDATIONS = 12  # in a training
PAPER, BASE = "the paper's recipe", "stretch, He weights, warm-up and linear decay"


class Size(NamedTuple):
    """Size of the trainings.

    Attributes
    ----------
    network : str
        Name of the network.
    batch, rate : int, float
        Batch and learning rate of the base recipe; the paper's recipe has the published ones.
    train, validation : int
        Number of galaxies.
    epochs, papers : int
        Passes through the training galaxies, in the base and in the paper's recipe.
    """

    network: str
    batch: int
    rate: float
    train: int
    validation: int
    epochs: int
    papers: int


GPU = Size("inception", 128, 3e-4, 100_000, 10_000, 30, 154)  # 154 epochs: 120,000 steps of 128
CPU = Size("inception_small", 32, 3e-3, 800, 500, 12, 24)
QUICK = Size("inception_small", 8, 3e-3, 40, 20, 1, 1)


def rows(size: Size) -> dict[str, dict]:
    """Keys of the block `training` in which each recipe differs from the defaults, by the recipe's name."""
    base = {"network": size.network, "batch": size.batch, "learning_rate": size.rate, "epochs": size.epochs}
    norm, crps = {"batch_norm": True}, {"crps_weight": 50.0}
    other = "prelu" if size.network == "inception_small" else "relu"
    changes = {
        BASE: {},
        "+ mean of the last fifth of the weights": {"averaging": "last", "averaging_share": 0.2},
        "+ exponential average of the weights": {"averaging": "exponential", "averaging_share": 0.1},
        "+ batches four times as large, twice the rate": {"batch": 4 * size.batch, "learning_rate": 2 * size.rate},
        "+ labels spread over neighbouring bins": {"label_width": 0.004},
        "+ CRPS term": crps,
        "+ max pooling": {"pooling": "max"},
        f"+ {'PReLU' if other == 'prelu' else 'ReLU'} in place of {'ReLU' if other == 'prelu' else 'PReLU'}": {
            "activation": other
        },
        "+ batch normalisation": norm,
        "+ dropout of a fifth": {"dropout": 0.2},
        "+ gamma compression in place of asinh": {"stretch": "gamma"},
        "+ doubled batches": {"batch": 2 * size.batch},
        "+ redshift-balanced batches": {"sampling": "balanced"},
        "modern: batch normalisation, CRPS term": {**norm, **crps},
    }
    published = {"schedule": "step", "learning_rate": 1e-4, "initialisation": "paper", "stretch": "none"}
    return {
        PAPER: {**base, **published, "batch": min(128, size.batch), "epochs": size.papers},
        **{name: {**base, **change} for name, change in changes.items()},
    }


def recipes(
    device: torch.device, quick: bool, chosen: list[str] | None = None, seeds: int = 3, epochs: int | None = None
) -> list[dict]:
    """Train each recipe with several seeds.

    Parameters
    ----------
    device : torch.device
        Where; it decides the sizes.
    quick : bool
        Whether to take tiny sizes and two recipes.
    chosen : list of str, optional
        Beginnings of the names of the rows; default: all. The paper's is always there.
    seeds : int
        Trainings of each row.
    epochs : int, optional
        Of all rows but the paper's, whose number changes in proportion.

    Returns
    -------
    list of dict
        A row per recipe.
    """
    size = QUICK if quick else CPU if device.type == "cpu" else GPU
    if epochs:
        size = size._replace(epochs=epochs, papers=round(epochs * size.papers / size.epochs))
    changes, found, goal, data = rows(size), [], None, {}
    wanted = [PAPER, BASE, *list(changes)[-1:]] if quick else chosen
    for name, change in changes.items():
        if name != PAPER and wanted and not name.startswith(tuple(wanted)):
            continue
        settings = Settings(**change)
        if settings.stretch not in data:
            data[settings.stretch] = [
                make_examples(count, seed, device, settings)
                for seed, count in enumerate((size.train, size.validation), 1)
            ]
        runs = []
        for seed in range(1, (2 if quick else seeds) + 1):
            settings.seed = seed
            with numerics(device, compute_dtype(device)):
                runs.append(train(settings, *data[settings.stretch], size))
            scores = ", ".join(f"{key} {value:.5g}" for key, value in runs[-1].validations[-1].items())
            print(f"recipes: {name}, seed {seed}: {scores}", file=sys.stderr, flush=True)
        found.append(row(name, settings, [run.validations for run in runs], goal))
        goal = goal or {key: np.mean([run.validations[-1][key] for run in runs]) for key in SCORES}
        if name == BASE:
            later = [prediction_variants(run, data[settings.stretch][1]) for run in runs]
            found += [row(other, settings, [[each[other]] for each in later], goal) for other in later[0]]
    return found


class Run(NamedTuple):
    """A training: scores and seconds at each validation, and the final network."""

    validations: list[dict]
    network: torch.nn.Module


def train(settings, galaxies: Examples, validation: Examples, size: Size) -> Run:
    """Train once."""
    device = galaxies.device
    dtype = compute_dtype(device)
    form = forms(device, dtype == torch.bfloat16)[-1] if size.network == "inception" else Form("plain", dtype)
    inputs = Inputs(stretch=settings.stretch)
    network = build(settings.network, settings.bins, settings.initialisation, settings.seed, variant(settings), inputs)
    strata = strata_of(galaxies.values, galaxies.head.label.grid) if settings.sampling == "balanced" else None
    order = Sequence(len(galaxies), settings.batch, settings.seed, 0, 0, settings.augment, strata=strata)
    count = order.steps(settings.epochs)
    steps, validations, spent = Steps(network, galaxies, settings, count, form), [], 0.0
    inputs, done = galaxies.batches(order, 0, count), 0
    if device.type == "cuda":  # compilation and capture do not count
        while done <= WARM_UP:
            steps(*next(inputs))
            done += 1
    for first, last in pairwise([done, *(count * np.arange(1, VALIDATIONS + 1) // VALIDATIONS).tolist()]):
        spent += seconds(lambda first=first, last=last: [steps(*next(inputs)) for _ in range(first, last)], device)
        network = steps.trainer.trained_network()
        validations.append({**score(distributions(network, validation), validation), "seconds": spent})
    return Run(validations, network)


@torch.no_grad()
def distributions(network, examples: Examples, symmetry: int = 0) -> np.ndarray:
    """Distributions (galaxy, bin) float64 of galaxies under a symmetry."""
    network.eval()
    found = []
    for part in torch.arange(len(examples), device=examples.device).split(256):
        images, numbers, _ = examples.batch(part, torch.full_like(part, symmetry))
        found.append(outputs_of(network, images, numbers, torch.float32).double().softmax(1).cpu().numpy())
    network.train()
    return np.concatenate(found)


def score(pdf: np.ndarray, examples: Examples, z_phot=None) -> dict:
    """Loss (nat), CRPS (in redshift) and sigma_MAD of distributions, or of redshifts where they are given."""
    own = pdf[np.arange(len(pdf)), examples.labels.cpu().numpy()]
    z_phot = pdfs.point_estimate(pdf) if z_phot is None else z_phot
    found = {"loss": -np.log(np.maximum(own, 1e-30)).mean(), "crps": pdfs.crps(pdf, examples.values).mean()}
    return {**found, "sigma_mad": sigma_mad(residuals(z_phot, examples.values))}


def prediction_variants(run: Run, validation: Examples) -> dict[str, dict]:
    """Scores of a trained network with symmetry averaging, and with a regressed point estimate, by the row's name."""
    spent = {"seconds": run.validations[-1]["seconds"]}
    each = [distributions(run.network, validation, symmetry) for symmetry in range(SYMMETRIES)]
    halves, regressed = np.arange(len(validation)) % 2, np.empty(len(validation))
    for half in (0, 1):  # learned on one half of the validation galaxies, scored on the other
        values = pdfs.regressed_values(each[0][halves != half], validation.values[halves != half])
        regressed[halves == half] = pdfs.point_estimate(each[0][halves == half], values)
    return {
        "+ symmetry averaging at prediction": score(np.mean(each, axis=0), validation) | spent,
        "+ point estimate regressed from the softmax": score(each[0], validation, regressed) | spent,
    }


def row(name: str, settings, runs: list[list[dict]], goal: dict | None) -> dict:
    """One line of the table: means over seeds with their standard errors; the paper's recipe has no goal."""
    found = {"recipe": name, "epochs": settings.epochs, "batch": settings.batch, "seeds": len(runs)}
    for key, digits in zip(SCORES, (3, 5, 5), strict=True):
        last = np.array([validations[-1][key] for validations in runs])
        found[key] = round(float(last.mean()), digits)
        found[f"{key}_error"] = float(f"{last.std(ddof=1) / len(last) ** 0.5:.1g}") if len(last) > 1 else None
    found["seconds"] = round(float(np.mean([validations[-1]["seconds"] for validations in runs])), 1)
    if goal is None:
        return found | {"reach_the_papers": None, "seconds_to_the_papers": found["seconds"]}
    seconds = [_seconds_to(goal, validations) for validations in runs]
    reached = [value for value in seconds if value is not None]
    found["reach_the_papers"] = f"{len(reached)} of {len(seconds)}"
    found["seconds_to_the_papers"] = round(float(np.mean(reached)), 1) if reached else None
    return found


def _seconds_to(goal: dict, validations: list[dict]) -> float | None:
    """Seconds until all scores are at most those of the goal; None if they never are."""
    return next((row["seconds"] for row in validations if all(row[key] <= goal[key] for key in SCORES)), None)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="beginnings of the names of the recipes; all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of all recipes but the paper's, which changes in proportion")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    options = parser.parse_args()
    with claim(options.device) as device, cpu_threads(1):
        print(machine(device))
        print(text(recipes(device, options.quick, options.rows, options.seeds, options.epochs)))


if __name__ == "__main__":
    main()
