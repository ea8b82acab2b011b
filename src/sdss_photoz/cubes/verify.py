"""Check that a store of cubes is complete and unaltered, and that each shard holds the store's own galaxies.

Each shard is read once: its SHA-256 must be the one that was recorded when it was written, in the chunk's quality table
or, for a store of `sdss-photoz cutouts`, in the store's attributes. Prints a line for each wrong file, then how to make
it again; the exit status is 0 if nothing is wrong, else 1.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import zarr
from zarr.storage import MemoryStore

from sdss_photoz import files
from sdss_photoz.cubes import VERSION
from sdss_photoz.cubes.layout import COORDINATES, layout_contents, layout_paths
from sdss_photoz.cubes.load import UNREADABLE
from sdss_photoz.cubes.store import chunk_count, chunk_rows, grid_of, open_store, quality_file, shard_files
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress

MAX_NAMES = 20  # files named in one message
_COLUMNS = ["object_id", "row", "selection", "version", "flux_sha256", "depth_sha256"]


class Flaw(NamedTuple):
    """A wrong file of a store, its chunk (None for files of the whole store), and what is wrong with it."""

    chunk: int | None
    file: Path
    what: str

    def __str__(self):
        return ("" if self.chunk is None else f"chunk {self.chunk}: ") + f"{self.file} {self.what}"


def add_arguments(parser) -> None:
    """Add the arguments of ``sdss-photoz verify`` to an argparse parser."""
    parser.add_argument("store", metavar="STORE", help="Zarr store of cubes")


def main(arguments) -> None:
    """Run ``sdss-photoz verify``."""
    store, wrong = Path(arguments.store), set()
    for flaw in verify(store):
        wrong.add(flaw.chunk)
        print(flaw, flush=True)
    if wrong:
        raise UserError(f"{store} is not whole: {_remedy(store, wrong)}.")
    group = open_store(store)
    print(f"{store} is whole: {group['flux'].shape[0]} cubes in {chunk_count(group)} chunks.")


def _remedy(store: Path, wrong: set) -> str:
    """Return the command that makes wrong files again; Snakemake itself does not look for shards behind a report."""
    remake = "remove it and run sdss-photoz cutouts again"
    try:
        if open_store(store).attrs["quality"] is None:
            return remake
        alternative = ""
    except UserError:  # its attributes, which tell a run from a command, cannot be read
        alternative = f"; or, where no run made it, {remake}"
    targets = [store / "zarr.json" if chunk is None else shard_files(store, chunk)[0] for chunk in sorted(wrong)]
    named = " ".join(map(str, targets[:MAX_NAMES])) + (" and so on" if len(targets) > MAX_NAMES else "")
    return f"run snakemake --cores all --force {named}, with the --configfile of its run{alternative}"


def verify(path) -> Iterator[Flaw]:
    """Yield the faults of a store, checking one table and one inner chunk at a time.

    Parameters
    ----------
    path : str or Path
        Folder of the store.

    Yields
    ------
    Flaw
        One for each wrong file.

    Raises
    ------
    UserError
        If there is no store.
    """
    path = Path(path)
    try:
        _check_layout(path)
    except _Wrong as wrong:  # without a layout the chunks cannot be checked
        yield Flaw(None, wrong.file, str(wrong))
        return
    group = open_store(path)
    object_id = group["object_id"][:]
    for chunk in progress(range(chunk_count(group)), unit="chunk", label="verifying"):
        yield from _flaws_of_chunk(path, group, chunk, object_id)


class _Wrong(Exception):
    """One file is wrong; the message says how."""

    def __init__(self, file: Path, what: str):
        super().__init__(what)
        self.file = file


def _check_layout(path: Path) -> None:
    """Raise `_Wrong` if metadata or coordinates differ from those that `create_store` writes for the selection."""
    existing = [file for file in layout_paths(path) if file.is_file()]
    if not existing:
        open_store(path)  # raises that there is no store
    for file in layout_paths(path):
        if file not in existing:
            raise _Wrong(file, "is missing")
    try:
        group = open_store(path)
        found = {name: group[name] for name in ("flux", "depth", *COORDINATES)}
        galaxies = pd.DataFrame({name: found[name][:] for name in ("object_id", "ra", "dec")})
        chunks = chunk_count(group)
        contents = layout_contents(galaxies, chunks, group.attrs["precision"], group.attrs["quality"], grid_of(group))
        expected = zarr.open_group(MemoryStore(contents), mode="r", zarr_format=3)
        same = all(_encoding(found[name]) == _encoding(expected[name]) for name in found)
        same &= found["band"][:].tolist() == expected["band"][:].tolist()
    except (UserError, KeyError, TypeError, *UNREADABLE) as error:
        raise _Wrong(path, f"has damaged metadata or coordinates ({_short(error)})") from None
    if not same:
        raise _Wrong(path, "has damaged metadata: its arrays have not the form that they were made with")
    if group.attrs["selection"] != expected.attrs["selection"]:
        raise _Wrong(path / "zarr.json", "is of another selection than the coordinates beside it")
    if group.attrs["quality"] is None and len(group.attrs.get("shards", ())) != chunks:
        raise _Wrong(path / "zarr.json", "does not note the SHA-256 of each shard")


def _encoding(array) -> tuple:
    """Return the metadata that determine how an array's bytes are read."""
    found = array.metadata
    return found.shape, found.data_type, found.chunk_grid, found.codecs, found.dimension_names, str(found.fill_value)


def _flaws_of_chunk(path: Path, group, chunk: int, object_id: np.ndarray) -> Iterator[Flaw]:
    rows, table = chunk_rows(group, chunk), quality_file(path, group, chunk)
    try:
        if table is None:
            recorded = group.attrs["shards"][chunk]
        else:
            recorded = _recorded_digests(table, group.attrs["selection"], rows, object_id[rows])
    except _Wrong as wrong:
        yield Flaw(chunk, wrong.file, str(wrong))
        recorded = {}
    for name, file in zip(("flux", "depth"), shard_files(path, chunk), strict=True):
        try:
            _check_shard(file, recorded.get(name), group[name], rows)
        except _Wrong as wrong:
            yield Flaw(chunk, wrong.file, str(wrong))


def _recorded_digests(table: Path, selection: str, rows: slice, object_id: np.ndarray) -> dict[str, str]:
    """Return the SHA-256 of a chunk's shards recorded in its quality table; raise `_Wrong` for another table."""
    try:
        found = pd.read_parquet(table, columns=_COLUMNS)
    except FileNotFoundError:
        raise _Wrong(table, "is missing") from None
    except (OSError, ValueError) as error:
        raise _Wrong(table, f"cannot be read ({_short(error)})") from None
    if set(found["selection"]) != {selection}:
        raise _Wrong(table, "is of another selection of galaxies")
    if found["row"].tolist() != list(range(rows.start, rows.stop)) or (found["object_id"] != object_id).any():
        raise _Wrong(table, "is of another chunk's galaxies")
    if set(found["version"]) != {VERSION}:
        raise _Wrong(table, f"is of version {found['version'].iloc[0]} of the stage cubes, not {VERSION}")
    recorded = found[["flux_sha256", "depth_sha256"]].drop_duplicates()
    if len(recorded) != 1 or recorded.isna().any(axis=None):
        raise _Wrong(table, "does not note the SHA-256 of its shards")
    return {"flux": recorded["flux_sha256"].iloc[0], "depth": recorded["depth_sha256"].iloc[0]}


def _check_shard(file: Path, recorded: str | None, array, rows: slice) -> None:
    try:
        if recorded is None:  # the table is wrong: check only that the shard exists
            if file.stat().st_size == 0:
                raise _Wrong(file, "is empty")
        elif files.sha256(file) != recorded:
            raise _Wrong(file, "is not the file that was written: its SHA-256 is another one")
        else:
            array[rows.start]  # fails if it was written with another precision than the store's
    except FileNotFoundError:
        raise _Wrong(file, "is missing") from None
    except UNREADABLE as error:
        raise _Wrong(file, f"cannot be read ({_short(error)})") from None


def _short(error) -> str:
    return " ".join(str(error).split())[:80]
