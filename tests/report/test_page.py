"""The page holds what it shows, says what the numbers say, and is the same whenever it is made."""

import base64
import json
import pkgutil
import re
import shutil
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from tests.fixtures.synthetic_run import make_run, outputs

from sdss_photoz import __version__
from sdss_photoz.config import Config, Evaluation, check
from sdss_photoz.cubes.layout import create_store
from sdss_photoz.cubes.store import write_shard
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation.evaluate import evaluate
from sdss_photoz.evaluation.floor import Floor
from sdss_photoz.report import sections
from sdss_photoz.report.page import write_report
from sdss_photoz.report.section import Content, TrialFiles
from sdss_photoz.report.style import save
from sdss_photoz.scores.grid import Grid
from sdss_photoz.surveys import SDSS
from sdss_photoz.targets.label import Label

COUNT = 300


def make_store(folder, galaxies):
    """A store of round galaxies whose colours follow redshift."""
    store = folder / "cubes.zarr"
    create_store(store, galaxies, 1)
    y, x = np.mgrid[:64, :64] - 31.5
    light = np.exp(-np.hypot(y, x) / 4)[None, :, :, None]
    bands = np.exp(galaxies["z_spec"].to_numpy()[:, None] * np.array([-9, -6, 0, 2, 3])) * [0.3, 0.6, 1, 1.3, 1.6]
    flux = light * bands[:, None, None, :] + np.random.default_rng(1).normal(0, 0.03, (len(galaxies), 64, 64, 5))
    write_shard(store, 0, flux.astype(np.float32), np.ones((len(galaxies), 5), dtype=np.uint16))
    return store


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    inputs = make_run(folder, count=COUNT)
    evaluate(**inputs, **outputs(folder), settings=Evaluation(bootstrap=30))
    galaxies = pd.read_parquet(inputs["galaxies"])
    counts = folder / "sample/counts.csv"
    counts.write_text("cut,galaxies,removed\nquery,1400,0\nunique,300,1100\n")
    made = outputs(folder)
    context = folder / "context.png"
    save(Figure(figsize=(1, 1)), context)
    histories = sorted((folder / "training/images").glob("fold-*/member-*.history.csv"))
    return {
        "galaxies": inputs["galaxies"],
        "counts": counts,
        "store": make_store(folder, galaxies),
        "quality": quality_of(folder, galaxies),
        "context": context,
        "trials": {"images": TrialFiles(made["photoz"], made["ensemble"], made["scores"], histories)},
        "config": check({"run": "made_up", "archive": {"mirror": "/data/secret-place"}, "report": {"examples": 4}}),
    }


def quality_of(folder, galaxies):
    """Quality tables of two chunks; the second galaxy has no g, and the third saturated pixels in i."""
    table = galaxies[["object_id", "row"]].copy()
    for band in SDSS.band_names:
        table[f"frames_{band}"], table[f"coverage_{band}"], table[f"saturated_{band}"] = 1, 1.0, 0
        table[f"seeing_{band}"] = np.linspace(1.0, 1.4, len(table))
    table.loc[1, ["frames_g", "coverage_g"]] = 0
    table.loc[2, "saturated_i"] = 40
    paths = [folder / f"quality-{chunk}.parquet" for chunk in range(2)]
    for path, part in zip(paths, (table[:100], table[100:]), strict=True):
        part.to_parquet(path)
    return paths


def write(folder, arguments, **changes):
    places = {"page": folder / "index.html", "tables": folder / "tables", "figures": folder / "figures"}
    write_report(**places, **{**arguments, **changes})
    return (folder / "index.html").read_text()


@pytest.fixture(scope="module")
def report(tmp_path_factory, arguments):
    folder = tmp_path_factory.mktemp("written")
    return folder, write(folder, arguments)


def test_page_works_offline(report):
    _, page = report
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", page)
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "url(" not in page


def test_headline_numbers_stand_first_with_errors_beside_the_baselines(report, arguments):
    _, page = report
    found = json.loads(arguments["trials"]["images"].metrics.read_text())["headline"]["scores"]
    for method in ("network", "local_linear"):
        entry = found[method]["sigma_mad"]
        text = f"{entry['value']:.5f} ± {entry['error']:.5f}"
        assert text in page
        assert page.index(text) < page.index("<img")


def test_page_shows_every_figure_that_lies_beside_it(report):
    folder, page = report
    pictures = sorted(path.name for path in (folder / "figures").glob("*.png"))
    assert pictures == [
        "contact_sheet.png", "images-examples.png", "images-pit.png", "images-redshifts.png", "images-residuals.png",
        "images-training.png", "sky.png",
    ]  # fmt: skip
    assert page.count("data:image/png;base64,") == len(pictures) + 1  # and that of the wide images


def test_tables_hold_the_scores_in_full(report, arguments):
    folder, _ = report
    scores = pd.read_csv(folder / "tables/scores.csv").set_index(["galaxies", "method", "score"])
    found = json.loads(arguments["trials"]["images"].metrics.read_text())
    expected = found["headline"]["differences"]["network - local_linear"]["sigma_mad"]
    assert scores.loc[("headline", "network - local_linear", "sigma_mad"), "value"] == expected["value"]
    pit = pd.read_csv(folder / "tables/images-pit.csv")
    assert pit["ensemble"].sum() == found["galaxies"]["scored"]
    assert (folder / "tables/counts.csv").read_text() == arguments["counts"].read_text()


def test_cubes_are_counted_summed_up_and_shown_worst_first(report, arguments):
    folder, page = report
    assert "Of 300 cubes, pixels of one band or more are not covered by any frame in 1, saturated in 1." in page
    assert '<th scope="row">g</th><td>100.0 (0.0 to 100.0)</td><td>1 (0 to 1)</td><td>1.20 (1.00 to 1.40)</td>' in page
    sheet = pd.read_csv(folder / "tables/contact_sheet.csv")
    galaxies = pd.read_parquet(arguments["galaxies"])
    assert sheet["group"].tolist() == ["Least covered", "Most saturated pixels"] + ["Random"] * 10
    assert sheet["flaw"].tolist()[:2] == ["no frame in g", "i: 40 px saturated"]
    assert sheet["object_id"].tolist()[:2] == galaxies["object_id"].tolist()[1:3]
    assert sheet["z_spec"].tolist()[:2] == pytest.approx(galaxies["z_spec"].tolist()[1:3])
    assert base64.b64encode(arguments["context"].read_bytes()).decode() in page


def test_frames_with_wrong_headers_are_counted_and_named(report, arguments, tmp_path):
    _, page = report
    assert "great-circle" not in page  # all headers were right
    paths = []
    for path in arguments["quality"]:
        table = pd.read_parquet(path)
        for band in SDSS.band_names:
            table[f"by_terms_{band}"] = table[f"unchecked_{band}"] = ""
        paths.append(tmp_path / path.name)
        table.loc[table.index[[0, 2]], "by_terms_r"] = "2728-5-413"
        table.loc[table.index[2], "by_terms_g"] = "2728-5-413 4263-4-115"
        table.loc[table.index[5], "by_terms_u"] = None  # published cubes have no frames
        table.loc[table.index[1], "unchecked_z"] = "94-1-11"
        table.to_parquet(paths[-1])
    page = write(tmp_path, arguments, quality=paths)
    assert (
        "The headers of 3 frames are more than 1 pixel off, so these lie by their great-circle terms, in 4 cubes: "
        "g 2728-5-413, g 4263-4-115, r 2728-5-413." in page
    )
    assert "whether the headers of 1 frames are right, in 2 cubes" in page
    assert "great-circle terms: z 94-1-11." in page


def test_report_without_quality_and_wide_images_has_no_such_section(arguments, tmp_path):
    page = write(tmp_path, arguments, quality=[], context=None, config=Config(report={"examples": 0}))
    assert "<h2>Cubes</h2>" not in page
    assert "<h2>Cubes</h2>" in write(tmp_path, arguments, context=None, config=Config(report={"examples": 0}))


def test_same_inputs_give_the_same_bytes(report, arguments, tmp_path):
    folder, _ = report
    write(tmp_path, arguments)
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(paths) > 10
    for path in paths:
        assert (folder / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_page_names_no_place_time_or_program_that_wrote_the_pictures(report):
    folder, page = report
    assert "secret-place" not in page
    assert not re.search(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}\b", page)
    for path in (folder / "figures").glob("*.png"):
        assert b"Software" not in path.read_bytes()


def test_configuration_and_versions_that_made_the_run_are_shown(report):
    _, page = report
    assert "run: made_up" in page
    assert f"learning_rate: {Config().training.learning_rate}\n" in page  # left at its default
    for package, found in {"sdss-photoz": __version__, "torch": version("torch"), "numpy": np.__version__}.items():
        assert re.search(rf">{package}</th><td>{re.escape(found)}</td>", page), package


def test_pictures_have_words_and_tables_have_headings(report):
    _, page = report
    pictures, tables = re.findall(r"<img[^>]*>", page), re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert all(len(re.search(r'alt="([^"]*)"', picture)[1].split()) > 3 for picture in pictures)
    assert len(tables) >= 4
    assert all('<th scope="row">' in table for table in tables)


def test_a_title_with_markup_stays_text(arguments, tmp_path):
    page = write(tmp_path, arguments, config=check({"report": {"title": "a <b>bold</b> & brave title", "examples": 0}}))
    assert "<h1>a &lt;b&gt;bold&lt;/b&gt; &amp; brave title</h1>" in page


def test_report_without_examples_histories_and_archive_redshifts_is_written(arguments, tmp_path):
    trial = arguments["trials"]["images"]
    made = tmp_path / "evaluation"
    shutil.copytree(trial.photoz.parent, made)
    scores = json.loads((made / "metrics.json").read_text())
    scores["with_archive"] = None
    (made / "metrics.json").write_text(json.dumps(scores))
    photoz = pd.read_parquet(made / "photoz.parquet").assign(z_phot_archive=np.nan)
    photoz.to_parquet(made / "photoz.parquet")
    files = TrialFiles(made / "photoz.parquet", made / "photoz.hdf5", made / "metrics.json", [])
    page = write(tmp_path, arguments, trials={"images": files}, config=Config(report={"examples": 0}), quality=[])
    assert page.count("<img") == 5
    assert "photometric redshift in the archive" not in page


@pytest.mark.filterwarnings("error")
def test_the_smallest_run_has_a_report(tmp_path):
    inputs = make_run(tmp_path, count=70, members=1, folds=2, bins=30)
    made = outputs(tmp_path)
    label = Label(grid=Grid(bins=30))
    evaluate(**inputs, **made, settings=Evaluation(bootstrap=20, bootstrap_nside=1), label=label)
    counts = tmp_path / "counts.csv"
    counts.write_text("cut,galaxies,removed\nquery,70,0\n")
    page = write(
        tmp_path / "report",
        {"galaxies": inputs["galaxies"], "counts": counts, "config": Config(report={"examples": 0})},
        store=tmp_path / "none.zarr",
        trials={"images": TrialFiles(made["photoz"], made["ensemble"], made["scores"], [])},
    )
    assert "1 network (" in page
    assert "so the difference has no error" in page


def test_each_trial_has_its_section(arguments, tmp_path):
    trial = arguments["trials"]["images"]
    config = check({"trials": {"images": {}, "twenty_percent": {"members": 1}}, "report": {"examples": 0}})
    page = write(tmp_path, arguments, trials={"images": trial, "twenty_percent": trial}, config=config)
    assert page.index("Trial <code>images</code>") < page.index("Trial <code>twenty_percent</code>")
    scores = pd.read_csv(tmp_path / "tables/scores.csv")
    assert scores["trial"].unique().tolist() == ["images", "twenty_percent"]
    assert (tmp_path / "figures/twenty_percent-pit.png").is_file()


@pytest.mark.parametrize(
    ("tested", "words"),
    [(None, "for each of 5 folds"), (1, "for the first of 5 folds"), (2, "for each of the first 2 of 5")],
)
def test_folds_that_were_left_out_are_told(arguments, tmp_path, tested, words):
    config = check({"trials": {"images": {"tested_folds": tested, "folds": {"count": 5}}}, "report": {"examples": 0}})
    assert words in write(tmp_path, arguments, config=config)


def with_controls(trial, folder, sigma_mad, correlation):
    """Files of a trial whose metrics.json holds a negative control of this score."""
    shutil.copytree(trial.photoz.parent, folder)
    scores = json.loads(trial.metrics.read_text())
    entry = lambda value, error: {"sigma_mad": {"value": value, "error": error}}  # noqa: E731
    scores["controls"] = {
        "galaxies": 298,
        "scores": {"control": entry(sigma_mad, 0.002), "prior": entry(0.045, 0.002)},
        "differences": {"control - prior": entry(sigma_mad - 0.045, 0.001)},
        "correlation": {"value": correlation, "error": 0.06},
    }
    (folder / "metrics.json").write_text(json.dumps(scores))
    return trial._replace(metrics=folder / "metrics.json")


def test_negative_controls_have_a_section_of_their_own_and_a_better_one_is_flagged(report, arguments, tmp_path):
    trial = arguments["trials"]["images"]
    config = check({"trials": {"images": {}, "masked": {"control": "target_removed"}}, "report": {"examples": 0}})
    images = with_controls(trial, tmp_path / "images", 0.0455, 0.02)
    trials = {"images": images, "masked": with_controls(trial, tmp_path / "masked", 0.0425, 0.3)}
    page = write(tmp_path / "page", arguments, trials=trials, config=config, quality=[])
    table = pd.read_csv(tmp_path / "page/tables/controls.csv")
    assert table["control"].tolist() == ["forest", "target_removed", "network"]
    assert table["better"].tolist() == [False, True, False]
    assert "A negative control scores better than the prior" in page
    assert "forest on place, depth, noise, seeing and order (images)" in page
    assert "<td>0.04250 ± 0.00200</td><td>0.04500 ± 0.00200</td><td>−0.00250 ± 0.00100</td>" in page
    assert "<td>the prior&#39;s, within its error</td>" in page
    assert "BETTER than the prior" in page
    assert (tmp_path / "page/figures/controls.png").is_file()
    assert "Trial <code>masked</code>" not in page
    assert not list((tmp_path / "page").rglob("masked-*"))
    assert "Negative controls" not in report[1]


def test_beside_a_floor_the_gap_and_the_calibration_are_judged_in_words(report, arguments, tmp_path, monkeypatch):
    best = {"sigma_mad": {"value": 0.004, "error": 0.0001}}
    floor = Floor(images=best, colours=best, noise_free=best)
    page = write(tmp_path, arguments, floor=floor, config=Config(report={"examples": 0}), quality=[])
    scores = pd.read_csv(tmp_path / "tables/scores.csv").set_index(["method", "score"])
    closed = scores.loc[("network", "gap_closed")]
    regression, network = (scores.loc[(name, "sigma_mad"), "value"].iloc[0] for name in ("local_linear", "network"))
    assert closed["value"] == pytest.approx((regression - network) / (regression - 0.004))
    assert "the floor (0.00400 ± 0.00010)" in page
    assert (
        "At least 70 % are asked of a run with 20,000 test galaxies, such as config/embedded-large.yaml; this" in page
    )
    assert "(fail)" not in page
    monkeypatch.setattr("sdss_photoz.report.sections.floor.REQUIRED_GALAXIES", 100)
    page = write(tmp_path, arguments, floor=floor, config=Config(report={"examples": 0}), quality=[])
    assert f"At least 70 % are asked: {'pass' if closed['value'] >= 0.7 else 'fail'}." in page
    distances = [scores.loc[(name, "pit_ks"), "value"] for name in ("network", "member_0", "member_1")]
    for distance, asked in zip(distances, (0.03, 0.015, 0.015), strict=True):
        assert f"{distance:.4f} ({'pass' if distance <= asked else 'fail'})" in page
    assert "floor" not in report[1]
    assert "floor" not in set(pd.read_csv(report[0] / "tables/scores.csv")["method"])


def test_distributions_of_another_evaluation_are_refused(arguments, tmp_path):
    trial = arguments["trials"]["images"]
    short = tmp_path / "photoz.parquet"
    pd.read_parquet(trial.photoz).iloc[1:].to_parquet(short)
    with pytest.raises(UserError, match="hold different galaxies: evaluate again"):
        write(tmp_path, arguments, trials={"images": trial._replace(photoz=short)})


def test_a_module_and_its_line_in_the_list_are_a_section(report, arguments, tmp_path, monkeypatch):
    def draw(table):
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot(table["z"], table["galaxies"])
        return figure

    def content(run):
        table = pd.DataFrame({"z": [0.1, 0.2], "galaxies": [3, 4]})
        return Content(values={"words": "made < up"}, tables={"histogram": table}, figures={"histogram": draw})

    template = '{% call figure(figures.histogram, "A histogram of redshifts") %}{{ words }}{% endcall %}'
    section = SimpleNamespace(TEMPLATE=template, content=content)
    monkeypatch.setitem(sections.OF_RUN, "More", (section, SimpleNamespace(content=lambda run: None)))
    page = write(tmp_path, arguments)
    before, after = report[1].split("</main>")
    head, added = page[: len(before)], page[len(before) :]
    assert head == before
    assert added.endswith(after)
    assert added.startswith('<section>\n<h2>More</h2>\n<figure>\n<img src="data:image/png;base64,')
    assert "<figcaption>made &lt; up</figcaption>" in added
    assert (tmp_path / "tables/histogram.csv").read_text() == "z,galaxies\n0.1,3\n0.2,4\n"
    assert (tmp_path / "figures/histogram.png").is_file()


def test_every_figure_of_every_section_is_drawn_from_its_table(report):
    folder, _ = report
    figures, tables = ({path.stem for path in folder.glob(pattern)} for pattern in ("figures/*.png", "tables/*.csv"))
    assert figures < tables


def test_every_section_is_on_the_page():
    listed = {module.__name__ for group in (sections.OF_TRIAL, *sections.OF_RUN.values()) for module in group}
    found = {f"{sections.__name__}.{module.name}" for module in pkgutil.iter_modules(sections.__path__)}
    assert found - listed == {f"{sections.__name__}.floor"}  # sentences of the headline
