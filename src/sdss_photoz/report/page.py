"""The report: one HTML page that holds all it shows, with its figures and tables as files beside it."""

import base64
import json
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader

from sdss_photoz import __version__, files
from sdss_photoz.config import Block, Config, Training
from sdss_photoz.cubes.store import load_cubes
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation import pdfs
from sdss_photoz.evaluation.floor import Floor
from sdss_photoz.evaluation.gap import calibration, gap_closed
from sdss_photoz.report import contact
from sdss_photoz.report import controls as of_controls
from sdss_photoz.report import figures as draw
from sdss_photoz.report import floor as of_floor
from sdss_photoz.report import tables as tabulate
from sdss_photoz.report.colour import BLANK, colour_image
from sdss_photoz.report.sky import sky as draw_sky
from sdss_photoz.report.sky import sky_table
from sdss_photoz.sample.published import difference_counts

PACKAGES = (
    "astropy", "astropy-healpix", "duckdb", "galsim", "h5py", "matplotlib", "numba", "numpy", "pandas", "pyarrow",
    "pydantic", "qp-prob", "reproject", "scipy", "snakemake", "sqlglot", "torch", "zarr",
)  # fmt: skip


class TrialFiles(NamedTuple):
    """Files of one trial that the report reads."""

    photoz: Path  # evaluation/<trial>/photoz.parquet
    ensemble: Path  # evaluation/<trial>/photoz.hdf5
    metrics: Path  # evaluation/<trial>/metrics.json
    histories: Sequence[Path]  # training/<trial>/fold-K/member-M.history.csv


def write_report(
    *,
    page: Path,
    tables: Path,
    figures: Path,
    galaxies: Path,
    counts: Path,
    store: Path,
    trials: Mapping[str, TrialFiles],
    config: Config,
    published: Path | None = None,
    quality: Sequence[Path] = (),
    context: Path | None = None,
    floor: Floor | None = None,
) -> None:
    """Write the report of a run.

    Parameters
    ----------
    page : Path
        The HTML page; images are part of it, so it can be sent on its own.
    tables, figures : Path
        Folders for the same tables as CSV and the same figures as PNG: each figure is drawn from the table of its name.
    galaxies, counts : Path
        ``sample/galaxies.parquet`` and ``sample/counts.csv``.
    store : Path
        The store of cubes, for the colour images.
    trials : mapping of name to TrialFiles
    config : config.Config
        The configuration that made the run; keys that change places, speed or devices are not shown.
    published : Path, optional
        ``sample/published.csv``: labels of the published cubes that are not the archive's.
    quality : sequence of Path
        ``cubes/quality-N.parquet`` of all chunks, for the contact sheet.
    context : Path, optional
        ``report/context.png``: galaxies in their surroundings.
    floor : floor.Floor, optional
        The floor of the run's population, to which networks are then compared.

    Raises
    ------
    UserError
        Where a table belongs to another run.
    """
    sample = pd.read_parquet(galaxies)
    photoz = {name: pd.read_parquet(trial.photoz) for name, trial in trials.items()}
    found = {name: json.loads(Path(trial.metrics).read_text(encoding="utf-8")) for name, trial in trials.items()}
    cuts = pd.read_csv(counts)
    sections = [
        _trial_section(name, trial, sample, photoz[name], found[name], store, config, Path(figures), Path(tables))
        for name, trial in trials.items()
        if config.trials[name].control == "none"
    ]
    compared = sections if floor is not None else []
    to_floor = [_compare_with_floor(section, photoz[section["name"]], floor, config) for section in compared]
    controls = _controls_section(found, config, Path(figures), Path(tables))
    files.write_csv(Path(tables) / "counts.csv", cuts)
    files.write_csv(Path(tables) / "scores.csv", pd.concat([tabulate.scores_table(found), *to_floor]))
    files.write_csv(Path(tables) / "folds_and_members.csv", tabulate.parts_table(found))
    labels = None
    if published is not None:
        labels = difference_counts(pd.read_csv(published))
        files.write_csv(Path(tables) / "published.csv", labels)
    first = next(iter(photoz.values())).drop_duplicates("object_id").set_index("object_id")["fold"]
    on_sky = sky_table(sample, sample["object_id"].map(first))
    sky = _keep(draw_sky, on_sky, Path(figures) / "sky.png", Path(tables))

    cubes = _cubes_section(sample, quality, store, Path(figures), Path(tables)) if quality else None

    environment = Environment(
        loader=PackageLoader("sdss_photoz.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    style = environment.loader.get_source(environment, "style.css")[0]
    text = environment.get_template("page.html").render(
        config=config,
        style=style,
        sections=sections,
        controls=controls,
        sky=sky,
        cubes=cubes,
        context=None if context is None else _as_data(context),
        sample=sample,
        counts_table=_count_rows(cuts),
        labels=None if labels is None else labels.to_dict("records"),
        score_names=[heading for heading, *_ in tabulate.SCORES.values()],
        resolved=yaml.safe_dump(_what_keys(config), sort_keys=False, allow_unicode=True),
        versions=_versions(),
    )
    files.write_text(page, text)


def _trial_section(name, trial, sample, photoz, found, store, config, figures, tables):
    """What the page says of one trial; its figures and tables are written on the way."""
    training = config.trial_training(name)
    scored = photoz[photoz["has_frames"]]
    entropy = redshift_entropy(sample["z_spec"], training.bins)
    drawn = {
        "redshifts": (partial(draw.redshifts, outlier=found["outlier"]), draw.redshift_table(scored)),
        "residuals": (draw.residual_curves, draw.residual_table(scored)),
        "pit": (draw.pit, draw.pit_table(scored)),
    }
    histories = {f"{path.parent.name} {path.name.split('.')[0]}": pd.read_csv(path) for path in trial.histories}
    if histories:
        curves = partial(draw.training, descended=descended_loss(training))
        drawn["training"] = curves, draw.training_table(histories, entropy)
    if config.report.examples:
        drawn["examples"] = _examples(sample, scored, trial.ensemble, photoz, store, config.report.examples)
    kept = {kind: _keep(*of, figures / f"{name}-{kind}.png", tables) for kind, of in drawn.items()}
    archive = found["with_archive"]
    verdicts = [tabulate.verdict(found["headline"], "local_linear")]
    if archive is not None:
        verdicts.append(tabulate.verdict(archive, "archive"))
    return {
        "name": name,
        "trial": config.trials[name],
        "training": training,
        "found": found,
        "entropy": entropy,
        "figures": kept,
        "verdicts": verdicts,
        "headline": tabulate.score_rows(found["headline"]),
        "archive": tabulate.score_rows(archive) if archive is not None else [],
        "scatter": tabulate.scatter_rows(found),
        "width": scored["width_68"].median(),
    }


def _compare_with_floor(section, photoz, floor, config):
    """Add what the page says of a trial beside the floor; return it as rows of the table of scores."""
    scored, best = photoz[photoz["has_frames"]], floor.images["sigma_mad"]
    closed, calibrated = gap_closed(scored, best, config.evaluation), calibration(scored, config.evaluation)
    section["verdicts"] += [
        of_floor.gap_verdict(closed, best, section["found"]["headline"]),
        of_floor.calibration_verdict(calibrated, len(scored)),
    ]
    return of_floor.gap_table(section["name"], closed, best, calibrated)


def _controls_section(found, config, figures, tables):
    """What the page says of negative controls; their figure and table are written on the way. None without any."""
    kinds = {name: config.trials[name].control for name in found}
    table = of_controls.control_table(found, kinds)
    if table.empty:
        return None
    with_networks = of_controls.with_networks(table, found, kinds)
    return {
        "rows": of_controls.control_rows(table),
        "better": table["better"].any(),
        "figure": _keep(draw.controls, with_networks, figures / "controls.png", tables),
    }


def _cubes_section(sample, quality, store, figures, tables):
    """What the page says of the cubes; the contact sheet and its tables are written on the way."""
    found = contact.read_quality(quality)
    summary = contact.summary(found)
    chosen = contact.choose(found).merge(sample[["object_id", "z_spec"]], on="object_id", how="left")
    files.write_csv(tables / "cubes.csv", summary)
    images = [colour_image(cube, BLANK) for cube in load_cubes(store, chosen["row"])]
    headings, rows = contact.summary_text(summary)
    return {
        "number": len(found),
        "headings": headings,
        "rows": rows,
        "flawed": {kind: int((n >= 0.5).any(axis=1).sum()) for kind, n in contact.flawed_pixels(found).items()},
        "headers": contact.headers_off(found),
        "sheet": _keep(partial(contact.contact_sheet, images), chosen, figures / "contact_sheet.png", tables),
    }


def descended_loss(training: Training) -> str:
    """What the training loss is: more than the cross-entropy where the recipe says so."""
    more = [
        *["CRPS term"] * (training.crps_weight > 0),
        *["spread labels"] * (training.label_width > 0),
        *["balanced draws"] * (training.sampling == "balanced"),
        *["dropout"] * (training.dropout > 0),
    ]
    return f"training ({', '.join(more)})" if more else "training (cross-entropy)"


def redshift_entropy(z, bins: int) -> float:
    """Entropy (nat) of the histogram of redshifts: the loss of a network that knows no more than that."""
    share = np.histogram(z, bins=pdfs.bin_edges(bins))[0] / len(z)
    share = share[share > 0]
    return float(-np.sum(share * np.log(share)))


def _examples(sample, scored, ensemble, photoz, store, number):
    """Galaxies spread evenly over the ranks of redshift, so that nobody chose them: what draws them, and its table."""
    once = scored[scored["repeat"] == 0].sort_values(["z_spec", "object_id"])
    number = min(number, len(once))
    chosen = once.iloc[((np.arange(number) + 0.5) / number * len(once)).astype(int)]
    rows = np.sort(chosen.index.to_numpy())  # h5py reads rows in order
    with h5py.File(ensemble) as file:
        if len(file["data/pdfs"]) != len(photoz):
            raise UserError(f"{ensemble} and photoz.parquet beside it hold different galaxies: evaluate again.")
        found = dict(zip(rows, file["data/pdfs"][rows], strict=True))
    cube_rows = sample.set_index("object_id").loc[chosen["object_id"], "row"].to_numpy()
    images = [colour_image(cube) for cube in load_cubes(store, cube_rows)]
    distributions = pdfs.normalise(np.stack([found[row] for row in chosen.index]))
    return partial(draw.examples, images), draw.examples_table(chosen, distributions)


def _keep(drawing, table, path, tables):
    """Write a table and the figure that is drawn from it, under one name; return it for the page, as data of an img."""
    files.write_csv(tables / f"{path.stem}.csv", table)
    with files.whole(path) as part:
        draw.save(drawing(table), part)
    return _as_data(path)


def _as_data(path):
    """A PNG file as data of an img tag."""
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()


def _what_keys(block):
    """The keys of a block that enter results, defaults included, as JSON values."""
    if isinstance(block, Block):
        return {key: _what_keys(getattr(block, key)) for key in block.what_keys()}
    if isinstance(block, dict):
        return {key: _what_keys(value) for key, value in block.items()}
    return list(block) if isinstance(block, tuple) else block


def _count_rows(cuts):
    """Header and rows of the table of cuts, numbers with thousands separated."""
    rows = [
        [f"{value:,}" if isinstance(value, int) else str(value) for value in row]
        for row in cuts.astype(object).where(cuts.notna(), "").to_numpy().tolist()
    ]
    return {"columns": list(cuts), "rows": rows}


def _versions():
    found = {"sdss-photoz": __version__, "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an environment of one stage does not hold the others' packages
    return found
