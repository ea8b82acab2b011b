"""Import the cubes that the authors of the paper published: one npz file, read once to check it and then by rows.

Arrays of the file: `cube` (galaxy, y, x, band: ugriz) float32, and `labels`, a table with a row for each cube. The
paper's sample is the rows within :data:`SAMPLE_OF_THE_PAPER`.
"""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz import files
from sdss_photoz.cubes import npz
from sdss_photoz.cubes.quality import Provenance, check_rows, quality_table
from sdss_photoz.cubes.store import open_store, write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.sample.paper_labels import OK, OUTSIDE, REPEATED
from sdss_photoz.surveys import CUBE

SAMPLE_OF_THE_PAPER = {  # inclusive limits, of the file's README
    "dered_petro_r": (-np.inf, 17.8),
    "z_spec": (-np.inf, 0.4),
    "primtarget": (64, np.inf),
}
COLUMNS = {  # names in the file, in lower case, and in the package
    **{"specobjid": "spec_id", "z": "z_spec", "dered_petro_r": "dered_petro_r"},
    **{"primtarget": "primtarget", "ebv": "ebv"},
}
BLOCK = 2**22  # bytes read at a time
CORE = slice(24, 40)  # central pixels of a cube, dominated by its galaxy
MAX_CORRELATION = (
    -0.3
)  # rank correlation of magnitude and flux: nearly -1, or 0 if labels and cubes are in other orders
MIN_GALAXIES = 100  # for that correlation
_FREE = 2**28  # bytes to leave on the disk


_log = logging.getLogger(__name__)


def read_published(path, folder) -> tuple[pd.DataFrame, dict]:
    """Read the published file from first to last cube and check it, in bounded memory.

    Compressed cubes are unpacked to ``published.npy``, written atomically; others are left in the file.

    Parameters
    ----------
    path : str or Path
        The npz file.
    folder : str or Path
        Folder to unpack to.

    Returns
    -------
    table : DataFrame
        row (of the file), spec_id, z_spec, dered_petro_r (mag), primtarget, ebv (mag), state: "ok" or the fault.
    location : dict
        File and offset of the cubes, for :func:`read_cubes`.

    Raises
    ------
    UserError
        If the file is not the published one, is damaged, its labels are not those of its cubes, or the disk is full.
    """
    cubes, labels = npz.open_member(path, "cube"), npz.open_member(path, "labels")
    _check_arrays(cubes, labels)
    unpacked = Path(folder) / "published.npy"
    for stale in (unpacked, *unpacked.parent.glob(f".{unpacked.name}.*.part")):  # 54 GB each
        stale.unlink(missing_ok=True)
    if not cubes.stored:
        _check_free_disk(unpacked, cubes)
    table = _read_labels(labels)
    location = {"published": str(path), "identity": npz.identity(path), "cubes": cubes.shape[0]}
    if cubes.stored:
        location |= {"file": str(path), "offset": cubes.offset()}
        table = _with_states(table, path, *_check_cubes(cubes))
    else:
        with _full_disk(unpacked, cubes), files.whole(unpacked) as part, open(part, "wb") as copy:
            np.lib.format.write_array_header_1_0(copy, {"descr": "<f4", "fortran_order": False, "shape": cubes.shape})
            location |= {"file": str(unpacked), "offset": copy.tell()}
            table = _with_states(table, path, *_check_cubes(cubes, copy))
    location["bytes"] = Path(location["file"]).stat().st_size
    counts = ", ".join(f"{count:,} {state}" for state, count in table["state"].value_counts().items())
    _log.info("%s holds %s cubes: %s", path, f"{len(table):,}", counts)
    return table, location


def _check_arrays(cubes, labels):
    if cubes.shape[1:] != CUBE.shape or cubes.dtype != np.dtype("<f4"):
        raise UserError(
            f"the array 'cube' of {cubes.path} has shape {cubes.shape} and type {cubes.dtype}, but "
            f"{('galaxies', *CUBE.shape)} and float32 are needed: give the published file itself."
        )
    thing = f"the array 'labels' of {labels.path}"
    if labels.dtype.names is None:
        raise UserError(
            f"{thing} has no named columns (its type is {labels.dtype}), but {', '.join(COLUMNS)} are needed: "
            "give the published file itself, whose labels are a structured array."
        )
    given = {name.lower(): name for name in labels.dtype.names}
    missing = [name for name in COLUMNS if name not in given or labels.dtype[given[name]].shape]
    if missing:
        raise UserError(
            f"{thing} lacks a column {missing[0]} with one value a row: it has {', '.join(labels.dtype.names)}."
        )
    if labels.shape != cubes.shape[:1]:
        raise UserError(
            f"{thing} has shape {labels.shape}, but one row for each of {cubes.shape[0]} cubes is needed: "
            "give the published file itself."
        )


def _read_labels(labels):
    """Read the columns that are needed; case in their names is ignored."""
    thing = f"the array 'labels' of {labels.path}"
    given = {name.lower(): name for name in labels.dtype.names}
    parts = {ours: [] for ours in COLUMNS.values()}
    for block in labels.blocks(max(1, BLOCK // labels.row_bytes)):
        for theirs, ours in COLUMNS.items():
            values = block[given[theirs]]
            try:
                parts[ours].append(_identifiers(values) if ours == "spec_id" else values.astype(float))
            except ValueError as error:
                raise UserError(f"{thing} has a value in column {given[theirs]} that is none: {error}.") from None
    table = pd.DataFrame({ours: np.concatenate(values) for ours, values in parts.items()})
    table.insert(0, "row", np.arange(len(table)))
    return table


def _identifiers(values):
    """Convert identifiers of spectra to uint64; double precision is exact, since their last 10 bits are zero."""
    if values.dtype.kind == "f":
        if values.dtype.itemsize < 8 or not (np.isfinite(values) & (values == np.floor(values))).all():
            raise ValueError(f"{values.dtype} holds no whole numbers of 64 bits")
        return values.astype(np.int64).astype(np.uint64)
    if values.dtype.kind not in "iuSU":
        raise ValueError(f"{values.dtype} is neither number nor text")
    return values.astype(np.uint64)


def _check_cubes(cubes, copy=None):
    """Return the state and central flux (r band) of each cube; write the blocks to `copy` if given."""
    states, brightness = [], []
    with progress(total=cubes.shape[0], unit="cube", label="published cubes") as bar:
        for block in cubes.blocks(BLOCK // cubes.row_bytes):
            if copy is not None:
                copy.write(block)
            states.append(_states(block))
            brightness.append(block[:, CORE, CORE, CUBE.bands.index("r")].sum(axis=(1, 2), dtype=float))
            bar.update(len(block))
    return np.concatenate(states), np.concatenate(brightness)


def _states(block):
    """Return the state of each cube: bands must be finite and not constant."""
    pixels = block.reshape(len(block), -1, len(CUBE.bands))
    states = np.full(len(block), OK, object)
    for reason, bad in (
        ("constant", (pixels == pixels[:, :1]).all(axis=1)),
        ("not finite", ~np.isfinite(pixels).all(axis=1)),
    ):
        for cube in np.flatnonzero(bad.any(axis=1)):
            states[cube] = (
                f"{reason} in {''.join(band for band, is_bad in zip(CUBE.bands, bad[cube], strict=True) if is_bad)}"
            )
    return states


def _with_states(table, path, states, brightness):
    """Add the state of each row to the table."""
    inside = np.logical_and.reduce([table[name].between(*limit) for name, limit in SAMPLE_OF_THE_PAPER.items()])
    table = table.assign(state=np.where(inside, states, OUTSIDE))
    _check_order(path, table, brightness)
    good_first = table.iloc[np.argsort(table["state"] != OK, kind="stable")]
    table.loc[good_first.index[good_first.duplicated("spec_id").to_numpy()], "state"] = REPEATED
    return table


def _check_order(path, table, brightness):
    """Refuse labels in another order than the cubes: magnitudes must correlate with fluxes."""
    good = (table["state"] == OK).to_numpy()
    if good.sum() < MIN_GALAXIES:
        return
    correlation = table.loc[good, "dered_petro_r"].corr(pd.Series(brightness)[good], method="spearman")
    if not correlation < MAX_CORRELATION:
        raise UserError(
            f"the labels of {path} are not in the order of its cubes (magnitudes and fluxes have a rank correlation of "
            f"{correlation:.2f}, not below {MAX_CORRELATION}): give the published file itself."
        )


def _check_free_disk(unpacked, cubes):
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(unpacked.parent).free
    if free < cubes.info.file_size + _FREE:
        raise UserError(
            f"the cubes of {cubes.path} are compressed and need {cubes.info.file_size / 1e9:,.2f} GB in "
            f"{unpacked.parent}, where {free / 1e9:,.2f} GB are free: make room, or put the results on another disk."
        )


def _full_disk(unpacked, cubes):
    """Return a context that turns a full disk while cubes are unpacked into a `UserError`."""
    return files.full_disk_as_user_error(
        lambda why: (
            f"the disk of {unpacked} became full ({why}) while the {cubes.info.file_size / 1e9:,.2f} GB of "
            f"{cubes.path} were unpacked: make room, or put the results on another disk."
        )
    )


def read_cubes(location: dict, rows) -> np.ndarray:
    """Read cubes by their rows in the published file; disk access is in the order of the file.

    Parameters
    ----------
    location : dict
        As :func:`read_published` returned it.
    rows : array_like
        (galaxy,) rows, in any order.

    Returns
    -------
    ndarray
        (galaxy, y, x, band) float32.

    Raises
    ------
    UserError
        If the file is missing, or is not the one that was checked.
    """
    file = Path(location["file"])
    same = file.is_file() and file.stat().st_size == location["bytes"]
    if same and location["file"] == location["published"]:
        same = npz.identity(file) == location["identity"]
    if not same:
        raise UserError(f"{file} is missing or has changed since it was checked: rerun the rule read_published.")
    rows = np.asarray(rows, np.int64)
    cubes = np.empty((len(rows), *CUBE.shape), np.float32)
    size = cubes[:1].nbytes
    with open(file, "rb") as stream:
        for index in progress(np.argsort(rows), unit="cube", label="cubes"):
            stream.seek(location["offset"] + int(rows[index]) * size)
            if stream.readinto(cubes[index]) != size:
                raise UserError(f"{file} ends before cube {rows[index]}: rerun the rule read_published.")
    return cubes


def copy_chunk(galaxies: pd.DataFrame, published: pd.DataFrame, location: dict, store, chunk: int) -> pd.DataFrame:
    """Make one chunk of a store from the published cubes.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, spec_id, row: the galaxies of the chunk, all of them, in the order of their rows.
    published : DataFrame
        row, spec_id, state: as :func:`read_published` returned it.
    location : dict
        Location of the cubes.
    store : str or Path
        Folder of the store.
    chunk : int
        Number of the chunk.

    Returns
    -------
    DataFrame
        As of :func:`sdss_photoz.cubes.make.make_chunk`; each band of a published cube counts as one frame, and values
        that the file does not give are missing.

    Raises
    ------
    UserError
        If a galaxy has no good published cube, the galaxies are not the chunk's, or the file has changed.
    """
    group = open_store(store)
    check_rows(galaxies, group, store, chunk)
    good = published[published["state"] == OK].set_index("spec_id")["row"]
    rows = good.reindex(galaxies["spec_id"])
    if rows.isna().any():
        raise UserError(
            f"spectrum {rows.index[rows.isna()][0]} has no good published cube: rerun the stage sample."
        )  # fmt: skip
    flux = read_cubes(location, rows.to_numpy(np.int64))
    coverage = np.isfinite(flux).mean(axis=(1, 2))
    made = Provenance.unknown(coverage)
    return quality_table(galaxies, group, made, write_shard(store, chunk, flux, made.frames))
