"""Scores of a network on the validation galaxies."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from sdss_photoz.scores import pdfs
from sdss_photoz.scores.residuals import residuals, sigma_mad
from sdss_photoz.targets.head import Head
from sdss_photoz.training.data.examples import Examples
from sdss_photoz.training.step import outputs_of

VALIDATION_BATCH = 256  # galaxies


def validate(network: nn.Module, examples: Examples) -> dict[str, float]:
    """Scores of a network on galaxies without augmentation, computed in float32.

    Returns
    -------
    dict
        ``validation_loss``, the mean score of the head, by default the cross-entropy (nat); ``crps``, the mean of the
        distributions, in the label's unit; ``sigma_mad`` and ``bias`` of the head's point estimate, by default the mean
        of the distribution over the bins' centres, of residuals over 1 + z for redshifts; of a mixture ``at_floor``,
        the fraction of the weight in components of the least width.
    """
    total, points, crps, at_floor, head = 0.0, [], 0.0, None, examples.head.to(examples.device)
    grid = head.label.grid
    for batch, outputs, labels in _outputs(network, examples):
        total += head.score(outputs, labels).item()
        centres = torch.from_numpy(grid.centres()).to(outputs.device)
        pdf = head.distribution(outputs.double())
        point = head.point(outputs)
        points.append(pdf @ centres if point is None else point)
        if (narrow := head.at_floor(outputs)) is not None:
            at_floor = (at_floor or 0.0) + narrow.item()
        crps += pdfs.crps(pdf.cpu().numpy(), examples.values[batch.cpu().numpy()], grid).sum()
    found, count = torch.cat(points).cpu().numpy(), len(examples)
    dz = residuals(found, examples.values) if head.label.kind == "redshift" else found - examples.values
    scores = {"validation_loss": head.mean_score(total, count), "crps": float(crps / count)}
    scores |= {} if at_floor is None else {"at_floor": at_floor / count}
    return scores | {"sigma_mad": sigma_mad(dz), "bias": float(dz.mean())}


def learn_point(network: nn.Module, examples: Examples) -> np.ndarray:
    """Value of each bin, (bins,) float64, for the regressed point estimate, fitted to the validation galaxies."""
    head = examples.head.to(examples.device)
    parts = [head.distribution(outputs.double()).cpu().numpy() for _, outputs, _ in _outputs(network, examples)]
    return pdfs.regressed_values(np.concatenate(parts), examples.values, head.label.grid)


def learn_head(network: nn.Module, examples: Examples) -> Head:
    """The head with what it learns from the validation galaxies at the end of a training (`Head.learned`)."""
    head = examples.head.to(examples.device)
    points = torch.cat([head.point(outputs) for _, outputs, _ in _outputs(network, examples)])
    return head.learned(points.cpu().numpy(), examples.values)


@torch.no_grad()
def _outputs(network: nn.Module, examples: Examples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Indices, outputs and labels of the galaxies, batch by batch, of a network in evaluation mode."""
    modes = {module: module.training for module in network.modules()}  # a frozen layer stays in evaluation mode
    network.eval()
    for batch in torch.arange(len(examples), device=examples.device).split(VALIDATION_BATCH):
        images, numbers, labels = examples.batch(batch)
        yield batch, outputs_of(network, images, numbers, torch.float32), labels
    for module, mode in modes.items():
        module.training = mode
