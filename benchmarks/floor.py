"""The floor: scores of the best estimator of redshifts from what the images of the simulated sky hold.

    python benchmarks/floor.py

Draws galaxies without rendering them and measures them with the errors of their Fisher matrices; takes the posterior
distribution of redshift in the known population; trains a network on growing numbers of draws, which must tend to the
same scores; fits rendered cutouts to check the errors. Writes config/embedded-large.floor.json, and a page and a figure
to docs/benchmarks/. One thread; nine minutes of processor time (AMD EPYC). ``--quick`` shows in a minute that it runs.

Run it anew when the population of the simulated sky changes: a test says so.
"""

import argparse
import sys
import time
from importlib.metadata import version
from pathlib import Path

import floor_network
import floor_posterior
import numpy as np
import torch
from floor_draws import DRAWN, Seen, features, prior, see
from floor_page import draw_figure, page
from threadpoolctl import threadpool_limits

from sdss_photoz.embedded import fisher
from sdss_photoz.embedded.population import population_digest
from sdss_photoz.evaluation import metrics, pdfs
from sdss_photoz.evaluation.floor import FLOOR, SAMPLE
from sdss_photoz.evaluation.residuals import residuals, sigma_mad
from sdss_photoz.files import write_json, write_text
from sdss_photoz.progress import progress

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "embedded"))
from profile_fits import draw_cutouts, pulls

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"
SEED = 411
KNOWLEDGE = ("images", "colours", "noise_free")
RESAMPLES = 200
SIZES = {  # galaxies scored, samples of each posterior, largest and smallest number of draws, fits
    "--quick": (512, 16, 2**13, 2**10, 4),
    "": (2**15, 64, 2**18, 2**14, 500),
}


def main() -> None:
    """Compute, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", dest="size", action="store_const", const="--quick", default="")
    parser.add_argument("--out", type=Path, help="folder for all three files, instead of where they belong")
    words = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = compute(*SIZES[words.size])
    path, docs = (words.out / FLOOR.name, words.out) if words.out else (FLOOR, DOCS)
    write_json(path, found)
    text = page(found)
    write_text(docs / "floor.md", text)
    draw_figure(found, docs / "floor.png")
    print(text)


def compute(galaxies: int, samples: int, largest: int, smallest: int, fits: int) -> dict:
    """All that the file holds."""
    start = time.process_time()
    tested = see(galaxies, [SEED, 0])
    exact, worth = posteriors(tested, samples)
    growth = grow(tested, largest, smallest)
    mean, spread = prior()
    ratios = pulls(draw_cutouts(fits, SEED), mean, spread, SEED)
    random = np.random.default_rng(SEED)
    resampled = [widths(ratios[random.integers(fits, size=fits)]) for _ in range(RESAMPLES)]
    names = ("galsim", "numpy", "scipy", "torch")
    return {
        "population": population_digest(),
        "seed": SEED,
        "sample": {"r_max": SAMPLE.r_max, "z_max": SAMPLE.z_max},
        "galaxies": len(tested.z),
        "samples": samples,
        "worth_samples": worth,
        "scores": {knowledge: scores(exact[knowledge], tested.z) for knowledge in KNOWLEDGE},
        "sigma_mad_of_medians": {knowledge: of_medians(exact[knowledge][1], tested.z) for knowledge in KNOWLEDGE},
        "networks": {knowledge: limits(*growth[knowledge], tested.z) for knowledge in KNOWLEDGE},
        "median_errors": dict(
            zip(fisher.PARAMETERS, np.median(np.sqrt(np.diagonal(tested.covariance, 0, 1, 2)), axis=0), strict=True)
        ),
        "fits": {
            "galaxies": fits,
            "scatter_over_error": {
                name: {"value": value, "error": error}
                for name, value, error in zip(fisher.PARAMETERS, widths(ratios), np.std(resampled, axis=0), strict=True)
            },
        },
        "versions": {name: version(name) for name in names},
        "cpu_seconds": round(time.process_time() - start),
    }


def posteriors(tested: Seen, samples: int) -> tuple[dict, dict]:
    """For each knowledge, distributions from half the samples and from all; and how many equal ones these are worth."""
    images, worth = floor_posterior.sampled(tested, samples, True, SEED)
    colours, worth_of_colours = floor_posterior.sampled(tested, samples, False, SEED)
    known = floor_posterior.noise_free(tested)
    worth = {"images": float(np.median(worth)), "colours": float(np.median(worth_of_colours))}
    return {"images": images, "colours": colours, "noise_free": np.stack([known, known])}, worth


def grow(tested: Seen, largest: int, smallest: int) -> dict:
    """For each knowledge, numbers of draws and the distributions of networks that learned from so many."""
    pieces = range(max(1, largest // DRAWN))
    learned = [see(min(DRAWN, largest), [SEED, 1, k]) for k in progress(pieces, total=len(pieces), label="draws")]
    z, told, asked = (
        np.concatenate([seen.z for seen in learned]),
        [features(seen) for seen in learned],
        features(tested),
    )
    numbers = [len(z) // 2**k for k in range(int(np.log2(largest // smallest)), -1, -1)]
    return {
        name: (numbers, floor_network.grow(np.concatenate([t[name] for t in told]), z, asked[name], numbers, SEED))
        for name in KNOWLEDGE
    }


def each(probabilities, z) -> tuple[np.ndarray, np.ndarray]:
    """Residual and CRPS of each galaxy."""
    return residuals(probabilities @ pdfs.bin_centres(), z), pdfs.crps(probabilities, z)


def scores(halves, z) -> dict:
    """Scores for infinitely many samples, whose excess goes as one over their number, and errors over galaxies."""
    (half_dz, half_crps), (dz, crps) = (each(probabilities, z) for probabilities in halves)

    def at_infinity(rows):
        half, whole = metrics.scores(half_dz[rows], half_crps[rows]), metrics.scores(dz[rows], crps[rows])
        return {name: 2 * whole[name] - half[name] for name in whole}

    drawn = metrics.bootstrap(at_infinity, np.arange(len(z)), RESAMPLES, SEED)
    values = at_infinity(slice(None))
    return {name: {"value": values[name], "error": float(drawn[name].std())} for name in values}


def of_medians(probabilities, z) -> dict:
    """sigma_MAD where the redshift is the distribution's median, not its mean, from all samples."""
    dz = residuals(pdfs.quantile(probabilities, 0.5), z)
    drawn = metrics.bootstrap(lambda rows: {"it": sigma_mad(dz[rows])}, np.arange(len(z)), RESAMPLES, SEED)
    return {"value": sigma_mad(dz), "error": float(drawn["it"].std())}


def limits(numbers, distributions, z) -> dict:
    """Scores after each number of draws, and the limit of the power law through them, with errors over galaxies."""
    found_by = [each(probabilities, z) for probabilities in distributions]

    def all_scores(rows):
        found = {}
        for name in ("sigma_mad", "crps"):
            values = [metrics.scores(dz[rows], crps[rows])[name] for dz, crps in found_by]
            law = floor_network.extrapolate(numbers, np.array(values))
            found |= {(name, number): value for number, value in zip(numbers, values, strict=True)}
            found |= {(name, part): value for part, value in zip(("limit", "excess", "slope"), law, strict=True)}
        return found

    drawn = metrics.bootstrap(all_scores, np.arange(len(z)), RESAMPLES, SEED)
    values = all_scores(slice(None))
    result: dict = {"draws": numbers}
    for name in ("sigma_mad", "crps"):
        grown = [{"value": values[name, n], "error": float(drawn[name, n].std())} for n in numbers]
        law = {part: float(values[name, part]) for part in ("excess", "slope")}
        limit = {"value": float(values[name, "limit"]), "error": float(drawn[name, "limit"].std())}
        result[name] = {"growth": grown, "limit": limit, **law}
    return result


def widths(ratios) -> list[float]:
    """Width of each parameter's errors over predicted errors."""
    return [sigma_mad(column) for column in ratios.T]


if __name__ == "__main__":
    main()
