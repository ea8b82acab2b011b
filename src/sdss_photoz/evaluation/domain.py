"""The training domain of a trial's networks, and flags of galaxies outside of it.

Fluxes are measured on the cubes, in the same way for training galaxies and for any others, so that a table of bare
positions needs no photometry. Ratios of fluxes stand in for colours, which are undefined for a flux of zero or below.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sdss_photoz.cubes.load import load_cubes, load_depth
from sdss_photoz.cubes.store import grid_of, open_store
from sdss_photoz.progress import progress
from sdss_photoz.sample.chunks import INNER_CHUNK
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid

PERCENTILES = (0.1, 99.9)  # of the training galaxies: the domain's limits in each quantity
APERTURE = 3.0  # arcsec, radius
MEASURED = 20_000  # training galaxies whose cubes are measured: 20 lie beyond each limit
BATCH = 1024  # galaxies whose cubes are in memory at once: 84 MB

PETROSIAN = "dered_petro_r"
FLAGS = {  # name of a flag: pattern of the quantities of which one outside its limits sets it
    "outside_r": "^flux_",
    "outside_colour": "_over_",
    "outside_ebv": "^ebv$",
    "outside_depth": "^depth_",
}


def measure(cubes: np.ndarray, ebv: np.ndarray, depth: np.ndarray, grid: PixelGrid = CUBE) -> pd.DataFrame:
    """Measure the quantities whose ranges are the training domain.

    Parameters
    ----------
    cubes : ndarray
        (galaxy, y, x, band), nanomaggies, zero where no frame covers the pixel.
    ebv : ndarray
        (galaxy,) E(B-V), mag.
    depth : ndarray
        (galaxy, band) number of frames.
    grid : PixelGrid
        Pixels and bands of the cubes.

    Returns
    -------
    DataFrame
        A row for each galaxy, float64: ``flux_r``, the dereddened flux within 3 arcsec of the centre (nanomaggies);
        ``{b}_over_r``, that of the other bands divided by it, NaN where it is not positive; ``ebv``; ``depth_{b}``.
        Without r, its middle band stands for it (`PixelGrid.main_band`), also in the names.
    """
    main = grid.main_band
    flux = cubes[:, grid.from_centre() <= APERTURE].sum(axis=1, dtype=np.float64)
    flux *= 10 ** (0.4 * np.asarray(ebv, np.float64)[:, None] * [SDSS.extinction[band] for band in grid.bands])
    red = flux[:, grid.index(main)]
    ratios = flux / np.where(red > 0, red, np.nan)[:, None]
    others = {f"{band}_over_{main}": ratios[:, k] for k, band in enumerate(grid.bands) if band != main}
    return pd.DataFrame({f"flux_{main}": red} | others | _conditions(ebv, depth, grid))


def _conditions(ebv, depth, grid: PixelGrid) -> dict[str, np.ndarray]:
    depth = np.asarray(depth, np.float64)
    return {"ebv": np.asarray(ebv, np.float64)} | {f"depth_{b}": depth[:, k] for k, b in enumerate(grid.bands)}


def training_galaxies(galaxies: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Galaxies of ``sample/galaxies.parquet`` that train or validate a network of a trial in some fold, by row."""
    roles = folds.filter(regex=r"^role_\d+$").isin(["train", "validation"])
    chosen = folds.loc[roles.any(axis=1), "object_id"]
    return galaxies[galaxies["object_id"].isin(chosen)].sort_values("row", ignore_index=True)


def training_limits(trained: pd.DataFrame, store: str | Path, digest: str | None = None) -> pd.DataFrame:
    """Limits of the training domain: percentiles 0.1 and 99.9 of each quantity over the training galaxies.

    Galaxies without a frame in some band are left out, as in training. Of many galaxies some 20,000 are measured on
    their cubes: whole chunks of the store, evenly spaced in its order, which follows the sky.

    Parameters
    ----------
    trained : DataFrame
        Of `training_galaxies`: row, ebv and, where there is one, dered_petro_r.
    store : str or Path
        The run's cubes.
    digest : str, optional
        Digest of the selection that the rows belong to; a store of another selection raises UserError.

    Returns
    -------
    DataFrame
        Rows ``low`` and ``high``; the columns of `measure`, and dered_petro_r where `trained` has it.
    """
    grid = grid_of(open_store(store))
    depth = load_depth(store)[trained["row"]]
    covered = (depth > 0).all(axis=1)
    trained, depth = trained[covered], depth[covered]
    blocks = trained["row"].to_numpy() // INNER_CHUNK
    chosen = np.flatnonzero(np.isin(blocks, np.unique(blocks)[:: -(-len(trained) // MEASURED)]))
    measured = []
    with progress(total=len(chosen), unit="galaxy", label="training domain") as bar:
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            cubes = load_cubes(store, trained["row"].to_numpy()[batch], digest)
            measured.append(measure(cubes, trained["ebv"].to_numpy()[batch], depth[batch], grid))
            bar.update(len(batch))
    values = pd.concat(measured).filter(regex=f"{FLAGS['outside_r']}|{FLAGS['outside_colour']}")
    others = pd.DataFrame(_conditions(trained["ebv"], depth, grid))
    if PETROSIAN in trained:
        others[PETROSIAN] = trained[PETROSIAN].to_numpy()
    low_high = np.array(PERCENTILES) / 100
    limits = pd.concat([values.quantile(low_high), others.quantile(low_high)], axis=1)
    return limits.set_axis(["low", "high"])


def outside(measured: pd.DataFrame, limits: pd.DataFrame, petrosian: ArrayLike | None = None) -> pd.DataFrame:
    """Flags of galaxies outside the training domain.

    Parameters
    ----------
    measured : DataFrame
        Of `measure`.
    limits : DataFrame
        Of `training_limits`.
    petrosian : array_like (galaxy,), optional
        dered_petro_r (mag): where it and its limits are known it decides ``outside_r`` instead of the flux.

    Returns
    -------
    DataFrame
        A row for each galaxy: ``outside_r``, ``outside_colour``, ``outside_ebv``, ``outside_depth``; also True where
        the quantity could not be measured.
    """
    beyond = ~measured.apply(lambda values: values.between(limits[values.name]["low"], limits[values.name]["high"]))
    flags = pd.DataFrame({flag: beyond.filter(regex=pattern).any(axis=1) for flag, pattern in FLAGS.items()})
    if petrosian is not None and PETROSIAN in limits:
        r = pd.Series(np.asarray(petrosian, np.float64), index=flags.index)
        beyond_r = ~r.between(limits[PETROSIAN]["low"], limits[PETROSIAN]["high"])
        flags["outside_r"] = np.where(r.notna(), beyond_r, flags["outside_r"])
    return flags
