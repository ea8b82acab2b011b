"""The scores of a trial's methods, verdicts in words, and the scores of each fold and member."""

from markupsafe import Markup

from sdss_photoz.report.labels import LABELS, SHORT
from sdss_photoz.report.score_text import SCORES, number, score_of
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.sections import floor

TEMPLATE = """\
<p>{{ found.members | length }} {{ "network" if found.members | length == 1 else "networks" }} \
(<code>{{ trial.training.network }}</code>) for {% if settings.tested_folds == 1 %}the first \
of{% elif settings.tested_folds %}each of the first {{ settings.tested_folds }} of{% else %}each of{% endif %} \
{{ settings.folds.count }} folds{% if settings.folds.repeats > 1 %}, {{ settings.folds.repeats }} \
repeats{% endif %}.{% if settings.where %} Only galaxies that fulfil <code>{{ settings.where }}</code> take \
part.{% endif %} The galaxies below were tested by networks, and by a local-linear regression, that never saw \
them. Errors are those of the draw of galaxies; that of training is the scatter over members and folds.</p>
<ul class="verdicts">
{% for sentence in verdicts %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
{% call score_table(headline, score_names, found.headline.scores | length) %}Scores of \
{{ "{:,}".format(found.galaxies.scored) }} galaxies, all methods on the same. Errors: standard deviation over \
{{ found.bootstrap.resamples }} bootstrap resamples of {{ found.bootstrap.cells }} sky cells (HEALPix NSIDE \
{{ found.bootstrap.nside }}); differences are taken on the same resamples. Outliers: |&Delta;z|/(1+z) &gt; \
{{ found.outlier }}.{% endcall %}
{% if archive %}
{% call score_table(archive, score_names, found.with_archive.scores | length) %}The same for the \
{{ "{:,}".format(found.with_archive.galaxies) }} scored galaxies that have a photometric redshift in the \
archive.{% endcall %}
{% endif %}
<p>Of {{ "{:,}".format(found.galaxies.predicted) }} predicted galaxies {{ "{:,}".format(found.galaxies.complete) }} \
have complete images and {{ "{:,}".format(found.galaxies.partial) }} partial ones (zero where no frame covers a \
pixel). {{ "{:,}".format(found.galaxies.without_frame) }} have no frame in one of the bands: they are predicted and \
flagged, and train and score nothing.{% if found.galaxies.features_missing %} \
{{ "{:,}".format(found.galaxies.features_missing) }} lack a magnitude, for which the regression takes the \
mean.{% endif %}</p>
<details>
<summary>Scores of each fold and member</summary>
{% call score_table(parts, score_names, columns=["galaxies"]) %}Scores without errors, and their standard deviations \
over folds and over members. A member alone is scored on all folds.{% endcall %}
</details>"""


def content(run: Run, trial: Trial) -> Content:
    """Verdicts and rows of the score tables, as text."""
    found = trial.metrics
    archive = found["with_archive"]
    verdicts = [verdict(found["headline"], "local_linear")]
    if archive is not None:
        verdicts.append(verdict(archive, "archive"))
    return Content(
        values={
            "found": found,
            "settings": run.config.trials[trial.name],
            "verdicts": [*verdicts, *floor.verdicts(trial)],
            "score_names": [heading for heading, *_ in SCORES.values()],
            "headline": score_rows(found["headline"]),
            "archive": score_rows(archive) if archive is not None else [],
            "parts": part_rows(found),
        }
    )


def verdict(
    comparison: dict, other: str, score: str = "sigma_mad", formats: dict = SCORES, higher: bool = False
) -> Markup:
    """One sentence that compares a score of the network, by default sigma_MAD, with that of another method (`other`).

    `higher`: whether a higher score is the better one.
    """
    each = comparison["scores"]
    network, second = (number(score, *score_of(each[name], score), formats=formats) for name in ("network", other))
    difference = comparison["differences"][f"network - {other}"][score]
    value, error = difference["value"], difference["error"]
    if value is None:
        finding = "the score is not defined without galaxies of both kinds"
    elif error is None:
        finding = "the galaxies lie in a single sky cell, so the difference has no error"
    elif abs(value) < 2 * error:
        finding = "the two cannot be told apart"
    else:
        finding = f"the network is {'better' if (value < 0) != higher else 'worse'}"
    return Markup(
        f"{formats[score][0]} of the network is {network}, that of {LABELS[other]} on the same "
        f"{comparison['galaxies']:,} galaxies {second}; the paired difference is "
        f"{number(score, value, error, signed=True, formats=formats)}: {finding}."
    )


def score_rows(comparison: dict, formats: dict = SCORES) -> list[list[str]]:
    """Rows (method, score, ...) of one comparison in metrics.json, then its differences."""
    methods = [method for method in LABELS if method in comparison["scores"]]

    def texts(found, signed=False):
        return [number(score, *score_of(found, score), signed=signed, formats=formats) for score in formats]

    rows = [[LABELS[method], *texts(comparison["scores"][method])] for method in methods]
    pairs = [tuple(pair.split(" - ")) for pair in comparison["differences"]]
    for first, second in sorted(pairs, key=lambda pair: [list(LABELS).index(name) for name in pair]):
        label = f"{SHORT[first]} − {SHORT[second]}"
        rows.append([label, *texts(comparison["differences"][f"{first} - {second}"], signed=True)])
    return rows


def part_rows(found: dict, formats: dict = SCORES) -> list[list[str]]:
    """Rows of each fold and member in metrics.json, with the scatter over them."""
    several = max((fold["repeat"] for fold in found["folds"]), default=0) > 0

    def texts(values):
        return [number(score, values.get(score), formats=formats) for score in formats]

    def scatter(values):
        return [text.lstrip("+") for text in texts(values)]

    rows = []
    for method in ("network", "local_linear"):
        for fold in found["folds"]:
            name = f"fold {fold['fold']}" + (f", repeat {fold['repeat']}" if several else "")
            rows.append([f"{SHORT[method]}, {name}", f"{fold['galaxies']:,}", *texts(fold[method])])
        rows.append([f"{SHORT[method]}, scatter over folds", "", *scatter(found["scatter"]["folds"][method])])
    for member in found["members"]:
        rows.append([f"network, member {member['member']} alone", "", *texts(member)])
    return [*rows, ["network, scatter over members", "", *scatter(found["scatter"]["members"])]]
