"""The report: one HTML page that holds all it shows, with its figures and tables as files beside it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pandas as pd
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from sdss_photoz import files
from sdss_photoz.config import Config
from sdss_photoz.evaluation.floor import Floor
from sdss_photoz.report.section import Content, Run, Trial, TrialFiles
from sdss_photoz.report.sections import OF_RUN, OF_TRIALS
from sdss_photoz.report.sections.cubes import read_quality
from sdss_photoz.report.style import png_data, save


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
    run = Run(
        config=config,
        galaxies=pd.read_parquet(galaxies),
        counts=pd.read_csv(counts),
        store=store,
        trials={
            name: Trial(name, paths, config, floor if config.trial_target(name).column == "z_spec" else None)
            for name, paths in trials.items()
        },
        published=None if published is None else pd.read_csv(published),
        quality=read_quality(quality) if quality else None,
        context=context,
    )
    environment = Environment(
        loader=PackageLoader("sdss_photoz.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    macros = environment.get_template("macros.html").module
    environment.globals |= {name: getattr(macros, name) for name in ("figure", "score_table", "table_body")}
    text = environment.get_template("page.html").render(
        config=config,
        run=run,
        style=environment.loader.get_source(environment, "page.css")[0],
        chapters=list(_chapters(run, environment, Path(tables), Path(figures))),
    )
    files.write_text(page, text)


def _chapters(run: Run, environment: Environment, tables: Path, figures: Path) -> Iterator[tuple[Markup, list[Markup]]]:
    """Heading and HTML fragments of each chapter that has any; tables and figures are written on the way."""
    chapters = [
        (Markup("Trial <code>{}</code>").format(trial.name), OF_TRIALS[trial.kind.name], trial)
        for trial in run.trials.values()
        if trial.control == "none"
    ]
    chapters += [(Markup(heading), sections, None) for heading, sections in OF_RUN.items()]
    for heading, sections, trial in chapters:
        fragments = [_fragment(section, run, trial, environment, tables, figures) for section in sections]
        if fragments := [fragment for fragment in fragments if fragment]:
            yield heading, fragments


def _fragment(
    section: ModuleType, run: Run, trial: Trial | None, environment: Environment, tables: Path, figures: Path
) -> Markup:
    """Write a section's tables and figures; return its HTML, empty where it has nothing to show."""
    arguments = {"run": run} if trial is None else {"run": run, "trial": trial}
    content: Content | None = section.content(**arguments)
    if content is None:
        return Markup()
    prefix = "" if trial is None else f"{trial.name}-"
    for name, table in content.tables.items():
        files.write_csv(tables / f"{prefix}{name}.csv", table)
    drawn = {}
    for name, draw in content.figures.items():
        path = figures / f"{prefix}{name}.png"
        with files.whole(path) as part:
            save(draw(content.tables[name]), part)
        drawn[name] = png_data(path)
    html = environment.from_string(section.TEMPLATE).render(**arguments, **content.values, figures=drawn)
    return Markup(html.rstrip("\n"))
