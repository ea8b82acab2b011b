"""Compare the training of fast forms with that of the plain form, with the same weights, order and symmetries."""

import math
import sys
import time

import numpy as np
import torch
from training_forms import PLAIN, Form, Settings, Steps, forms, sequence, wide_network
from training_galaxies import make_examples

from sdss_photoz.device import compute_dtype
from sdss_photoz.training.fast.aligned import MULTIPLE
from sdss_photoz.training.validation import validate

LEARNED = 0.5  # nat below the entropy of the redshifts, and
STEPS = 2000  # at least: before that, two forms agree because neither has learned
SEEDS = {"cuda": 4, "cpu": 12}  # one in seven means of four lies beyond two standard errors by chance; of twelve, 7 %
SCORES = ("validation_loss", "sigma_mad")
MAX_FRACTION = 0.005  # of the loss, above which the difference fails


def parity(device: torch.device, quick: bool) -> tuple[list[dict], list[dict]]:
    """Train the forms and compare them.

    On a GPU the paper's network, the fast form as the training of the device takes it. On a CPU, where that network
    takes seconds a step, `NarrowNetwork`, as a CPU trains it in float32, and padded in bfloat16, emulated or not.

    Returns
    -------
    table : list of dict
        A row per fast form: its mean paired differences from the plain one with their standard errors, and the verdict.
    curves : list of dict
        form, seed, step, validation_loss, sigma_mad.
    """
    on_cpu = device.type == "cpu"
    seeds = SEEDS[device.type]
    if on_cpu:
        exact = Form("merged, 5x5 by Fourier transform, float32", multiple=1, fourier=True)
        fast = [exact, Form("padded, bfloat16", torch.bfloat16, multiple=MULTIPLE)]
    else:
        fast = forms(device, compute_dtype(device) == torch.bfloat16)[-1:]
    settings = Settings(batch=16, learning_rate=3e-3) if on_cpu else Settings(batch=128, learning_rate=3e-4)
    count, steps = (4000 if on_cpu else 40_000), STEPS
    if quick:
        count, steps, seeds = 64, 2, 2
    train = make_examples(count, 1, device, settings)
    validation = make_examples(count // 4, 2, device, settings)
    curves, spent = [], {}
    for seed in range(1, seeds + 1):
        settings.seed = seed
        network = wide_network(on_cpu, seed)
        for form in (PLAIN, *fast):
            start = time.process_time() if on_cpu else time.perf_counter()
            curves += _train(network, train, validation, settings, steps, form, seed)
            taken = (time.process_time() if on_cpu else time.perf_counter()) - start
            spent[form.name] = spent.get(form.name, 0) + taken / seeds
            last = curves[-1]
            print(
                f"parity: {form.name}, seed {seed}: validation loss {last['validation_loss']:.4f}, {taken:.0f} s",
                file=sys.stderr,
            )
    prior = train.head.prior(train.labels.cpu().numpy())
    table = [
        {
            "fast_form": form.name,
            "network": type(network).__name__,
            "galaxies": count,
            "steps": steps,
            "batch": settings.batch,
            **compare(curves, form.name, prior),
            "seconds_plain": round(spent[PLAIN.name], 1),
            "seconds_fast": round(spent[form.name], 1),
        }
        for form in fast
    ]
    return table, curves


def _train(network, train, validation, settings, steps: int, form: Form, seed: int) -> list[dict]:
    """Scores on the validation galaxies, five times in a training."""
    step, rows = Steps(network, train, settings, steps, form), []
    for number, inputs in enumerate(train.batches(sequence(train, settings), 0, steps), 1):
        step(*inputs)
        if number % max(steps // 5, 1) == 0:
            scores = validate(step.trainer.trained_network(), validation)
            scores = {key: scores[key] for key in SCORES}
            rows.append({"form": form.name, "seed": seed, "step": number, **scores})
    return rows


def compare(curves: list[dict], form: str, prior: float) -> dict:
    """Paired differences of a form from the plain one at the last step, with their standard errors, and the verdict.

    It passes where the mean differences of validation loss and sigma_MAD are zero within two standard errors, that of
    the loss is below half a per cent of it, and both forms have learned: at least 2,000 steps, and a loss 0.5 below
    the entropy of the redshifts (`prior`).
    """
    last = max(row["step"] for row in curves)
    ends = [row for row in curves if row["step"] == last]
    scores = {
        key: np.array([[row[key] for row in ends if row["form"] == name] for name in (PLAIN.name, form)])
        for key in SCORES
    }
    row = {"seeds": scores["sigma_mad"].shape[1], "entropy": round(prior, 3)}
    row["plain_loss"] = round(scores["validation_loss"][0].mean(), 4)
    row["plain_sigma_mad"] = round(scores["sigma_mad"][0].mean(), 5)
    zero = []
    for key, (plain, fast) in scores.items():
        difference = fast - plain
        mean, error = difference.mean(), difference.std(ddof=1) / math.sqrt(len(difference))
        row |= {f"{key}_difference": float(f"{mean:.2g}"), f"{key}_error": float(f"{error:.2g}")}
        zero.append(bool(abs(mean) <= 2 * error))
    loss = scores["validation_loss"]
    small = abs((loss[1] - loss[0]).mean()) < MAX_FRACTION * loss[0].mean()
    learned = last >= STEPS and loss.max() <= prior - LEARNED
    row["learned"] = "yes" if learned else "no"
    row["verdict"] = "pass" if all(zero) and small and learned else "fail"
    return row
