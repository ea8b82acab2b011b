"""Redshift distributions of galaxies from trained networks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import nn

from sdss_photoz.cubes.store import grid_of, open_store
from sdss_photoz.inputs.stretch import stretch, typical_noise
from sdss_photoz.inputs.symmetry import SYMMETRIES, transform
from sdss_photoz.progress import progress
from sdss_photoz.scores import pdfs
from sdss_photoz.surveys import CUBE, PixelGrid
from sdss_photoz.training.data.negative_controls import load_cubes_for
from sdss_photoz.training.resources import PIECE, PREDICTION_BATCH
from sdss_photoz.training.step import logits


@torch.no_grad()
def predict_cubes(
    network: nn.Module,
    cubes: np.ndarray,
    ebv: np.ndarray,
    kind: str,
    device: torch.device,
    symmetries: bool = False,
    grid: PixelGrid = CUBE,
) -> np.ndarray:
    """Redshift distributions by a network.

    Parameters
    ----------
    network : nn.Module
        The network, in evaluation mode, on `device`.
    cubes : ndarray
        (n, y, x, band) float32, nanomaggies.
    ebv : ndarray
        (n,) float32, E(B-V) (mag).
    kind : str
        Stretch of the flux.
    device : torch.device
        Where to compute.
    symmetries : bool
        Whether to average the probabilities over the eight symmetries of the cubes.
    grid : PixelGrid
        Pixels and bands of the cubes.

    Returns
    -------
    ndarray
        (n, bins) float32; rows sum to 1.
    """
    parts, count, noise = [], SYMMETRIES if symmetries else 1, typical_noise(grid, device)
    for start in range(0, len(cubes), PREDICTION_BATCH):
        flux = torch.from_numpy(cubes[start : start + PREDICTION_BATCH]).to(device)
        reddening = torch.from_numpy(ebv[start : start + PREDICTION_BATCH]).to(device)
        flux = stretch(flux, kind, noise)
        each = (logits(network, transform(flux, symmetry), reddening, torch.float32) for symmetry in range(count))
        parts.append((sum(scores.softmax(dim=1) for scores in each) / count).cpu().numpy())
    return np.concatenate(parts)


def predict_fold(
    galaxies: pd.DataFrame,
    store: str | Path,
    networks: list[tuple[int, nn.Module]],
    kind: str,
    bins: int,
    device: torch.device,
    digest: str | None = None,
    without_target: bool = False,
    symmetries: bool = False,
) -> pa.Table:
    """Distributions of galaxies by each member of an ensemble.

    Parameters
    ----------
    galaxies : DataFrame
        With columns object_id, row and ebv.
    store : str or Path
        The Zarr store of cubes.
    networks : list of (int, nn.Module)
        Index of each member and its network.
    kind : str
        Stretch of the flux.
    bins : int
        Redshift bins.
    device : torch.device
        Where to compute.
    digest : str, optional
        Digest of the selection of galaxies that the store must have.
    without_target : bool
        Whether to remove the central galaxies from their cubes (`negative_controls.without_targets`).
    symmetries : bool
        Whether to average over the eight symmetries (`predict_cubes`).

    Returns
    -------
    pyarrow.Table
        Columns object_id (int64), member (int64) and pdf (bins float32, the probability of each bin), and z_regressed
        (float64) if the networks have a regressed point estimate; a row per member and galaxy, member by member, in the
        order of `galaxies`.

    Raises
    ------
    UserError
        If the store belongs to another selection.
    """
    found = np.empty((len(networks), len(galaxies), bins), dtype=np.float32)
    ebv = galaxies["ebv"].to_numpy(np.float32, copy=True)  # pandas gives it read-only
    rows, grid = galaxies["row"].to_numpy(), grid_of(open_store(store))
    with progress(total=len(galaxies), unit="galaxy", label="predicting") as bar:
        for start in range(0, len(galaxies), PIECE):
            part = slice(start, start + PIECE)
            cubes = load_cubes_for(store, rows[part], digest, without_target)
            for index, (_, network) in enumerate(networks):
                found[index, part] = predict_cubes(network, cubes, ebv[part], kind, device, symmetries, grid)
            bar.update(len(cubes))
    members = np.repeat(np.array([member for member, _ in networks], dtype=np.int64), len(galaxies))
    values = pa.array(found.reshape(-1))
    columns = {
        "object_id": np.tile(galaxies["object_id"].to_numpy(np.int64), len(networks)),
        "member": members,
        "pdf": pa.FixedSizeListArray.from_arrays(values, bins),
    }
    points = [getattr(network, "point", None) for _, network in networks]
    if all(points):
        each = [pdfs.point_estimate(pdf, point) for pdf, point in zip(found, points, strict=True)]
        columns["z_regressed"] = np.concatenate(each)
    return pa.table(columns)
