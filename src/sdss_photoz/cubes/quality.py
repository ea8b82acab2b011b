"""The quality table of a chunk, and the check that its galaxies are those of its shard.

A corrected frame does not mark saturated pixels: the survey interpolated over them before the frame was written, and
the interpolated values can be far below the full well. A pixel therefore counts as saturated from `SATURATED` counts
on, a level low enough for most saturated stars. It was measured on the 18 real frames of
fields 1035-6-17, 2820-3-122, 3565-1-58, 3565-1-59, 3900-6-269 and 4510-4-30. The true peak of a star follows from its
wings, 6 to 10 pixels from the centre, by the profiles of stars of the same frame with peaks of 1,000 to 9,000 counts.
Peaks are intact up to some 30,000 (i) to 58,000 counts (g, r). 52 stars with true peaks above 28,000 counts have lost
their cores: their largest pixels have 2,800 to 54,000 counts, 9,400 in the median; 47 reach 5,000 counts, 13 reach
20,000. Unsaturated stars of such a brightness count too: the number is a warning, not a mask.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from sdss_photoz import __version__
from sdss_photoz.cubes import VERSION
from sdss_photoz.cubes.store import chunk_rows, grid_of
from sdss_photoz.errors import UserError
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.sdss import Frame

SATURATED = 5000.0  # counts: nanomaggies over the frame's NMGY
_NO_VALUE = -9000.0  # the archive writes -9999 for missing values


class Provenance(NamedTuple):
    """The frames, coverage and defects of cubes: arrays (galaxy, band).

    Attributes
    ----------
    frames : ndarray
        int64: number of frames that contribute a pixel.
    coverage : ndarray
        float64: fraction of the pixels that a frame covers.
    saturated : ndarray
        float64: number of pixels saturated in any of the used frames. NaN if there is no frame, or one without NMGY.
    missing : ndarray
        float64: number of pixels inside a frame that it does not cover because a tap is not finite; the largest of all
        frames. NaN: unknown.
    used : ndarray
        object: tuple of the used frames, in the order of run, camcol and field. None: unknown.
    off : dict
        Error (pixels) of each wrong header, NaN for unchecked ones: see
        :func:`sdss_photoz.cubes.frame_astrometry.locate`. Frames with a sound header are absent.
    """

    frames: np.ndarray
    coverage: np.ndarray
    saturated: np.ndarray
    missing: np.ndarray
    used: np.ndarray
    off: dict[Frame, float]

    @classmethod
    def of_nothing(cls, galaxies: int, bands: int) -> "Provenance":
        """Return the provenance of galaxies that no frame covers."""
        shape = galaxies, bands
        used = np.empty(shape, object)
        used.fill(())
        return cls(np.zeros(shape, np.int64), np.zeros(shape), np.full(shape, np.nan), np.zeros(shape), used, {})

    @classmethod
    def unknown(cls, coverage: np.ndarray) -> "Provenance":
        """Return the provenance of cubes of unknown frames, counted as one in each covered band."""
        shape = coverage.shape
        nan, none = np.full(shape, np.nan), np.full(shape, None, object)
        return cls((coverage > 0).astype(np.int64), coverage, nan, nan, none, {})


def check_rows(galaxies: pd.DataFrame, group, store, chunk: int) -> None:
    """Check that galaxies are those of a chunk, in its order.

    Parameters
    ----------
    galaxies : DataFrame
        With a column row.
    group : zarr.Group
        The open store.
    store : str or Path
        Its folder.
    chunk : int
        Number of the chunk.

    Raises
    ------
    UserError
        If they are not.
    """
    rows = chunk_rows(group, chunk)
    if galaxies["row"].tolist() != list(range(rows.start, rows.stop)):
        raise UserError(
            f"chunk {chunk} of {store} holds rows {rows.start} to {rows.stop - 1}, but the table of galaxies gives "
            f"{len(galaxies)} other ones: rerun the stage sample."
        )


def quality_table(
    galaxies: pd.DataFrame,
    group,
    made: Provenance,
    shards: dict[str, str],
    *,
    frames_digest: str | None = None,
    fields: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Build the quality table of a chunk.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, row.
    group : zarr.Group
        The open store.
    made : Provenance
        Provenance of the cubes.
    shards : dict
        "flux" and "depth": SHA-256 of the chunk's shards, as `write_shard` returns them.
    frames_digest : str, optional
        Digest of the paths, SHA-256 and states of all frames that the chunk needs.
    fields : DataFrame, optional
        run, camcol, field, psfWidth_{b} (arcsec), sky_{b} (nanomaggies per square arcsec).

    Returns
    -------
    DataFrame
        One row for each galaxy. Equal in all rows: selection (digest), version (of the stage), code (version of the
        package), frames_digest, flux_sha256, depth_sha256 (of the shards). For each galaxy: object_id, row, and by band
        frames_{b}, coverage_{b}, saturated_{b}, missing_{b} as in :class:`Provenance`, used_{b} (frames as
        "run-camcol-field", separated by blanks), by_terms_{b} (used frames whose header is wrong, placed by their
        great-circle terms), unchecked_{b} (used frames without terms to check their header), and the frames' median
        seeing_{b} (arcsec, FWHM) and sky_{b} (nanomaggies per square arcsec). Unknown values are missing.
    """
    quality = pd.DataFrame({"object_id": galaxies["object_id"].to_numpy(), "row": galaxies["row"].to_numpy()})
    quality["selection"], quality["version"], quality["code"] = group.attrs["selection"], VERSION, __version__
    quality["frames_digest"] = pd.Series([frames_digest] * len(quality), dtype="str")
    quality["flux_sha256"], quality["depth_sha256"] = shards["flux"], shards["depth"]
    for index, band in enumerate(grid_of(group).bands):
        used = made.used[:, index]
        quality[f"frames_{band}"] = made.frames[:, index]
        quality[f"coverage_{band}"] = made.coverage[:, index]
        quality[f"seeing_{band}"] = _median(used, fields, f"psfWidth_{band}")
        quality[f"sky_{band}"] = _median(used, fields, f"sky_{band}")
        quality[f"saturated_{band}"] = made.saturated[:, index]
        quality[f"missing_{band}"] = made.missing[:, index]
        quality[f"used_{band}"] = _names(used)
        quality[f"by_terms_{band}"] = _names(used, {frame for frame, off in made.off.items() if off > 0})
        quality[f"unchecked_{band}"] = _names(used, {frame for frame, off in made.off.items() if np.isnan(off)})
    return quality


def bands_of(tables: Sequence[Path]) -> list[str]:
    """Return the bands of the cubes whose quality tables these are, in the survey's order."""
    columns = pq.read_schema(tables[0]).names
    return [band for band in SDSS.band_names if f"coverage_{band}" in columns]


def _names(used, of: set[Frame] | None = None) -> pd.Series:
    """Return the names of each galaxy's frames, restricted to a set if one is given."""
    named = [None if frames is None else " ".join(_name(f) for f in frames if of is None or f in of) for frames in used]
    return pd.Series(named, dtype="str")


def _name(frame: Frame) -> str:
    return f"{frame.run}-{frame.camcol}-{frame.field}"


def _median(used, fields: pd.DataFrame | None, column: str) -> np.ndarray:
    """Return the median of a column of `fields` over the frames of each galaxy; NaN if no frame has a value."""
    known = {}
    if fields is not None and column in fields:
        values = fields[column].to_numpy(float)
        keys = fields[["run", "camcol", "field"]].itertuples(index=False, name=None)
        known = {key: value for key, value in zip(keys, values, strict=True) if value > _NO_VALUE}  # false for NaN
    found = ([known[frame[:3]] for frame in frames or () if frame[:3] in known] for frames in used)
    return np.array([np.median(values) if values else np.nan for values in found], float)
