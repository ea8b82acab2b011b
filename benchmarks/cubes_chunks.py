"""The fraction of frames that overlap galaxies of several chunks, and are decompressed several times."""

import numpy as np
from astropy import units
from astropy_healpix import HEALPix
from footprint import GALAXIES, make_fields, make_galaxies

from sdss_photoz.frames.footprint import overlapping_frames
from sdss_photoz.sample.chunks import shard_length
from sdss_photoz.surveys import SDSS


def shared_frames(chunks: int) -> dict[str, float]:
    """Count frames needed by several chunks in the synthetic survey of ``footprint.py``.

    Returns
    -------
    dict
        chunks, galaxies, frames; fraction: frames needed by two chunks or more, of those that any galaxy needs;
        decompressions: mean number per frame; galaxies_per_frame: mean number per frame and chunk.
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
    band = found["band"].map(SDSS.band_names.index).to_numpy(np.int64)
    pairs = np.unique((frame * len(SDSS.band_names) + band) * chunks + chunk[found["galaxy"].to_numpy()])
    decompressions = np.unique(pairs // chunks, return_counts=True)[1]
    return {
        "chunks": chunks,
        "galaxies": GALAXIES,
        "frames": len(decompressions),
        "fraction": float(np.mean(decompressions > 1)),
        "decompressions": float(decompressions.mean()),
        "galaxies_per_frame": len(found) / len(pairs),
    }
