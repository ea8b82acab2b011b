"""Redshift distributions of galaxies from trained networks."""

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import nn

from sdss_photoz.evaluation import pdfs
from sdss_photoz.progress import progress
from sdss_photoz.training.controls import load_cubes_for
from sdss_photoz.training.order import SYMMETRIES, turned
from sdss_photoz.training.step import logits
from sdss_photoz.training.stretch import stretch

PIECE = 1024  # galaxies whose cubes are held at once: 84 MB
BATCH = 128


@torch.no_grad()
def predict_cubes(
    network: nn.Module, cubes: np.ndarray, ebv: np.ndarray, kind: str, device: torch.device, symmetries: bool = False
) -> np.ndarray:
    """Distributions (n, bins) float32, each summing to 1, of cubes (n, 64, 64, 5) in nanomaggies and E(B-V) (n,).

    With `symmetries` they are means of the probabilities over the eight flips and quarter turns of the cubes.
    """
    parts, count = [], SYMMETRIES if symmetries else 1
    for start in range(0, len(cubes), BATCH):
        flux = torch.from_numpy(cubes[start : start + BATCH]).to(device)
        reddening = torch.from_numpy(ebv[start : start + BATCH]).to(device)
        flux = stretch(flux, kind)
        each = (logits(network, turned(flux, symmetry), reddening, torch.float32) for symmetry in range(count))
        parts.append((sum(scores.softmax(dim=1) for scores in each) / count).cpu().numpy())
    return np.concatenate(parts)


def predict_fold(
    galaxies: pd.DataFrame,
    store,
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
        Number and network of each member.
    kind : str
        Stretch of the flux.
    bins : int
        Redshift bins.
    device : torch.device
        Where to compute.
    digest : str, optional
        Digest of the selection that the galaxies belong to; a store of another one is refused.
    without_target : bool
        Whether to take the galaxies themselves out of their cubes (`controls.without_targets`).
    symmetries : bool
        Whether to average over the eight symmetries (`predict_cubes`).

    Returns
    -------
    pyarrow.Table
        Columns object_id (int64), member (int64) and pdf (bins float32, the probability of each bin); a row per member
        and galaxy, member by member, in the order of `galaxies`. Where the networks learned a regressed point estimate,
        also z_regressed (float64).
    """
    found = np.empty((len(networks), len(galaxies), bins), dtype=np.float32)
    ebv = galaxies["ebv"].to_numpy(np.float32, copy=True)  # pandas gives it read-only
    rows = galaxies["row"].to_numpy()
    with progress(total=len(galaxies), unit="galaxy", label="predicting") as bar:
        for start in range(0, len(galaxies), PIECE):
            part = slice(start, start + PIECE)
            cubes = load_cubes_for(store, rows[part], digest, without_target)
            for place, (_, network) in enumerate(networks):
                found[place, part] = predict_cubes(network, cubes, ebv[part], kind, device, symmetries)
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
