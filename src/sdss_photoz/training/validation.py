"""How well a network does on the validation galaxies."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdss_photoz.evaluation import pdfs
from sdss_photoz.evaluation.residuals import residuals, sigma_mad
from sdss_photoz.training.examples import Z_MAX, Examples
from sdss_photoz.training.step import logits

BATCH = 256


def validate(network: nn.Module, examples: Examples) -> dict[str, float]:
    """Scores of a network, in float32, on galaxies untouched by symmetries.

    Returns
    -------
    dict
        ``validation_loss``, the mean cross-entropy (nat); ``crps``, its mean in redshift; ``sigma_mad`` and ``bias`` of
        z_phot, the mean of the distribution over the bins' centres.
    """
    total, z_phot, crps = 0.0, [], 0.0
    for part, scores, labels in _logits(network, examples):
        total += F.cross_entropy(scores, labels, reduction="sum").item()
        bins = scores.shape[1]
        centres = (torch.arange(bins, device=scores.device, dtype=torch.float64) + 0.5) * (Z_MAX / bins)
        pdf = scores.double().softmax(dim=1)
        z_phot.append(pdf @ centres)
        crps += pdfs.crps(pdf.cpu().numpy(), examples.z[part.cpu().numpy()]).sum()
    dz = residuals(torch.cat(z_phot).cpu().numpy(), examples.z)
    count = len(examples)
    found = {"validation_loss": total / count, "crps": float(crps / count)}
    return found | {"sigma_mad": sigma_mad(dz), "bias": float(dz.mean())}


def learn_point(network: nn.Module, examples: Examples) -> np.ndarray:
    """Redshift (bins,) float64 that each bin best stands for, learned on the validation galaxies."""
    parts = [scores.double().softmax(dim=1).cpu().numpy() for _, scores, _ in _logits(network, examples)]
    return pdfs.regressed_values(np.concatenate(parts), examples.z)


@torch.no_grad()
def _logits(network: nn.Module, examples: Examples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Galaxies, logits and labels, batch by batch, of a network as it predicts."""
    training = network.training
    network.eval()
    for part in torch.arange(len(examples), device=examples.device).split(BATCH):
        cubes, ebv, labels = examples.batch(part)
        yield part, logits(network, cubes, ebv, torch.float32), labels
    network.train(training)
