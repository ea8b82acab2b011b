"""The cubes that the authors of the paper published: one npz file, read once to check it and then by rows.

Arrays of the file: `cube` (galaxy, y, x, band: ugriz) float32, and `labels`, a table with a row for each cube. The
paper's sample in it is that of :data:`R_MAX`, :data:`Z_MAX` and :data:`PRIMTARGET_MIN`.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from sdss_photoz import files
from sdss_photoz.cubes import npz
from sdss_photoz.cubes.quality import Provenance, check_rows, quality_table
from sdss_photoz.cubes.store import CUBE, open_store, write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress
from sdss_photoz.sample.published import OK, OUTSIDE, REPEATED
from sdss_photoz.survey import BANDS

R_MAX, Z_MAX, PRIMTARGET_MIN = 17.8, 0.4, 64
COLUMNS = {  # the file's names, in lower case, and ours
    **{"specobjid": "spec_id", "z": "z_spec", "dered_petro_r": "dered_petro_r"},
    **{"primtarget": "primtarget", "ebv": "ebv"},
}
BLOCK = 2**22  # bytes read at a time
CORE = slice(24, 40)  # pixels of a cube that hold most of its galaxy and little else
ORDERED = -0.3  # rank correlation of magnitudes with fluxes: nearly -1, and 0 where the rows are not the same galaxies
ENOUGH = 100  # galaxies for that correlation
_ROOM = 2**28  # bytes to leave on the disk


def read_published(path, folder) -> tuple[pd.DataFrame, dict]:
    """Read the published file from first to last cube and check it, in bounded memory.

    Where its cubes are compressed they are unpacked to ``published.npy``, whole or absent; else they stay in the file.

    Parameters
    ----------
    path : str or Path
        The npz file.
    folder : str or Path
        Where to unpack.

    Returns
    -------
    table : DataFrame
        row (of the file), spec_id, z_spec, dered_petro_r (mag), primtarget, ebv (mag), state: "ok" or what is wrong.
    place : dict
        Where the cubes can be read by rows: for :func:`read_cubes`.

    Raises
    ------
    UserError
        Where the file is not the published one, is damaged, or its labels are not those of its cubes, or where the
        disk has no room.
    """
    cubes, labels = npz.open_member(path, "cube"), npz.open_member(path, "labels")
    _check_arrays(cubes, labels)
    unpacked = Path(folder) / "published.npy"
    for stale in (unpacked, *unpacked.parent.glob(f".{unpacked.name}.*.part")):  # 54 GB each: none is left behind
        stale.unlink(missing_ok=True)
    if not cubes.stored:
        _check_room(unpacked, cubes)
    table = _read_labels(labels)
    place = {"published": str(path), "identity": npz.identity(path), "cubes": cubes.shape[0]}
    if cubes.stored:
        place |= {"file": str(path), "offset": cubes.offset()}
        table = _with_states(table, path, *_check_cubes(cubes))
    else:
        with _filling(unpacked, cubes), files.whole(unpacked) as part, open(part, "wb") as copy:
            np.lib.format.write_array_header_1_0(copy, {"descr": "<f4", "fortran_order": False, "shape": cubes.shape})
            place |= {"file": str(unpacked), "offset": copy.tell()}
            table = _with_states(table, path, *_check_cubes(cubes, copy))
    place["bytes"] = Path(place["file"]).stat().st_size
    counts = ", ".join(f"{count:,} {state}" for state, count in table["state"].value_counts().items())
    print(f"{path} holds {len(table):,} cubes: {counts}", file=sys.stderr)
    return table, place


def _check_arrays(cubes, labels):
    if cubes.shape[1:] != CUBE or cubes.dtype != np.dtype("<f4"):
        raise UserError(
            f"the array 'cube' of {cubes.path} has shape {cubes.shape} and type {cubes.dtype}, but "
            f"{('galaxies', *CUBE)} and float32 are needed: give the published file itself."
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
    """The columns that are needed, by whichever case their names are written in."""
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
    """Identifiers of spectra as uint64; in double precision they are exact, for their last 10 bits are zero."""
    if values.dtype.kind == "f":
        if values.dtype.itemsize < 8 or not (np.isfinite(values) & (values == np.floor(values))).all():
            raise ValueError(f"{values.dtype} holds no whole numbers of 64 bits")
        return values.astype(np.int64).astype(np.uint64)
    if values.dtype.kind not in "iuSU":
        raise ValueError(f"{values.dtype} is neither number nor text")
    return values.astype(np.uint64)


def _check_cubes(cubes, copy=None):
    """State of each cube, and its flux in the middle (r band); each block is written to `copy` where there is one."""
    states, brightness = [], []
    with progress(total=cubes.shape[0], unit="cube", label="published cubes") as bar:
        for block in cubes.blocks(BLOCK // cubes.row_bytes):
            if copy is not None:
                copy.write(block)
            states.append(_states(block))
            brightness.append(block[:, CORE, CORE, BANDS.index("r")].sum(axis=(1, 2), dtype=float))
            bar.update(len(block))
    return np.concatenate(states), np.concatenate(brightness)


def _states(block):
    """State of each cube: a band that is not finite or has the same value everywhere holds no image."""
    pixels = block.reshape(len(block), -1, len(BANDS))
    states = np.full(len(block), OK, object)
    for reason, bad in (
        ("constant", (pixels == pixels[:, :1]).all(axis=1)),
        ("not finite", ~np.isfinite(pixels).all(axis=1)),
    ):
        for cube in np.flatnonzero(bad.any(axis=1)):
            states[cube] = (
                f"{reason} in {''.join(band for band, is_bad in zip(BANDS, bad[cube], strict=True) if is_bad)}"
            )
    return states


def _with_states(table, path, states, brightness):
    """The table with the state of each row."""
    limits = {"dered_petro_r": (-np.inf, R_MAX), "z_spec": (-np.inf, Z_MAX), "primtarget": (PRIMTARGET_MIN, np.inf)}
    inside = np.logical_and.reduce([table[name].between(*limit) for name, limit in limits.items()])
    table = table.assign(state=np.where(inside, states, OUTSIDE))
    _check_order(path, table, brightness)
    good_first = table.iloc[np.argsort(table["state"] != OK, kind="stable")]
    table.loc[good_first.index[good_first.duplicated("spec_id").to_numpy()], "state"] = REPEATED
    return table


def _check_order(path, table, brightness):
    """Refuse labels that are not those of the cubes: bright galaxies are bright in their cubes."""
    good = (table["state"] == OK).to_numpy()
    if good.sum() < ENOUGH:
        return
    correlation = table.loc[good, "dered_petro_r"].corr(pd.Series(brightness)[good], method="spearman")
    if not correlation < ORDERED:
        raise UserError(
            f"the labels of {path} are not in the order of its cubes (magnitudes and fluxes have a rank correlation of "
            f"{correlation:.2f}, not below {ORDERED}): give the published file itself."
        )


def _check_room(unpacked, cubes):
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(unpacked.parent).free
    if free < cubes.info.file_size + _ROOM:
        raise UserError(
            f"the cubes of {cubes.path} are compressed and need {cubes.info.file_size / 1e9:,.2f} GB in "
            f"{unpacked.parent}, where {free / 1e9:,.2f} GB are free: make room, or put the results on another disk."
        )


def _filling(unpacked, cubes):
    """A context that says so where the disk fills while the cubes are unpacked."""
    return files.full_disk_said(
        lambda why: (
            f"the disk of {unpacked} became full ({why}) while the {cubes.info.file_size / 1e9:,.2f} GB of "
            f"{cubes.path} were unpacked: make room, or put the results on another disk."
        )
    )


def read_cubes(place: dict, rows) -> np.ndarray:
    """Read cubes by their rows in the published file, in the order of the file.

    Parameters
    ----------
    place : dict
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
        Where the file is missing, or another one than was checked.
    """
    file = Path(place["file"])
    same = file.is_file() and file.stat().st_size == place["bytes"]
    if same and place["file"] == place["published"]:
        same = npz.identity(file) == place["identity"]
    if not same:
        raise UserError(f"{file} is missing or has changed since it was checked: rerun the rule read_published.")
    rows = np.asarray(rows, np.int64)
    cubes = np.empty((len(rows), *CUBE), np.float32)
    size = cubes[:1].nbytes
    with open(file, "rb") as stream:
        for index in progress(np.argsort(rows), unit="cube", label="cubes"):
            stream.seek(place["offset"] + int(rows[index]) * size)
            if stream.readinto(cubes[index]) != size:
                raise UserError(f"{file} ends before cube {rows[index]}: rerun the rule read_published.")
    return cubes


def copy_chunk(galaxies: pd.DataFrame, published: pd.DataFrame, place: dict, store, chunk: int) -> pd.DataFrame:
    """Make one chunk of a store from the published cubes.

    Parameters
    ----------
    galaxies : DataFrame
        object_id, spec_id, row: the galaxies of the chunk, all of them, in the order of their rows.
    published : DataFrame
        row, spec_id, state: as :func:`read_published` returned it.
    place : dict
        Where the cubes are.
    store : str or Path
        Folder of the store.
    chunk : int
        Number of the chunk.

    Returns
    -------
    DataFrame
        As of :func:`sdss_photoz.cubes.make.make_chunk`; each band of a published cube counts as one frame, and what the
        file does not tell is missing.

    Raises
    ------
    UserError
        Where a galaxy has no good published cube, the galaxies are not the chunk's, or the file has changed.
    """
    group = open_store(store)
    check_rows(galaxies, group, store, chunk)
    good = published[published["state"] == OK].set_index("spec_id")["row"]
    rows = good.reindex(galaxies["spec_id"])
    if rows.isna().any():
        raise UserError(
            f"spectrum {rows.index[rows.isna()][0]} has no good published cube: rerun the stage sample."
        )  # fmt: skip
    flux = read_cubes(place, rows.to_numpy(np.int64))
    coverage = np.isfinite(flux).mean(axis=(1, 2))
    made = Provenance.unknown(coverage)
    return quality_table(galaxies, group, made, write_shard(store, chunk, flux, made.frames))
