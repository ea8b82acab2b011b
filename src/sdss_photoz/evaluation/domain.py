"""What a trial's networks were trained on, and which galaxies lie outside of it.

Fluxes are measured on the cubes, in the same way for training galaxies and for any others, so that a table of bare
positions needs no photometry. Ratios of fluxes take the place of colours: they need no logarithm of a flux near zero.
"""

import numpy as np
import pandas as pd

from sdss_photoz.cubes.store import load_cubes, load_depth
from sdss_photoz.progress import progress
from sdss_photoz.survey import BANDS, CUBE_SIZE, EXTINCTION_PER_EBV, PIXEL_SCALE

PERCENTILES = (0.1, 99.9)  # of the training galaxies: the domain's limits in each quantity
APERTURE = 3.0  # arcsec, radius
ENOUGH = 20_000  # training galaxies whose cubes are measured: 20 lie beyond each limit
PIECE = 1024  # galaxies whose cubes are held at once: 84 MB

PETROSIAN = "dered_petro_r"
FLAGS = {  # name of a flag: the quantities of which one outside its limits sets it
    "outside_r": ["flux_r"],
    "outside_colour": [f"{band}_over_r" for band in BANDS if band != "r"],
    "outside_ebv": ["ebv"],
    "outside_depth": [f"depth_{band}" for band in BANDS],
}


def from_centre() -> np.ndarray:
    """Distance of each pixel of a cube from the centre of its grid, (y, x), arcsec."""
    offset = (np.arange(CUBE_SIZE) - (CUBE_SIZE - 1) / 2) * PIXEL_SCALE
    return np.hypot(offset[:, None], offset)


def measure(cubes: np.ndarray, ebv: np.ndarray, depth: np.ndarray) -> pd.DataFrame:
    """The quantities that span the domain.

    Parameters
    ----------
    cubes : ndarray
        (galaxy, y, x, band), nanomaggies, zero where no frame covers the pixel.
    ebv : ndarray
        (galaxy,) E(B-V), mag.
    depth : ndarray
        (galaxy, band) number of frames.

    Returns
    -------
    DataFrame
        A row for each galaxy, float64: ``flux_r``, the dereddened flux within 3 arcsec of the centre (nanomaggies);
        ``{b}_over_r``, that of the other bands divided by it, NaN where it is not positive; ``ebv``; ``depth_{b}``.
    """
    flux = cubes[:, from_centre() <= APERTURE].sum(axis=1, dtype=np.float64)
    flux *= 10 ** (0.4 * np.asarray(ebv, np.float64)[:, None] * [EXTINCTION_PER_EBV[band] for band in BANDS])
    red = flux[:, BANDS.index("r")]
    ratios = flux / np.where(red > 0, red, np.nan)[:, None]
    table = {"flux_r": red} | {f"{b}_over_r": ratios[:, k] for k, b in enumerate(BANDS) if b != "r"}
    return pd.DataFrame(table | _conditions(ebv, depth))


def _conditions(ebv, depth) -> dict[str, np.ndarray]:
    depth = np.asarray(depth, np.float64)
    return {"ebv": np.asarray(ebv, np.float64)} | {f"depth_{b}": depth[:, k] for k, b in enumerate(BANDS)}


def training_galaxies(galaxies: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """Galaxies of ``sample/galaxies.parquet`` that train or validate a network of a trial in some fold, by row."""
    roles = folds.filter(regex=r"^role_\d+$").isin(["train", "validation"])
    chosen = folds.loc[roles.any(axis=1), "object_id"]
    return galaxies[galaxies["object_id"].isin(chosen)].sort_values("row", ignore_index=True)


def training_limits(trained: pd.DataFrame, store, digest: str | None = None) -> pd.DataFrame:
    """Limits of the training domain: percentiles 0.1 and 99.9 of each quantity over the training galaxies.

    Those with a frame in every band count, as in training. Of many galaxies some 20,000 are measured on their cubes:
    whole chunks of the store, evenly spaced in its order, which follows the sky.

    Parameters
    ----------
    trained : DataFrame
        Of `training_galaxies`: row, ebv and, where there is one, dered_petro_r.
    store : str or Path
        The run's cubes.
    digest : str, optional
        Digest of the selection that the rows belong to; a store of another one is refused.

    Returns
    -------
    DataFrame
        Rows ``low`` and ``high``; the columns of `measure`, and dered_petro_r where `trained` has it.
    """
    depth = load_depth(store)[trained["row"]]
    covered = (depth > 0).all(axis=1)
    trained, depth = trained[covered], depth[covered]
    blocks = trained["row"].to_numpy() // 128
    some = np.flatnonzero(np.isin(blocks, np.unique(blocks)[:: -(-len(trained) // ENOUGH)]))
    measured = []
    with progress(total=len(some), unit="galaxy", label="training domain") as bar:
        for start in range(0, len(some), PIECE):
            piece = some[start : start + PIECE]
            cubes = load_cubes(store, trained["row"].to_numpy()[piece], digest)
            measured.append(measure(cubes, trained["ebv"].to_numpy()[piece], depth[piece]))
            bar.update(len(piece))
    values = pd.concat(measured)[[*FLAGS["outside_r"], *FLAGS["outside_colour"]]]
    others = pd.DataFrame(_conditions(trained["ebv"], depth))
    if PETROSIAN in trained:
        others[PETROSIAN] = trained[PETROSIAN].to_numpy()
    low_high = np.array(PERCENTILES) / 100
    limits = pd.concat([values.quantile(low_high), others.quantile(low_high)], axis=1)
    return limits.set_axis(["low", "high"])


def outside(measured: pd.DataFrame, limits: pd.DataFrame, petrosian=None) -> pd.DataFrame:
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
    flags = pd.DataFrame({flag: beyond[quantities].any(axis=1) for flag, quantities in FLAGS.items()})
    if petrosian is not None and PETROSIAN in limits:
        r = pd.Series(np.asarray(petrosian, np.float64), index=flags.index)
        beyond_r = ~r.between(limits[PETROSIAN]["low"], limits[PETROSIAN]["high"])
        flags["outside_r"] = np.where(r.notna(), beyond_r, flags["outside_r"])
    return flags
