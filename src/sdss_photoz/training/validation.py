"""Scores of a network on the validation galaxies."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.scores import pdfs
from sdss_photoz.scores.grid import Grid
from sdss_photoz.scores.residuals import residuals, sigma_mad
from sdss_photoz.training.data.examples import Examples
from sdss_photoz.training.step import logits

VALIDATION_BATCH = 256  # galaxies


def validate(network: nn.Module, examples: Examples) -> dict[str, float]:
    """Scores of a network on galaxies without augmentation, computed in float32.

    Returns
    -------
    dict
        ``validation_loss``, the mean cross-entropy (nat); ``crps``, its mean in redshift; ``sigma_mad`` and ``bias`` of
        z_phot, the mean of the distribution over the bins' centres.
    """
    total, z_phot, crps = 0.0, [], 0.0
    for batch, scores, labels in _logits(network, examples):
        total += F.cross_entropy(scores, labels, reduction="sum").item()
        bins = scores.shape[1]
        centres = torch.from_numpy(Grid(bins=bins).centres()).to(scores.device)
        pdf = scores.double().softmax(dim=1)
        z_phot.append(pdf @ centres)
        crps += pdfs.crps(pdf.cpu().numpy(), examples.z[batch.cpu().numpy()]).sum()
    dz = residuals(torch.cat(z_phot).cpu().numpy(), examples.z)
    count = len(examples)
    found = {"validation_loss": total / count, "crps": float(crps / count)}
    return found | {"sigma_mad": sigma_mad(dz), "bias": float(dz.mean())}


def learn_point(network: nn.Module, examples: Examples) -> np.ndarray:
    """Redshift of each bin, (bins,) float64, for the regressed point estimate, fitted to the validation galaxies."""
    parts = [scores.double().softmax(dim=1).cpu().numpy() for _, scores, _ in _logits(network, examples)]
    return pdfs.regressed_values(np.concatenate(parts), examples.z)


@torch.no_grad()
def _logits(network: nn.Module, examples: Examples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Indices, logits and labels of the galaxies, batch by batch, of a network in evaluation mode."""
    modes = {module: module.training for module in network.modules()}  # a frozen layer stays in evaluation mode
    network.eval()
    for batch in torch.arange(len(examples), device=examples.device).split(VALIDATION_BATCH):
        cubes, ebv, labels = examples.batch(batch)
        yield batch, logits(network, cubes, ebv, torch.float32), labels
    for module, mode in modes.items():
        module.training = mode
