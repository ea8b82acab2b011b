"""Redshifts of galaxies without spectra, or whatever else the networks of a finished run predict.

RUN is the run's results folder, results/<run>. POSITIONS is a table (CSV and other delimited text, parquet, FITS,
VOTable, ECSV) with columns ra, dec (degrees) and ebv (E(B-V), mag) or extinction_r (mag), of which E(B-V) is then a
2.285th. Cubes are cut from the frames in MIRROR as `sdss-photoz cutouts` does; every network of every fold of the trial
sees each of them. The parquet table TABLE has all columns of POSITIONS, predictions, flags and distributions:
docs/evaluation.md names them.
"""

import logging
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.spatial import cKDTree

from sdss_photoz import files, tables
from sdss_photoz.app.finished_run import SKIES, find_trial, load_ensemble, sky_of
from sdss_photoz.app.positions import POSITIONS_TABLE, check_columns, numbers_of, reddening, typed
from sdss_photoz.config import Cubes
from sdss_photoz.cubes.cutouts import cutouts
from sdss_photoz.cubes.load import load_cubes
from sdss_photoz.cubes.store import grid_of, open_store
from sdss_photoz.device import claim, cpu_threads, full_memory_as_user_error, numerics
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation import domain
from sdss_photoz.evaluation.kinds import KINDS, Kind
from sdss_photoz.evaluation.neighbours import ONE_GALAXY, has_brighter_beside, has_position_beside
from sdss_photoz.progress import progress
from sdss_photoz.scores import pdfs
from sdss_photoz.scores.grid import Grid
from sdss_photoz.scores.yes_no import THRESHOLD
from sdss_photoz.surveys.sphere import unit_vectors
from sdss_photoz.training.inference import PIECE, predictions
from sdss_photoz.training.model import Predictor, Trained, name_models

CUT_AS = ("stack", "overlap_rows")  # keys of the configuration that are not recorded in a store
FLAGS = [*domain.FLAGS, "members_disagree", "neighbour", "in_training"]

_log = logging.getLogger(__name__)


def add_arguments(parser) -> None:
    """Add the arguments of ``sdss-photoz predict`` to an argparse parser."""
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
    found = "predictions" if "predicted_scatter" in table else "redshifts"
    print(
        f"{arguments.out}: {np.count_nonzero(known)} {found}; {counts}, partly covered {partial}; "
        f"{np.count_nonzero(~known)} positions lack a frame in some band and have none"
    )
    if warning := SKIES[sky_of(arguments.run)]:
        _log.warning("warning: %s", warning)
    if domain.PETROSIAN in table and (missing := tables.measured(table, domain.PETROSIAN, tables.MAGNITUDE).missing):
        print(f"{tables.describe_missing(domain.PETROSIAN, missing)}: there outside_r is by the flux of the cube")


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
    """Predict the redshifts of any positions, or another target, with a finished run's networks.

    Parameters
    ----------
    run : str or Path
        Results folder of the run.
    positions : DataFrame
        ra, dec (degrees); ebv or extinction_r (mag); optionally dered_petro_r (mag), which decides ``outside_r``. All
        columns are copied to the output: used ones as numbers, identifiers (`tables.IDENTIFIERS`) without loss of
        digits, others unchanged.
    frames : str or Path
        Folder of corrected frames, as for :func:`sdss_photoz.cubes.cutouts.cutouts`.
    out : str or Path
        Parquet table to write, atomically. The cubes are kept beside it until then.
    trial : str, optional
        The trial whose networks predict; needed where the run has several.
    stack, overlap_rows : str
        Must be as in the run's own cubes: see :func:`sdss_photoz.cubes.cutouts.cutouts`.
    symmetry_averaging : bool
        Whether to average distributions over the eight flips and rotations: see `training.symmetry_averaging`.
    threads : int
        Threads that decompress, resample, and compute networks on a CPU.
    device : {"auto", "cpu", "cuda"}
        Where networks are computed: see :func:`sdss_photoz.device.claim`.

    Returns
    -------
    DataFrame
        The output but for its column ``pdf``, in the order of `positions`.

    Raises
    ------
    UserError
        If the run is not finished or its trial unknown, models are damaged or of different networks, a column is
        missing or a value no number, there are no frames, the output exists or cannot be written, or its disk is full.
    """
    out = Path(out)
    _check_output(out)
    check_columns(positions)
    ebv = reddening(positions)
    positions = typed(positions)
    petrosian = None
    if domain.PETROSIAN in positions:
        petrosian = tables.measured(positions, domain.PETROSIAN, tables.MAGNITUDE, POSITIONS_TABLE).values
    trial = find_trial(run, trial)
    ensemble = load_ensemble(trial.models, trial.grid)
    label = next(iter(ensemble.values())).head.label
    kind, grid = KINDS[label.kind], label.grid
    widths = [] if kind.name == "yes_no" else ["width_68", "width_90"]
    predicted = [kind.point, *widths, kind.column("scatter")]
    each = [kind.column(of.name) for of in trial.models]
    if taken := [name for name in (*predicted, "has_frames", "complete", *FLAGS, *each, "pdf") if name in positions]:
        raise UserError(f"the table of positions has a column {taken[0]!r}, as the output has: rename it.")
    limits = domain.training_limits(trial.trained, trial.store, trial.selection)
    inputs = next(iter(ensemble.values())).inputs
    beside = numbers_of(positions, ebv, inputs.numbers)
    inputs.warn_of_missing(beside)
    numbers = [predictor.inputs.rows(beside) for predictor in ensemble.values()]
    with files.folder_beside(out) as folder:
        store = folder / "cubes.zarr"
        how = {"stack": stack, "overlap_rows": overlap_rows, "grid": trial.grid}
        depth = cutouts(positions[["ra", "dec"]], frames, store, threads, **how)
        full = full_memory_as_user_error("the GPU's memory is full: free it of other programs, or give --device cpu.")
        with claim(device) as claimed, cpu_threads(threads), numerics(claimed, torch.float32), full:
            found, pdf = _predict_cubes(store, ebv, numbers, depth, ensemble, claimed, symmetry_averaging)
    ra, dec = (positions[name].to_numpy(np.float64) for name in ("ra", "dec"))
    flags = domain.outside(found[limits.columns.intersection(found.columns)], limits, petrosian)
    flags["members_disagree"] = found["members_disagree"]
    flags["neighbour"] = found["brighter_beside"] | has_position_beside(ra, dec)
    flags["in_training"] = _near(ra, dec, trial.trained)
    parts = [found[predicted], found[["has_frames", "complete"]], flags[FLAGS], found[each]]
    table = pd.concat([positions, *parts], axis=1)
    column = pa.FixedSizeListArray.from_arrays(pa.array(pdf.reshape(-1)), grid.bins)
    written = pa.Table.from_pandas(table, preserve_index=False).append_column("pdf", column)
    full = files.full_disk_as_user_error(lambda why: files.no_room_message(out, f"the table {out.name}", why))
    with full, files.whole(out) as part:
        sky = sky_of(run)
        pq.write_table(name_models(written, ensemble, sky=sky, warning=SKIES[sky]), part)
    return table


def _check_output(out: Path) -> None:
    if out.suffix != ".parquet":
        raise UserError(f"--out is {out}, but a parquet table is written: give a name that ends in .parquet.")
    if out.exists():
        raise UserError(f"{out} exists already: give another --out, or remove it first.")


def _predict_cubes(
    store: Path,
    ebv: np.ndarray,
    numbers: list[np.ndarray],
    depth: np.ndarray,
    ensemble: dict[Trained, Predictor],
    device,
    symmetries: bool,
):
    """Predictions and measurements of each cube, a row for each galaxy; and distributions (galaxy, bin) float32."""
    group = open_store(store)
    grid = grid_of(group)
    predictors = [predictor.to(device) for predictor in ensemble.values()]
    label = predictors[0].head.label
    kind = KINDS[label.kind]
    tables, means = [], []
    with progress(total=len(ebv), unit="galaxy", label="predicting") as bar:
        for start in range(0, len(ebv), PIECE):
            rows = np.arange(start, min(start + PIECE, len(ebv)))
            cubes = load_cubes(store, rows)
            read = predictors[0].inputs.band_index
            coverage = np.isfinite(group["flux"][rows[0] : rows[-1] + 1]).mean(axis=(1, 2))[:, read].min(axis=1)
            found = predictions(predictors, cubes, [values[rows] for values in numbers], device, symmetries)
            members = {of.name: pdf for of, pdf in zip(ensemble, found.pdf, strict=True)}
            table, mean = combine(members, label.grid, kind, found.point)
            table["has_frames"], table["complete"] = coverage > 0, coverage >= 1
            table.loc[~table["has_frames"], table.columns[:-2]] = np.nan
            mean[~table["has_frames"]] = np.nan
            table["members_disagree"] = table[kind.column("scatter")] > table.pop("half_width")
            table["brighter_beside"] = has_brighter_beside(cubes, grid)
            tables.append(pd.concat([table, domain.measure(cubes, ebv[rows], depth[rows], grid)], axis=1))
            means.append(mean.astype(np.float32))
            bar.update(len(rows))
    return pd.concat(tables, ignore_index=True), np.concatenate(means)


def combine(
    members: dict[str, np.ndarray],
    grid: Grid | None = None,
    kind: Kind = KINDS["redshift"],
    points: np.ndarray | None = None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Average the distributions of an ensemble, as in the evaluation.

    Parameters
    ----------
    members : dict
        (galaxy, bin) probabilities by each network's name.
    grid : Grid, optional
        The bins; by default equal bins from 0 to 0.4, as many as there are probabilities.
    kind : Kind
        What is predicted.
    points : ndarray, optional
        (network, galaxy) point estimates of the networks' own; default: the means of their distributions.

    Returns
    -------
    DataFrame
        A row for each galaxy: z_phot, width_68, width_90 of the average; z_phot_scatter, the standard deviation of the
        members' redshifts; half_width, half the mean of their widths at 68 %; z_phot_{name} of each. Of another kind
        predicted in place of z_phot; of yes and no there are no widths, and half_width is the distance of the
        probability from 0.5.
    ndarray
        (galaxy, bin) float64: the average.
    """
    mean = pdfs.average(list(members.values()))
    own = [pdfs.point_estimate(pdf, grid=grid) for pdf in members.values()] if points is None else points
    each = {kind.column(name): values for name, values in zip(members, own, strict=True)}
    table = {kind.point: pdfs.point_estimate(mean, grid=grid) if points is None else np.mean(points, axis=0)}
    if kind.name != "yes_no":
        table |= {f"width_{percent}": pdfs.width(mean, percent / 100, grid) for percent in (68, 90)}
    table[kind.column("scatter")] = np.std(list(each.values()), axis=0)
    if kind.name == "yes_no":
        table["half_width"] = np.abs(table[kind.point] - THRESHOLD)
    else:
        table["half_width"] = np.mean([pdfs.width(pdf, 0.68, grid) for pdf in members.values()], axis=0) / 2
    return pd.DataFrame(table | each), mean


def _near(ra, dec, trained: pd.DataFrame) -> np.ndarray:
    """Whether a training galaxy lies within `ONE_GALAXY` arcsec of each position: (position,) bool."""
    tree = cKDTree(unit_vectors(trained["ra"], trained["dec"]))
    return np.isfinite(tree.query(unit_vectors(ra, dec), distance_upper_bound=np.radians(ONE_GALAXY / 3600))[0])
