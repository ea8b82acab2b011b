"""The page and the figure of the floor."""

import datetime

import numpy as np
from benchmarks.floor.network import PASSES, WIDTH, power_law
from matplotlib.figure import Figure

COLOURS = {"images": "#0072B2", "colours": "#D55E00", "noise_free": "#009E73"}  # colour-blind safe (Okabe and Ito)
NAMES = {"images": "the images", "colours": "integrated colours", "noise_free": "all parameters, without noise"}
SCORES = {"sigma_mad": "sigma_MAD", "bias": "bias", "outliers": "outliers (> 0.05)", "crps": "CRPS"}


def measured(score: dict, digits: int = 5) -> str:
    """Format a value and its error."""
    return f"{score['value']:.{digits}f} ± {score['error']:.{digits}f}"


def page(found: dict) -> str:
    """Return the page, in Markdown."""
    galaxies, samples = found["galaxies"], found["samples"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    known = [f"| {NAMES[k]} | " + " | ".join(measured(v[s]) for s in SCORES) + " |" for k, v in found["scores"].items()]
    learned = []
    for knowledge, network in found["networks"].items():
        exact, sigma, crps = found["scores"][knowledge], network["sigma_mad"], network["crps"]
        learned.append(
            f"| {NAMES[knowledge]} | {measured(sigma['growth'][-1])} | {measured(sigma['limit'])} | "
            f"{measured(exact['sigma_mad'])} | {measured(crps['growth'][-1])} | {measured(crps['limit'])} | "
            f"{measured(exact['crps'])} |"
        )
    fits = found["fits"]["scatter_over_error"]
    checked = [f"| `{name}` | {found['median_errors'][name]:.4f} | {measured(fits[name], 2)} |" for name in fits]
    largest = found["networks"]["images"]["draws"][-1]
    minutes, (of_images, of_colours) = found["cpu_seconds"] / 60, found["worth_samples"].values()
    medians = {knowledge: measured(score) for knowledge, score in found["sigma_mad_of_medians"].items()}
    return f"""# The floor of the simulated sky

The best scores that any network can reach on the images of the simulated sky. Written by
`python -m benchmarks.floor` to this page and to `config/embedded-large.floor.json`; {datetime.date.today()}, seed
{found["seed"]}; {minutes:.0f} minutes of one thread; {versions}.

| best estimator from | {" | ".join(SCORES.values())} |
|---|{"---|" * len(SCORES)}
{chr(10).join(known)}

Scores as in [evaluation](../evaluation.md), on {galaxies:,} draws of the population; errors by bootstrap over them. The
redshift is the mean of the distribution, as the networks' is. sigma_MAD alone would be lower for the median:
{medians["images"]} from the images, {medians["colours"]} from colours, {medians["noise_free"]} without noise.

![Scores of networks over the number of draws, with their limits and the floors](floor.png)

## How it is computed

- **Draws.** Galaxies of the population in conditions of the simulated camera, with patchy Galactic dust, without
  rendering. Those beyond the sample's limit of {found["sample"]["r_max"]} in Petrosian r are dropped.
- **Measurements.** The parameters are total fluxes in five bands; the bulge fraction, which fixes the colours of bulge
  and disc, since all galaxies of the population have the same colour difference between them; half-light radii and axis
  ratios of both. Each draw has errors with the covariance of the Fisher matrix of these ten, from its own profile,
  seeing and noise in 64 x 64 pixels of five bands (`benchmarks/floor/fisher.py`), under a Gaussian prior with the
  population's mean and covariance. E(B-V) is known to the catalogue's 10 %, exactly in the last row. Noise and seeing
  are known.
- **The best estimator** is the posterior distribution of redshift in the known population
  (`benchmarks/floor/posterior.py`): exact without noise, else from {samples} weighted samples of each galaxy's
  parameters (median effective sample size {of_images:.0f} for the images, {of_colours:.0f} for colours), with
  scores extrapolated to infinitely many.
- **Neglected**: neighbours, the frames' edges, the stacking and resampling of cubes and the suspect strip's zero point,
  which reduce the information; and the patch that several runs observe, which is deeper than assumed here.

## A network trained on it

A network ({WIDTH} units in three layers, 180 bins, {PASSES} passes) is trained on the estimates, E(B-V), noise and
seeing of increasing numbers of draws. Its scores are extrapolated by a power law; errors are by bootstrap over
galaxies, and do not include those of the law's form. A limit above the floor means that such a network does not learn
all structure of the population, which is finest without noise; a limit significantly below it would mean that the floor
is wrong.

| from | sigma_MAD, {largest:,} draws | infinitely many | floor | CRPS, {largest:,} draws | infinitely many | floor |
|---|---|---|---|---|---|---|
{chr(10).join(learned)}

## Are the errors right?

Bulge and disc were fitted to {found["fits"]["galaxies"]} cutouts of the simulated sky, rendered and read out as its
frames are, each galaxy alone. The scatter of fit minus truth (from the MAD) over the predicted error should be 1:

| parameter | median predicted error | scatter over error |
|---|---|---|
{chr(10).join(checked)}

Magnitudes are in mag, `bulge` is the logit of the bulge fraction in r, sizes are natural logarithms.
"""


def draw_figure(found: dict, path) -> None:
    """Draw scores over the number of draws, with the power laws, their limits and the floors."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, score in zip(figure.subplots(1, 2), ("sigma_mad", "crps"), strict=True):
        for knowledge, colour in COLOURS.items():
            network, floor = found["networks"][knowledge], found["scores"][knowledge][score]
            numbers, law = np.array(network["draws"]), network[score]
            growth = [point["value"] for point in law["growth"]]
            errors = [point["error"] for point in law["growth"]]
            axes.errorbar(numbers, growth, errors, fmt="o", color=colour, markersize=4, label=NAMES[knowledge])
            x = np.geomspace(numbers[0], 300 * numbers[-1], 200)
            axes.plot(x, power_law(x / 1e6, law["limit"]["value"], law["excess"], law["slope"]), color=colour, lw=1)
            end = 600 * numbers[-1]
            axes.errorbar(end, law["limit"]["value"], law["limit"]["error"], fmt="s", color=colour, markersize=4)
            axes.axhspan(
                floor["value"] - floor["error"], floor["value"] + floor["error"], color=colour, alpha=0.3, lw=0
            )
        axes.set_xscale("log")
        axes.set_xlabel("draws that the network was trained on")
        axes.set_ylabel(SCORES[score])
    figure.axes[0].legend(loc="upper right", frameon=False, fontsize=8)
    figure.suptitle("points and lines: networks and power laws; squares: their limits; bands: floors", fontsize=9)
    figure.savefig(path, dpi=130)
