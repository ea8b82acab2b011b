"""Labels of the published cubes that differ from the archive's values."""

from sdss_photoz.report.section import Content, Run
from sdss_photoz.sample.paper_labels import difference_counts

TEMPLATE = """\
<div class="wide"><table class="narrow">
<caption>Labels of the published cubes that are not the archive&rsquo;s values of the same spectra: how many differ \
by more than is allowed, and the largest difference. <code>sample/published.csv</code> lists them.</caption>
<thead><tr><th scope="col">label</th><th scope="col">allowed</th><th scope="col">differing</th><th \
scope="col">largest</th></tr></thead>
<tbody>
{% for row in labels %}
<tr><th \
scope="row">{{ row.label }}</th><td>{{ "%g" | format(row.allowed) }}</td><td>{{ "{:,}".format(row.differing) }}</td>\
<td>{{ "%.3g" | format(row.largest) if row.differing else "&ndash;" | safe }}</td></tr>
{% endfor %}
</tbody>
</table></div>"""


def content(run: Run) -> Content | None:
    """How many labels of each kind differ; None for cubes that were cut from frames."""
    if run.published is None:
        return None
    labels = difference_counts(run.published)
    return Content(values={"labels": labels.to_dict("records")}, tables={"published": labels})
