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

from sdss_photoz import files
from sdss_photoz.cubes import VERSION
from sdss_photoz.cubes.store import (
    UNREADABLE,
    chunk_count,
    chunk_rows,
    layout_files,
    open_store,
    quality_file,
    selection_digest,
    shard_files,
)
from sdss_photoz.errors import UserError
from sdss_photoz.progress import progress

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
    store = Path(arguments.store)
    group, chunks = open_store(store), set()
    for flaw in verify(store):
        chunks.add(flaw.chunk)
        print(flaw, flush=True)
    if chunks:
        raise UserError(f"{store} is not whole: {_remedy(group, store, chunks)}.")
    print(f"{store} is whole: {group['flux'].shape[0]} cubes in {chunk_count(group)} chunks.")


def _remedy(group, store: Path, chunks: set) -> str:
    if group.attrs["quality"] is None:
        return "remove it and run sdss-photoz cutouts again"
    if None in chunks:
        return f"run snakemake --force {store / 'zarr.json'} with the words of your run, and then your run again"
    return f"delete the files named above, those that are there, and run snakemake again to make {len(chunks)} chunks"


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
    group = open_store(path)
    layout = _flaw_of_layout(Path(path), group)
    if layout is not None:  # it cannot be said what the chunks should be
        yield layout
        return
    object_id = group["object_id"][:]
    for chunk in progress(range(chunk_count(group)), unit="chunk", label="verifying"):
        yield from _flaws_of_chunk(path, group, chunk, object_id)


def _flaw_of_layout(path: Path, group) -> Flaw | None:
    """What is wrong with the metadata or the coordinates: these must give the digest of the selection."""
    for file in layout_files(path):
        if not file.is_file():
            return Flaw(None, file, "is missing")
    try:
        coordinates = [group[name][:] for name in ("object_id", "ra", "dec")]
    except UNREADABLE as error:
        return Flaw(None, path, f"has damaged coordinates ({_short(error)})")
    if selection_digest(*coordinates, chunk_count(group)) != group.attrs["selection"]:
        return Flaw(None, path / "zarr.json", "is of another selection than the coordinates beside it")
    if group.attrs["quality"] is None and len(group.attrs.get("shards", ())) != chunk_count(group):
        return Flaw(None, path / "zarr.json", "does not note the SHA-256 of each shard")
    return None


def _flaws_of_chunk(path, group, chunk: int, object_id: np.ndarray) -> Iterator[Flaw]:
    rows = chunk_rows(group, chunk)
    table = quality_file(path, group, chunk)
    if table is None:
        noted = group.attrs["shards"][chunk]
    else:
        try:
            noted = _noted(table, group.attrs["selection"], rows, object_id[rows])
        except _Wrong as wrong:
            yield Flaw(chunk, table, str(wrong))
            noted = {}
    for name, file in zip(("flux", "depth"), shard_files(path, chunk), strict=True):
        try:
            _check_shard(file, noted.get(name), group[name], rows)
        except _Wrong as wrong:
            yield Flaw(chunk, file, str(wrong))


class _Wrong(Exception):
    """What is wrong with one file."""


def _noted(table: Path, selection: str, rows: slice, object_id: np.ndarray) -> dict[str, str]:
    """Digests of a chunk's shards as its quality table notes them."""
    try:
        found = pd.read_parquet(table, columns=_COLUMNS)
    except FileNotFoundError:
        raise _Wrong("is missing") from None
    except (OSError, ValueError) as error:
        raise _Wrong(f"cannot be read ({_short(error)})") from None
    if set(found["selection"]) != {selection}:
        raise _Wrong("is of another selection of galaxies")
    if found["row"].tolist() != list(range(rows.start, rows.stop)) or (found["object_id"] != object_id).any():
        raise _Wrong("is of another chunk's galaxies")
    if set(found["version"]) != {VERSION}:
        raise _Wrong(f"is of version {found['version'][0]} of the stage cubes, not {VERSION}")
    noted = found[["flux_sha256", "depth_sha256"]].drop_duplicates()
    if len(noted) != 1 or noted.isna().any(axis=None):
        raise _Wrong("does not note the SHA-256 of its shards")
    return {"flux": noted["flux_sha256"].iloc[0], "depth": noted["depth_sha256"].iloc[0]}


def _check_shard(file: Path, noted: str | None, array, rows: slice) -> None:
    try:
        if noted is None:  # its table is wrong; at least it must be there
            file.stat()
        elif files.sha256(file) != noted:
            raise _Wrong("is not the file that was written: its SHA-256 is another one")
        else:
            array[rows.start]  # written with the precision that the store has now
    except FileNotFoundError:
        raise _Wrong("is missing") from None
    except UNREADABLE as error:
        raise _Wrong(f"cannot be read ({_short(error)})") from None


def _short(error) -> str:
    return " ".join(str(error).split())[:80]
