"""Distributions and point estimates of galaxies from trained networks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor, nn

from sdss_photoz.inputs.symmetry import SYMMETRIES, transform
from sdss_photoz.networks.parts import dropout
from sdss_photoz.progress import progress
from sdss_photoz.scores import pdfs
from sdss_photoz.training.data.negative_controls import load_cubes_for
from sdss_photoz.training.model import Predictor
from sdss_photoz.training.resources import PIECE, PREDICTION_BATCH
from sdss_photoz.training.step import outputs_of


class Predictions(NamedTuple):
    """Predictions by several networks.

    Attributes
    ----------
    pdf : ndarray
        (network, n, bins) float32; rows sum to 1.
    point : ndarray or None
        (network, n) float64, point estimates in the label's unit, of heads that have one of their own.
    """

    pdf: np.ndarray
    point: np.ndarray | None


def predict_cubes(
    predictors: Sequence[Predictor],
    cubes: np.ndarray,
    numbers: Sequence[np.ndarray],
    device: torch.device,
    symmetries: bool = False,
) -> np.ndarray:
    """Distributions, (network, n, bins) float32, of `predictions`."""
    return predictions(predictors, cubes, numbers, device, symmetries).pdf


@torch.no_grad()
def predictions(
    predictors: Sequence[Predictor],
    cubes: np.ndarray,
    numbers: Sequence[np.ndarray],
    device: torch.device,
    symmetries: bool = False,
) -> Predictions:
    """Predictions by networks that read the same images.

    Parameters
    ----------
    predictors : sequence of Predictor
        The networks, on `device`.
    cubes : ndarray
        (n, y, x, band) float32, nanomaggies.
    numbers : sequence of ndarray
        (n, k) float32 for each network, which scales them as in its training (`Inputs.rows`).
    device : torch.device
        Where to compute.
    symmetries : bool
        Whether to average probabilities and point estimates over the eight symmetries of the cubes.
    """
    inputs, head = predictors[0].inputs, predictors[0].head
    found = np.empty((len(predictors), len(cubes), head.label.grid.bins), np.float32)
    points = np.empty(found.shape[:2]) if head.has_point else None
    count, noise = SYMMETRIES if symmetries else 1, torch.tensor(inputs.noise, device=device)
    for start in range(0, len(cubes), PREDICTION_BATCH):
        part = slice(start, start + PREDICTION_BATCH)
        images = inputs.images(inputs.cut(torch.from_numpy(cubes[part]).to(device)), noise)
        turned = [transform(images, symmetry) for symmetry in range(count)]
        for index, (network, _, head, *_) in enumerate(predictors):
            beside = torch.from_numpy(numbers[index][part]).to(device)
            each = [outputs for image in turned for outputs in _passes(network, image, beside, head.passes)]
            found[index, part] = (sum(map(head.distribution, each)) / len(each)).cpu().numpy()
            if points is not None:
                points[index, part] = (sum(map(head.point, each)) / len(each)).cpu().numpy()
    return Predictions(found, points)


def _passes(network: nn.Module, images: Tensor, numbers: Tensor, count: int) -> Iterator[Tensor]:
    """Outputs of a network; of `count` passes with dropout active, keyed by their numbers, if it is above 1."""
    if count == 1:
        yield outputs_of(network, images, numbers, torch.float32)
        return
    for number in range(count):
        with dropout.active(network, number):
            yield outputs_of(network, images, numbers, torch.float32)


def predict_fold(
    galaxies: pd.DataFrame,
    store: str | Path,
    predictors: dict[int, Predictor],
    device: torch.device,
    digest: str | None = None,
    without_target: bool = False,
    symmetries: bool = False,
) -> pa.Table:
    """Distributions of galaxies by each member of an ensemble.

    Parameters
    ----------
    galaxies : DataFrame
        With columns object_id, row and the inputs' numbers.
    store : str or Path
        The Zarr store of cubes.
    predictors : dict of int to Predictor
        The network of each member, on `device`.
    device : torch.device
        Where to compute.
    digest : str, optional
        Digest of the selection of galaxies that the store must have.
    without_target : bool
        Whether to remove the central galaxies from their cubes (`negative_controls.without_targets`).
    symmetries : bool
        Whether to average over the eight symmetries (`predictions`).

    Returns
    -------
    pyarrow.Table
        Columns object_id (int64), member (int64) and pdf (bins float32, the probability of each bin); point (float64,
        the point estimate in the label's unit) if the head has one of its own; and z_regressed (float64) if the
        networks have a regressed point estimate; a row per member and galaxy, member by member, in the
        order of `galaxies`.

    Raises
    ------
    UserError
        If the store belongs to another selection.
    """
    head = next(iter(predictors.values())).head
    grid, estimates = head.label.grid, np.empty((len(predictors), len(galaxies)))
    found = np.empty((len(predictors), len(galaxies), grid.bins), dtype=np.float32)
    numbers = [predictor.inputs.rows(galaxies) for predictor in predictors.values()]
    next(iter(predictors.values())).inputs.warn_of_missing(galaxies)
    rows = galaxies["row"].to_numpy()
    with progress(total=len(galaxies), unit="galaxy", label="predicting") as bar:
        for start in range(0, len(galaxies), PIECE):
            part = slice(start, start + PIECE)
            cubes = load_cubes_for(store, rows[part], digest, without_target)
            beside = [values[part] for values in numbers]
            some = predictions(list(predictors.values()), cubes, beside, device, symmetries)
            found[:, part] = some.pdf
            if some.point is not None:
                estimates[:, part] = some.point
            bar.update(len(cubes))
    columns = {
        "object_id": np.tile(galaxies["object_id"].to_numpy(np.int64), len(predictors)),
        "member": np.repeat(np.array(list(predictors), dtype=np.int64), len(galaxies)),
        "pdf": pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), grid.bins),
    }
    if head.has_point:
        columns["point"] = estimates.reshape(-1)
    points = [predictor.point for predictor in predictors.values()]
    if all(points):
        each = [pdfs.point_estimate(pdf, point) for pdf, point in zip(found, points, strict=True)]
        columns["z_regressed"] = np.concatenate(each)
    return pa.table(columns)
