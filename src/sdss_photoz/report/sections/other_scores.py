"""The scores of a trial that predicts no redshift: as `headline`."""

from sdss_photoz.report.labels import quantity
from sdss_photoz.report.score_text import OTHER_SCORES
from sdss_photoz.report.section import Content, Run, Trial
from sdss_photoz.report.sections.headline import part_rows, score_rows, verdict

TEMPLATE = """\
<p>{{ found.members | length }} {{ "network" if found.members | length == 1 else "networks" }} \
(<code>{{ trial.training.network }}</code>) for {% if settings.tested_folds == 1 %}the first \
of{% elif settings.tested_folds %}each of the first {{ settings.tested_folds }} of{% else %}each of{% endif %} \
{{ settings.folds.count }} folds{% if settings.folds.repeats > 1 %}, {{ settings.folds.repeats }} \
repeats{% endif %}, which predict {% if yes_no %}whether {{ quantity }} is yes{% else %}{{ quantity }}{% endif %}.\
{% if settings.where %} Only galaxies that fulfil <code>{{ settings.where }}</code> take part.{% endif %} The \
galaxies below were tested by networks, and by a local-linear regression, that never saw them. Errors are those of \
the draw of galaxies; that of training is the scatter over members and folds.</p>
<ul class="verdicts">
<li>{{ sentence }}</li>
</ul>
{% call score_table(headline, score_names, found.headline.scores | length) %}Scores of \
{{ "{:,}".format(found.galaxies.scored) }} galaxies, all methods on the same. Errors: standard deviation over \
{{ found.bootstrap.resamples }} bootstrap resamples of {{ found.bootstrap.cells }} sky cells (HEALPix NSIDE \
{{ found.bootstrap.nside }}); differences are taken on the same resamples. {% if yes_no %}AUC: area under the ROC \
curve. Completeness and purity: of the galaxies with a probability of 0.5 or more. Brier score: mean of \
(probability &minus; truth)&sup2;.{% else %}Residuals are predicted &minus; true {{ quantity }}, and their median, \
root mean square (RMSE), mean (bias) and &sigma;<sub>MAD</sub> (1.4826 times the median absolute deviation) have its \
unit, as CRPS has. Outliers: more than 3 &sigma;<sub>MAD</sub> off the median; 0.27 % of a Gaussian&rsquo;s \
are.{% endif %}{% endcall %}
<p>Of {{ "{:,}".format(found.galaxies.predicted) }} predicted galaxies {{ "{:,}".format(found.galaxies.complete) }} \
have complete images and {{ "{:,}".format(found.galaxies.partial) }} partial ones (zero where no frame covers a \
pixel). {{ "{:,}".format(found.galaxies.without_frame) }} have no frame in one of the bands: they are predicted and \
flagged, and train and score nothing.{% if found.galaxies.without_true_value %} Of \
{{ "{:,}".format(found.galaxies.without_true_value) }} the catalogue has no {{ quantity }}: they score \
nothing.{% endif %}{% if found.galaxies.features_missing %} \
{{ "{:,}".format(found.galaxies.features_missing) }} lack a magnitude, for which the regression takes the \
mean.{% endif %}</p>
<details>
<summary>Scores of each fold and member</summary>
{% call score_table(parts, score_names, columns=["galaxies"]) %}Scores without errors, and their standard deviations \
over folds and over members. A member alone is scored on all folds.{% endcall %}
</details>"""


def content(run: Run, trial: Trial) -> Content:
    """A verdict and rows of the score tables, as text."""
    found, kind = trial.metrics, trial.kind
    formats, yes_no = OTHER_SCORES[kind.name], kind.name == "yes_no"
    return Content(
        values={
            "found": found,
            "settings": run.config.trials[trial.name],
            "sentence": verdict(found["headline"], "local_linear", kind.best, formats, higher=yes_no),
            "score_names": [heading for heading, *_ in formats.values()],
            "headline": score_rows(found["headline"], formats),
            "parts": part_rows(found, formats),
            "quantity": quantity(trial),
            "yes_no": yes_no,
        }
    )
