"""How many galaxies each cut of the sample left."""

import pandas as pd

from sdss_photoz.report.section import Content, Run

TEMPLATE = """\
<div class="wide"><table class="narrow">
<caption>What each cut left.</caption>
<thead><tr>{% for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead>
{{ table_body(rows) }}
</table></div>"""


def content(run: Run) -> Content:
    """The table of cuts."""
    return Content(values={"columns": list(run.counts), "rows": count_rows(run.counts)}, tables={"counts": run.counts})


def count_rows(counts: pd.DataFrame) -> list[list[str]]:
    """Rows of the table of cuts as text, thousands separated, empty where a value is missing."""
    values = counts.astype(object).where(counts.notna(), "").to_numpy().tolist()
    return [[f"{value:,}" if isinstance(value, int) else str(value) for value in row] for row in values]
