"""The floor: scores of the best possible redshift estimator from the images of the simulated sky.

    python -m benchmarks.floor

Draws galaxies without rendering them, with measurement errors from their Fisher matrices; computes the posterior
distribution of redshift in the known population; trains a network on increasing numbers of draws, whose scores must
converge to the same values; fits rendered cutouts to check the errors. Writes config/embedded-large.floor.json, and a
page and a figure to docs/benchmarks/. Takes nine minutes of CPU time in one thread (AMD EPYC). ``--quick`` tests in a
minute that it runs.

Run it again when the population of the simulated sky changes, which a test detects.
"""

import argparse
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from benchmarks.floor import fisher, network, sampling
from benchmarks.floor.draws import BATCH, Observed, features, observe, prior
from benchmarks.floor.page import draw_figure, page
from benchmarks.floor.profile_fits import draw_cutouts, pulls
from threadpoolctl import threadpool_limits

from sdss_photoz.embedded.population import population_digest
from sdss_photoz.evaluation.floor import FLOOR, SAMPLE
from sdss_photoz.files import write_json, write_text
from sdss_photoz.progress import progress
from sdss_photoz.scores import metrics, pdfs
from sdss_photoz.scores.grid import Grid
from sdss_photoz.scores.residuals import residuals, sigma_mad

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"
SEED = 411
KNOWLEDGE = ("images", "colours", "noise_free")
RESAMPLES = 200
SIZES = {  # galaxies scored, samples of each posterior, largest and smallest number of draws, fits
    "--quick": (512, 16, 2**13, 2**10, 4),
    "": (2**15, 64, 2**18, 2**14, 500),
}


def main() -> None:
    """Compute, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.floor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", dest="size", action="store_const", const="--quick", default="")
    parser.add_argument("--out", type=Path, help="folder for all three files; default: their places in the repository")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = compute(*SIZES[options.size])
    path, docs = (options.out / FLOOR.name, options.out) if options.out else (FLOOR, DOCS)
    write_json(path, found)
    text = page(found)
    write_text(docs / "floor.md", text)
    draw_figure(found, docs / "floor.png")
    print(text)


def compute(galaxies: int, samples: int, largest: int, smallest: int, fits: int) -> dict:
    """Return the content of the JSON file."""
    start = time.process_time()
    tested = observe(galaxies, [SEED, 0])
    exact, effective = posteriors(tested, samples)
    curves = learning_curves(tested, largest, smallest)
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
        "worth_samples": effective,
        "scores": {knowledge: scores(exact[knowledge], tested.z) for knowledge in KNOWLEDGE},
        "sigma_mad_of_medians": {knowledge: of_medians(exact[knowledge][1], tested.z) for knowledge in KNOWLEDGE},
        "networks": {knowledge: limits(*curves[knowledge], tested.z) for knowledge in KNOWLEDGE},
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


def posteriors(tested: Observed, samples: int) -> tuple[dict, dict]:
    """Return posteriors for each knowledge, from half the samples and from all, and median effective sample sizes."""
    images, of_images = sampling.sampled(tested, samples, True, SEED)
    colours, of_colours = sampling.sampled(tested, samples, False, SEED)
    known = sampling.noise_free(tested)
    effective = {"images": float(np.median(of_images)), "colours": float(np.median(of_colours))}
    return {"images": images, "colours": colours, "noise_free": np.stack([known, known])}, effective


def learning_curves(tested: Observed, largest: int, smallest: int) -> dict:
    """Return for each knowledge the numbers of draws, and the predictions of networks trained on them."""
    batches = range(max(1, largest // BATCH))
    drawn = [observe(min(BATCH, largest), [SEED, 1, k]) for k in progress(batches, total=len(batches), label="draws")]
    z = np.concatenate([batch.z for batch in drawn])
    train, test = [features(batch) for batch in drawn], features(tested)
    numbers = [len(z) // 2**k for k in range(int(np.log2(largest // smallest)), -1, -1)]
    return {
        name: (numbers, network.learning_curve(np.concatenate([t[name] for t in train]), z, test[name], numbers, SEED))
        for name in KNOWLEDGE
    }


def each(probabilities, z) -> tuple[np.ndarray, np.ndarray]:
    """Return residual and CRPS of each galaxy."""
    return residuals(probabilities @ Grid().centres(), z), pdfs.crps(probabilities, z)


def scores(halves, z) -> dict:
    """Extrapolate scores to infinitely many samples (their excess is inverse to the number), with bootstrap errors."""
    (half_dz, half_crps), (dz, crps) = (each(probabilities, z) for probabilities in halves)

    def at_infinity(rows):
        half, whole = metrics.scores(half_dz[rows], half_crps[rows]), metrics.scores(dz[rows], crps[rows])
        return {name: 2 * whole[name] - half[name] for name in whole}

    drawn = metrics.bootstrap(at_infinity, np.arange(len(z)), RESAMPLES, SEED)
    values = at_infinity(slice(None))
    return {name: {"value": values[name], "error": float(drawn[name].std())} for name in values}


def of_medians(probabilities, z) -> dict:
    """Return sigma_MAD with the distribution's median as redshift instead of its mean, from all samples."""
    dz = residuals(pdfs.quantile(probabilities, 0.5), z)
    drawn = metrics.bootstrap(lambda rows: {"it": sigma_mad(dz[rows])}, np.arange(len(z)), RESAMPLES, SEED)
    return {"value": sigma_mad(dz), "error": float(drawn["it"].std())}


def limits(numbers, distributions, z) -> dict:
    """Return scores for each number of draws, and the limit of a power law fitted to them, with bootstrap errors."""
    found_by = [each(probabilities, z) for probabilities in distributions]

    def all_scores(rows):
        found = {}
        for name in ("sigma_mad", "crps"):
            values = [metrics.scores(dz[rows], crps[rows])[name] for dz, crps in found_by]
            law = network.extrapolate(numbers, np.array(values))
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
    """Return sigma_MAD of the ratios of error to predicted error, for each parameter."""
    return [sigma_mad(column) for column in ratios.T]


if __name__ == "__main__":
    main()
