"""Check that a store of cubes is whole: every shard is there, as it was written, and of the store's own galaxies.

Each shard is read once: its SHA-256 must be the one that was noted when it was written, in the chunk's quality table
or, for a store of `sdss-photoz cutouts`, in the store itself. Prints a line for each file that is wrong, then what to
do; the exit status is 0 where all is whole, else 1.
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
from sdss_photoz.cubes.store import (
    COORDINATES,
    UNREADABLE,
    chunk_count,
    chunk_rows,
    layout,
    layout_files,
    open_store,
    quality_file,
    shard_files,
)
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress

NAMED = 20  # files in one sentence
_COLUMNS = ["object_id", "row", "selection", "version", "flux_sha256", "depth_sha256"]


class Flaw(NamedTuple):
    """A file of a store that is wrong, and the chunk that it belongs to: None where all chunks rest on it."""

    chunk: int | None
    file: Path
    what: str

    def __str__(self):
        return ("" if self.chunk is None else f"chunk {self.chunk}: ") + f"{self.file} {self.what}"


def add_arguments(parser) -> None:
    """Add the words of ``sdss-photoz verify`` to an argparse parser."""
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
    """What to do: Snakemake itself does not miss a shard once the report is there."""
    anew = "remove it and run sdss-photoz cutouts again"
    try:
        if open_store(store).attrs["quality"] is None:
            return anew
        otherwise = ""
    except UserError:  # it no longer says who made it
        otherwise = f"; or, where no run made it, {anew}"
    targets = [store / "zarr.json" if chunk is None else shard_files(store, chunk)[0] for chunk in sorted(wrong)]
    named = " ".join(map(str, targets[:NAMED])) + (" and so on" if len(targets) > NAMED else "")
    return f"run snakemake --cores all --force {named}, with the --configfile of its run{otherwise}"


def verify(path) -> Iterator[Flaw]:
    """Look for what is wrong with a store, one table and one inner chunk at a time.

    Parameters
    ----------
    path : str or Path
        Folder of the store.

    Yields
    ------
    Flaw
        None at all where the store is whole.

    Raises
    ------
    UserError
        Where there is no store.
    """
    path = Path(path)
    try:
        _check_layout(path)
    except _Wrong as wrong:  # it cannot be said what the chunks should be
        yield Flaw(None, wrong.file, str(wrong))
        return
    group = open_store(path)
    object_id = group["object_id"][:]
    for chunk in progress(range(chunk_count(group)), unit="chunk", label="verifying"):
        yield from _flaws_of_chunk(path, group, chunk, object_id)


class _Wrong(Exception):
    """What is wrong with one file."""

    def __init__(self, file: Path, what: str):
        super().__init__(what)
        self.file = file


def _check_layout(path: Path) -> None:
    """Refuse metadata and coordinates that are not as `create_store` writes them for the store's selection."""
    there = [file for file in layout_files(path) if file.is_file()]
    if not there:
        open_store(path)  # says that there is no store
    for file in layout_files(path):
        if file not in there:
            raise _Wrong(file, "is missing")
    try:
        group = open_store(path)
        found = {name: group[name] for name in ("flux", "depth", *COORDINATES)}
        galaxies = pd.DataFrame({name: found[name][:] for name in ("object_id", "ra", "dec")})
        chunks = chunk_count(group)
        whole = layout(galaxies, chunks, group.attrs["precision"], group.attrs["quality"])
        expected = zarr.open_group(MemoryStore(whole), mode="r", zarr_format=3)
        same = all(_form(found[name]) == _form(expected[name]) for name in found)
        same &= found["band"][:].tolist() == expected["band"][:].tolist()
    except (UserError, KeyError, TypeError, *UNREADABLE) as error:
        raise _Wrong(path, f"has damaged metadata or coordinates ({_short(error)})") from None
    if not same:
        raise _Wrong(path, "has damaged metadata: its arrays have not the form that they were made with")
    if group.attrs["selection"] != expected.attrs["selection"]:
        raise _Wrong(path / "zarr.json", "is of another selection than the coordinates beside it")
    if group.attrs["quality"] is None and len(group.attrs.get("shards", ())) != chunks:
        raise _Wrong(path / "zarr.json", "does not note the SHA-256 of each shard")


def _form(array) -> tuple:
    """All that decides how an array's bytes are read."""
    kept = array.metadata
    return kept.shape, kept.data_type, kept.chunk_grid, kept.codecs, kept.dimension_names, str(kept.fill_value)


def _flaws_of_chunk(path: Path, group, chunk: int, object_id: np.ndarray) -> Iterator[Flaw]:
    rows, table = chunk_rows(group, chunk), quality_file(path, group, chunk)
    try:
        if table is None:
            noted = group.attrs["shards"][chunk]
        else:
            noted = _noted(table, group.attrs["selection"], rows, object_id[rows])
    except _Wrong as wrong:
        yield Flaw(chunk, wrong.file, str(wrong))
        noted = {}
    for name, file in zip(("flux", "depth"), shard_files(path, chunk), strict=True):
        try:
            _check_shard(file, noted.get(name), group[name], rows)
        except _Wrong as wrong:
            yield Flaw(chunk, wrong.file, str(wrong))


def _noted(table: Path, selection: str, rows: slice, object_id: np.ndarray) -> dict[str, str]:
    """SHA-256 of a chunk's shards as its quality table notes them."""
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
    noted = found[["flux_sha256", "depth_sha256"]].drop_duplicates()
    if len(noted) != 1 or noted.isna().any(axis=None):
        raise _Wrong(table, "does not note the SHA-256 of its shards")
    return {"flux": noted["flux_sha256"].iloc[0], "depth": noted["depth_sha256"].iloc[0]}


def _check_shard(file: Path, noted: str | None, array, rows: slice) -> None:
    try:
        if noted is None:  # its table is wrong; at least it must be there
            if file.stat().st_size == 0:
                raise _Wrong(file, "is empty")
        elif files.sha256(file) != noted:
            raise _Wrong(file, "is not the file that was written: its SHA-256 is another one")
        else:
            array[rows.start]  # written with the precision that the store has now
    except FileNotFoundError:
        raise _Wrong(file, "is missing") from None
    except UNREADABLE as error:
        raise _Wrong(file, f"cannot be read ({_short(error)})") from None


def _short(error) -> str:
    return " ".join(str(error).split())[:80]
