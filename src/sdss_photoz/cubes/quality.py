"""The table of a chunk's quality: what each cube was made of; and the check that its galaxies are those of its shard.

A corrected frame does not say which of its pixels were saturated: the survey interpolated over them before the frame
was written, and what stands there can be far below the full well. So a pixel counts as saturated from `SATURATED`
counts on, a level that is low enough for what is left of saturated stars. It was measured on the 18 real frames of
fields 1035-6-17, 2820-3-122, 3565-1-58, 3565-1-59, 3900-6-269 and 4510-4-30: the wings of a star, 6 to 10 pixels out,
tell which peak it should have, by the stars of the same frame with peaks of 1,000 to 9,000 counts. Stars keep theirs
up to some 30,000 (i) to 58,000 counts (g, r). 52 stars that should have more than 28,000 counts have lost their
cores, and hold at most 2,800 to 54,000 counts, 9,400 in the median; 47 of them reach 5,000 counts, 13 reach 20,000.
Stars of such a brightness that are not saturated count too: the number is a warning, not a mask.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from sdss_photoz import __version__
from sdss_photoz.cubes import VERSION
from sdss_photoz.cubes.store import chunk_rows
from sdss_photoz.errors import UserError
from sdss_photoz.survey import BANDS, Frame

SATURATED = 5000.0  # counts: nanomaggies over the frame's NMGY
_NO_VALUE = -9000.0  # the archive writes -9999


class Provenance(NamedTuple):
    """What the cubes of some galaxies are made of: arrays (galaxy, band).

    Attributes
    ----------
    frames : ndarray
        int64: frames that are used, those that give any pixel.
    coverage : ndarray
        float64: fraction of the pixels that a frame covers.
    saturated : ndarray
        float64: pixels that are saturated in any of the used frames. NaN where there is none, or one of them does not
        tell its counts.
    missing : ndarray
        float64: pixels that a frame should cover and does not, for a value under the kernel is not finite, in the one
        of its frames that has most of them. NaN: unknown.
    used : ndarray
        object: the used frames, a tuple of Frame in the order of run, camcol and field. None: unknown.
    off : dict
        Of frames whose header is wrong, by how many pixels, or NaN where there was nothing to compare it with: see
        :func:`sdss_photoz.cubes.great_circle.locate`. Others are not in it.
    """

    frames: np.ndarray
    coverage: np.ndarray
    saturated: np.ndarray
    missing: np.ndarray
    used: np.ndarray
    off: dict[Frame, float]

    @classmethod
    def of_nothing(cls, galaxies: int) -> "Provenance":
        """Galaxies that no frame covers."""
        shape = galaxies, len(BANDS)
        used = np.empty(shape, object)
        used.fill(())
        return cls(np.zeros(shape, np.int64), np.zeros(shape), np.full(shape, np.nan), np.zeros(shape), used, {})

    @classmethod
    def unknown(cls, coverage: np.ndarray) -> "Provenance":
        """Cubes of unknown frames, one in each band that is covered."""
        shape = coverage.shape
        nan, none = np.full(shape, np.nan), np.full(shape, None, object)
        return cls((coverage > 0).astype(np.int64), coverage, nan, nan, none, {})


def check_rows(galaxies: pd.DataFrame, group, store, chunk: int) -> None:
    """Refuse galaxies that are not those of a chunk, in its order.

    Parameters
    ----------
    galaxies : DataFrame
        With the column row.
    group : zarr.Group
        The open store.
    store : str or Path
        Its folder.
    chunk : int
        Number of the chunk.

    Raises
    ------
    UserError
        Where they are others.
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
    """Table of a chunk's quality.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, row.
    group : zarr.Group
        The open store.
    made : Provenance
        What the cubes are made of.
    shards : dict
        "flux" and "depth": SHA-256 of the chunk's shards, as `write_shard` gave them.
    frames_digest : str, optional
        Digest of the paths, SHA-256 and states of all frames that the chunk needs.
    fields : DataFrame, optional
        run, camcol, field, psfWidth_{b} (arcsec), sky_{b} (nanomaggies per square arcsec).

    Returns
    -------
    DataFrame
        One row a galaxy. The same in all rows: selection (digest), version (of the stage), code (version of the
        package), frames_digest, flux_sha256, depth_sha256 (of the shards). Its own: object_id, row, and for each band
        frames_{b}, coverage_{b}, saturated_{b}, missing_{b} as in :class:`Provenance`, used_{b} (the used frames as
        "run-camcol-field", with blanks between them), by_terms_{b} (those of them whose header is wrong, so that they
        lie by their great-circle terms), unchecked_{b} (those with nothing to compare their header with), seeing_{b}
        (arcsec, FWHM) and sky_{b} (nanomaggies per square arcsec), their medians. What is unknown is missing.
    """
    quality = pd.DataFrame({"object_id": galaxies["object_id"].to_numpy(), "row": galaxies["row"].to_numpy()})
    quality["selection"], quality["version"], quality["code"] = group.attrs["selection"], VERSION, __version__
    quality["frames_digest"] = pd.Series([frames_digest] * len(quality), dtype="str")
    quality["flux_sha256"], quality["depth_sha256"] = shards["flux"], shards["depth"]
    for index, band in enumerate(BANDS):
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


def _names(used, of: set[Frame] | None = None) -> pd.Series:
    """Names of each galaxy's frames, or of those of them that are in a set."""
    named = [None if frames is None else " ".join(_name(f) for f in frames if of is None or f in of) for frames in used]
    return pd.Series(named, dtype="str")


def _name(frame: Frame) -> str:
    return f"{frame.run}-{frame.camcol}-{frame.field}"


def _median(used, fields: pd.DataFrame | None, column: str) -> np.ndarray:
    """Median of a column of the fields over the frames of each galaxy; NaN where none of them has a value."""
    known = {}
    if fields is not None and column in fields:
        values = fields[column].to_numpy(float)
        keys = fields[["run", "camcol", "field"]].itertuples(index=False, name=None)
        known = {key: value for key, value in zip(keys, values, strict=True) if value > _NO_VALUE}  # nor is NaN
    found = ([known[frame[:3]] for frame in frames or () if frame[:3] in known] for frames in used)
    return np.array([np.median(values) if values else np.nan for values in found], float)
