"""Redshifts of galaxies without spectra, by the networks of a finished run.

RUN is the run's results folder, results/<run>. POSITIONS is a table (CSV and other delimited text, parquet, FITS,
VOTable, ECSV) with columns ra, dec (degrees) and ebv (E(B-V), mag) or extinction_r (mag), of which E(B-V) is then a
2.285th. Cubes are cut from the frames in MIRROR as `sdss-photoz cutouts` does; every network of every fold of the trial
sees each of them. The parquet table TABLE has all columns of POSITIONS, redshifts, flags and distributions:
docs/evaluation.md names them.
"""

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.spatial import cKDTree
from torch import nn

from sdss_photoz import files, tables
from sdss_photoz.config import Cubes
from sdss_photoz.cubes.cutouts import cutouts
from sdss_photoz.cubes.store import load_cubes, open_store
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation import domain, pdfs
from sdss_photoz.evaluation.neighbours import ONE_GALAXY, has_brighter_beside, has_position_beside
from sdss_photoz.progress import progress
from sdss_photoz.sample.linking import unit_vectors
from sdss_photoz.survey import EXTINCTION_PER_EBV
from sdss_photoz.training.data import selection
from sdss_photoz.training.device import claim, cpu_threads, full_memory_said, numerics
from sdss_photoz.training.model import Trained, describe_model, load_models, name_models
from sdss_photoz.training.predict import PIECE, predict_cubes
from sdss_photoz.training.stretch import stretch

CUT_AS = ("stack", "overlap_rows")  # keys of the configuration that a store does not tell
NAME = "the table of positions"
QUANTITIES = {  # of the columns that are needed, or used where they are there
    **{"ra": tables.RA, "dec": tables.DEC, "ebv": tables.EBV, "extinction_r": tables.EXTINCTION},
    domain.PETROSIAN: tables.MAGNITUDE,
}
SKIES = {  # where a run's galaxies lie: what to be warned of
    "survey": None,
    "simulated": "the networks learned from the simulated sky: these redshifts say nothing about real galaxies",
    "unknown": "the run lacks its folder archive, so nothing tells whether its networks learned from the simulated sky",
}
PREDICTED = ["z_phot", "width_68", "width_90", "z_phot_scatter"]
FLAGS = [*domain.FLAGS, "members_disagree", "neighbour", "in_training"]


class Trial(NamedTuple):
    """What a finished run knows of one trial.

    Attributes
    ----------
    name : str
        Its name.
    models : dict of Trained to Path
        File of each network.
    trained : DataFrame
        The galaxies that trained or validated some of its networks.
    store : Path
        The run's cubes.
    selection : str
        Digest of the selection that the cubes belong to.
    """

    name: str
    models: dict[Trained, Path]
    trained: pd.DataFrame
    store: Path
    selection: str


class Ensemble(NamedTuple):
    """All networks of a trial, and what they expect."""

    networks: dict[Trained, nn.Module]
    bins: int
    stretch: str


def add_arguments(parser) -> None:
    """Add the words of ``sdss-photoz predict`` to an argparse parser."""
    parser.add_argument("run", metavar="RUN", help="results folder of a finished run, results/<run>")
    parser.add_argument("positions", metavar="POSITIONS", help="table with ra, dec, and ebv")
    parser.add_argument("--frames", required=True, metavar="MIRROR", help="folder that holds corrected frames")
    parser.add_argument("--out", required=True, metavar="TABLE", help="parquet table to write; must not exist")
    parser.add_argument("--trial", help="trial of the run (default: the only one)")
    for key in CUT_AS:
        field = Cubes.model_fields[key]
        options = {"choices": get_args(field.annotation), "default": field.default}
        options["help"] = f"cubes.{key} of the run. {field.description} Default {field.default}."
        parser.add_argument(f"--{key.replace('_', '-')}", **options)
    averaged = "mean of the probabilities over the eight flips and rotations, in eight times the time"
    parser.add_argument("--symmetry-averaging", action="store_true", help=averaged)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads (default: this machine's cores)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where networks are computed")


def main(arguments) -> None:
    """Run ``sdss-photoz predict``."""
    options = {key: getattr(arguments, key) for key in ("trial", "threads", "device", "symmetry_averaging", *CUT_AS)}
    positions = tables.read(arguments.positions)
    table = predict(arguments.run, positions, arguments.frames, arguments.out, **options)
    known = table["has_frames"]
    counts = ", ".join(f"{flag} {np.count_nonzero(table[flag] & known)}" for flag in FLAGS)
    partial = np.count_nonzero(known & ~table["complete"])
    print(
        f"{arguments.out}: {np.count_nonzero(known)} redshifts; {counts}, partly covered {partial}; "
        f"{np.count_nonzero(~known)} positions lack a frame in some band and have none"
    )
    if warning := SKIES[sky_of(arguments.run)]:
        print(f"warning: {warning}", file=sys.stderr)
    if domain.PETROSIAN in table and (missing := tables.measured(table, domain.PETROSIAN, tables.MAGNITUDE).missing):
        print(f"{tables.said(domain.PETROSIAN, missing)}: there outside_r is by the flux of the cube")


def predict(
    run,
    positions: pd.DataFrame,
    frames,
    out,
    trial: str | None = None,
    *,
    stack: str = "median",
    overlap_rows: str = "keep",
    symmetry_averaging: bool = False,
    threads: int = 1,
    device: str = "auto",
) -> pd.DataFrame:
    """Predict the redshifts of any positions with a finished run's networks.

    Parameters
    ----------
    run : str or Path
        Results folder of the run.
    positions : DataFrame
        ra, dec (degrees); ebv or extinction_r (mag); dered_petro_r (mag), where there is one, decides ``outside_r``.
        All columns are carried into the output: those that are used as numbers, those of identifiers
        (`tables.IDENTIFIERS`) to the last digit, others as they are.
    frames : str or Path
        Folder of corrected frames, as for :func:`sdss_photoz.cubes.cutouts.cutouts`.
    out : str or Path
        Parquet table to write, whole or not at all. The cubes lie beside it until it is written.
    trial : str, optional
        The trial whose networks predict; needed where the run has several.
    stack, overlap_rows : str
        How the run's own cubes were stacked: see :func:`sdss_photoz.cubes.cutouts.cutouts`.
    symmetry_averaging : bool
        Whether distributions are means over the eight symmetries: see `training.symmetry_averaging`.
    threads : int
        Threads that decompress, resample, and compute networks on a CPU.
    device : {"auto", "cpu", "cuda"}
        Where networks are computed: see :func:`sdss_photoz.training.device.claim`.

    Returns
    -------
    DataFrame
        The output but for its column ``pdf``, in the order of `positions`.

    Raises
    ------
    UserError
        Where the run is not finished or its trial unknown, models are damaged or of different networks, a column is
        missing, a value is no number, the frames are none, the output exists or cannot be made, or its disk is full.
    """
    out = Path(out)
    _check_output(out)
    _check_carried(positions)
    ebv = reddening(positions)
    positions = _typed(positions)
    petrosian = None
    if domain.PETROSIAN in positions:
        petrosian = tables.measured(positions, domain.PETROSIAN, tables.MAGNITUDE, NAME).values
    trial = find_trial(run, trial)
    ensemble = load_ensemble(trial.models)
    each = [f"z_phot_{of.name}" for of in trial.models]
    if taken := [name for name in (*PREDICTED, "has_frames", "complete", *FLAGS, *each, "pdf") if name in positions]:
        raise UserError(f"the table of positions has a column {taken[0]!r}, as the output has: rename it.")
    limits = domain.training_limits(trial.trained, trial.store, trial.selection)
    with files.folder_beside(out) as folder:
        store = folder / "cubes.zarr"
        how = {"stack": stack, "overlap_rows": overlap_rows}
        depth = cutouts(positions[["ra", "dec"]], frames, store, threads, **how)
        full = full_memory_said("the GPU's memory is full: free it of other programs, or give --device cpu.")
        with claim(device) as place, cpu_threads(threads), numerics(place, torch.float32), full:
            found, pdf = _look_at_cubes(store, ebv, depth, ensemble, place, symmetry_averaging)
    ra, dec = (positions[name].to_numpy(np.float64) for name in ("ra", "dec"))
    flags = domain.outside(found[limits.columns.intersection(found.columns)], limits, petrosian)
    flags["members_disagree"] = found["members_disagree"]
    flags["neighbour"] = found["brighter_beside"] | has_position_beside(ra, dec)
    flags["in_training"] = _near(ra, dec, trial.trained)
    parts = [found[PREDICTED], found[["has_frames", "complete"]], flags[FLAGS], found[each]]
    table = pd.concat([positions, *parts], axis=1)
    column = pa.FixedSizeListArray.from_arrays(pa.array(pdf.reshape(-1)), ensemble.bins)
    written = pa.Table.from_pandas(table, preserve_index=False).append_column("pdf", column)
    with files.full_disk_said(lambda why: files.no_room(out, f"the table {out.name}", why)), files.whole(out) as part:
        sky = sky_of(run)
        pq.write_table(name_models(written, ensemble.networks, sky=sky, warning=SKIES[sky]), part)
    return table


def sky_of(run) -> str:
    """Where the galaxies that a run learned from lie: simulated, survey, or, without its archive, unknown."""
    archive = Path(run) / "archive"
    if (archive / "catalog.duckdb").is_file():
        return "simulated"
    return "survey" if (archive / "galaxies.parquet").is_file() else "unknown"


def _check_output(out: Path) -> None:
    if out.suffix != ".parquet":
        raise UserError(f"--out is {out}, but a parquet table is written: give a name that ends in .parquet.")
    if out.exists():
        raise UserError(f"{out} exists already: give another --out, or remove it first.")


def _check_carried(positions: pd.DataFrame) -> None:
    for column in ("ra", "dec"):
        _all_measured(positions, column)
    try:
        pa.Table.from_pandas(positions, preserve_index=False)  # not found out after hours
    except (pa.ArrowException, ValueError) as error:
        raise UserError(
            f"the table of positions cannot be carried into a parquet table ({' '.join(str(error).split())}): give "
            "columns of different names, each with values of one kind."
        ) from None


def _typed(positions: pd.DataFrame) -> pd.DataFrame:
    """The table as it will stand in the output: the columns that are used as numbers, identifiers to the last digit."""
    positions = positions.reset_index(drop=True)
    for column in ("ra", "dec", "ebv" if "ebv" in positions else "extinction_r", domain.PETROSIAN):
        if column in positions and positions[column].dtype.kind not in "iuf":
            positions[column] = tables.numbers(positions, column, QUANTITIES[column], NAME)
    for column in positions:
        if str(column).lower() in tables.IDENTIFIERS:
            positions[column] = tables.identifiers(positions, column, NAME)
    return positions


def _all_measured(positions: pd.DataFrame, column: str) -> np.ndarray:
    """A column of numbers, (position,) float64, refused where one is missing: rows are counted from 1."""
    values = tables.measured(positions, column, QUANTITIES[column], NAME).values
    bad = np.flatnonzero(np.isnan(values))
    if bad.size:
        raise UserError(
            f"column {column!r} of {NAME} holds {bad.size} values that are missing or fill values, the first in row "
            f"{bad[0] + 1} ({positions[column].iloc[bad[0]]}): correct or drop those rows."
        )
    return values


def reddening(positions: pd.DataFrame) -> np.ndarray:
    """E(B-V) of each position, (position,) float64, mag: its column ebv, else extinction_r / 2.285.

    Raises
    ------
    UserError
        Where the table has neither, or a value is negative or no number.
    """
    for column, unit in (("ebv", 1.0), ("extinction_r", EXTINCTION_PER_EBV["r"])):
        if column in positions:
            return _all_measured(positions, column) / unit
    raise UserError(
        "the table of positions has neither a column 'ebv' nor 'extinction_r', but the networks need the reddening of "
        f"each galaxy: add E(B-V) in mag, or the extinction in r, of which it is a {EXTINCTION_PER_EBV['r']}th."
    )


def find_trial(run, name: str | None = None) -> Trial:
    """Read what a finished run knows of one of its trials.

    Parameters
    ----------
    run : str or Path
        Results folder of the run.
    name : str, optional
        Name of the trial; that of the only one by default.

    Raises
    ------
    UserError
        Where there is no such run, it is not finished, or has no such trial or several.
    """
    run = Path(run)
    known = sorted(path.stem.removeprefix("folds-") for path in run.glob("sample/folds-*.parquet"))
    if not known:
        raise UserError(f"{run} is not the results folder of a run: give results/<run> of a finished one.")
    if name is None and len(known) > 1:
        raise UserError(f"{run} has the trials {', '.join(known)}: choose one with --trial.")
    name = known[0] if name is None else name
    if name not in known:
        raise UserError(f"{run} has no trial {name!r}, but {', '.join(known)}: choose one of them with --trial.")
    scored = run / "evaluation" / name / "photoz.parquet"
    store = run / "cubes.zarr"
    for needed in (scored, store):
        if not needed.exists():
            raise UserError(f"{run} is not finished, for {needed} is missing: run its workflow to the end first.")
    folds = pd.read_parquet(run / "sample" / f"folds-{name}.parquet")
    galaxies = pd.read_parquet(run / "sample" / "galaxies.parquet")
    tested = pd.read_parquet(scored, columns=["fold", "repeat"]).drop_duplicates()
    count = sum(re.fullmatch(r"role_\d+", column) is not None for column in folds) // (tested["repeat"].max() + 1)
    numbers = sorted(tested["fold"] + count * tested["repeat"])
    folds = folds[["object_id", *(f"role_{number}" for number in numbers)]]
    members = [m[1] for m in (re.fullmatch(r"z_phot_member_(\d+)", c) for c in pq.read_schema(scored).names) if m]
    models = {
        Trained(name, fold, member): run / "training" / name / f"fold-{fold}" / f"member-{member}.safetensors"
        for fold in numbers
        for member in map(int, members)
    }
    return Trial(name, models, domain.training_galaxies(galaxies, folds), store, selection(galaxies))


def load_ensemble(models: dict[Trained, Path]) -> Ensemble:
    """Load all networks of a trial; the first says what the others must be.

    Raises
    ------
    UserError
        Where a file is missing or damaged, is of another training (`model.load_models`), or holds another network, bins
        or stretch than the first.
    """
    first = describe_model(next(iter(models.values())))
    kind = {key: first[key] for key in ("network", "bins", "stretch", "variant") if key in first}
    return Ensemble(load_models(models, **kind), kind["bins"], kind["stretch"])


def _look_at_cubes(
    store: Path, ebv: np.ndarray, depth: np.ndarray, ensemble: Ensemble, device, symmetries: bool
):  # fmt: skip
    """What the networks say of each cube, and what is measured on it; and the distributions (galaxy, bin) float32."""
    group = open_store(store)
    networks = {of.name: network.to(device) for of, network in ensemble.networks.items()}
    tables, means = [], []
    with progress(total=len(ebv), unit="galaxy", label="predicting") as bar:
        for start in range(0, len(ebv), PIECE):
            rows = np.arange(start, min(start + PIECE, len(ebv)))
            cubes = load_cubes(store, rows)
            coverage = np.isfinite(group["flux"][rows[0] : rows[-1] + 1]).mean(axis=(1, 2)).min(axis=1)
            seen = _stretched(cubes, ensemble.stretch)  # once for all networks
            reddening = ebv[rows].astype(np.float32)
            members = {
                name: predict_cubes(network, seen, reddening, "none", device, symmetries)
                for name, network in networks.items()
            }
            table, mean = combine(members)
            table["has_frames"], table["complete"] = coverage > 0, coverage >= 1
            table.loc[~table["has_frames"], table.columns[:-2]] = np.nan
            mean[~table["has_frames"]] = np.nan
            table["members_disagree"] = table["z_phot_scatter"] > table.pop("half_width")
            table["brighter_beside"] = has_brighter_beside(cubes)
            tables.append(pd.concat([table, domain.measure(cubes, ebv[rows], depth[rows])], axis=1))
            means.append(mean.astype(np.float32))
            bar.update(len(rows))
    return pd.concat(tables, ignore_index=True), np.concatenate(means)


def _stretched(cubes: np.ndarray, kind: str) -> np.ndarray:
    pieces = np.split(cubes, range(64, len(cubes), 64))  # small ones stay in the processor's cache
    return np.concatenate([stretch(torch.from_numpy(piece), kind).numpy() for piece in pieces])


def combine(members: dict[str, np.ndarray]) -> tuple[pd.DataFrame, np.ndarray]:
    """Average the distributions of an ensemble as the evaluation does.

    Parameters
    ----------
    members : dict
        (galaxy, bin) probabilities by each network's name.

    Returns
    -------
    DataFrame
        A row for each galaxy: z_phot, width_68, width_90 of the average; z_phot_scatter, the standard deviation of the
        members' redshifts; half_width, half the mean of their widths at 68 %; z_phot_{name} of each.
    ndarray
        (galaxy, bin) float64: the average.
    """
    mean = pdfs.average(list(members.values()))
    each = {f"z_phot_{name}": pdfs.point_estimate(pdf) for name, pdf in members.items()}
    table = {
        "z_phot": pdfs.point_estimate(mean),
        "width_68": pdfs.width(mean, 0.68),
        "width_90": pdfs.width(mean, 0.90),
        "z_phot_scatter": np.std(list(each.values()), axis=0),
        "half_width": np.mean([pdfs.width(pdf, 0.68) for pdf in members.values()], axis=0) / 2,
    }
    return pd.DataFrame(table | each), mean


def _near(ra, dec, trained: pd.DataFrame) -> np.ndarray:
    """Whether a position is a training galaxy's: (position,) bool."""
    tree = cKDTree(unit_vectors(trained["ra"], trained["dec"]))
    return np.isfinite(tree.query(unit_vectors(ra, dec), distance_upper_bound=np.radians(ONE_GALAXY / 3600))[0])
