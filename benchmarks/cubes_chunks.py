"""How many frames of a survey are needed by more than one chunk, and so decompressed more than once."""

import numpy as np
from astropy import units
from astropy_healpix import HEALPix
from footprint import GALAXIES, make_fields, make_galaxies

from sdss_photoz.sample.footprint import overlapping_frames
from sdss_photoz.sample.selection import shard_length
from sdss_photoz.survey import BANDS


def shared_frames(chunks: int) -> dict[str, float]:
    """Count them in the synthetic survey of ``footprint.py``, its galaxies in the order of `select`.

    Returns
    -------
    dict
        chunks, galaxies, frames; share: of the frames that any galaxy needs, those that two chunks or more need;
        times: how often a frame is decompressed on average; galaxies_a_frame: of a frame in a chunk.
    """
    rng = np.random.default_rng(1)
    fields = make_fields(rng)
    galaxies = make_galaxies(fields, rng)
    cells = HEALPix(nside=2**16, order="nested")
    cell = cells.lonlat_to_healpix(*(galaxies[name].to_numpy() * units.deg for name in ("ra", "dec")))
    galaxies = galaxies.iloc[np.argsort(cell)]
    chunk = np.arange(GALAXIES) // shard_length(GALAXIES, chunks)
    found = overlapping_frames(galaxies["ra"].to_numpy(), galaxies["dec"].to_numpy(), fields)
    frame = found["run"].to_numpy(np.int64)
    for name, width in (("camcol", 8), ("field", 1 << 13)):
        frame = frame * width + found[name].to_numpy(np.int64)
    band = found["band"].map(BANDS.index).to_numpy(np.int64)
    pairs = np.unique((frame * len(BANDS) + band) * chunks + chunk[found["galaxy"].to_numpy()])
    times = np.unique(pairs // chunks, return_counts=True)[1]
    return {
        "chunks": chunks,
        "galaxies": GALAXIES,
        "frames": len(times),
        "share": float(np.mean(times > 1)),
        "times": float(times.mean()),
        "galaxies_a_frame": len(found) / len(pairs),
    }
