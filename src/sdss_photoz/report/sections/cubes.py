"""Quality of the cubes by band: coverage, frames, seeing and sky; and frames whose headers are wrong."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from sdss_photoz.cubes.frame_astrometry import list_names
from sdss_photoz.report.section import Content, Run
from sdss_photoz.surveys import CUBE, SDSS, PixelGrid

QUANTITIES = {  # columns of the quality tables: heading, unit, factor, digits
    "coverage": ("covered", "%", 100, 1),
    "frames": ("frames", "", 1, 0),
    "seeing": ("seeing", "arcsec", 1, 2),
    "sky": ("sky", "nmgy/arcsec²", 1, 2),
}
HEADERS = ("by_terms", "unchecked")  # columns of the quality tables: frames whose header is wrong, or unchecked
TEMPLATE = """\
<p>Of {{ "{:,}".format(number) }} cubes, pixels of one band or more are not covered by any frame in \
{{ "{:,}".format(flawed.uncovered) }}{% if "saturated" in flawed %}, saturated in \
{{ "{:,}".format(flawed.saturated) }}{% endif %}{% if "missing" in flawed %}, missing from a frame in \
{{ "{:,}".format(flawed.missing) }}{% endif %}.</p>
{% if headers.by_terms %}
<p class="notice">The headers of {{ "{:,}".format(headers.by_terms.number) }} frames are more than 1 pixel off, so \
these lie by their great-circle terms, in {{ "{:,}".format(headers.by_terms.cubes) }} cubes: \
{{ headers.by_terms.frames }}.</p>
{% endif %}
{% if headers.unchecked %}
<p class="notice">Nothing tells whether the headers of {{ "{:,}".format(headers.unchecked.number) }} frames are \
right, in {{ "{:,}".format(headers.unchecked.cubes) }} cubes, for neither they nor the archive have their \
great-circle terms: {{ headers.unchecked.frames }}.</p>
{% endif %}
<div class="wide"><table class="narrow">
<caption>Median over all cubes, and the extremes in brackets: pixels that a frame covers, frames that cover any \
pixel{% if headings | length > 2 %}, and the frames&rsquo; median seeing (FWHM) and sky{% endif %}.</caption>
<thead><tr><th scope="col">band</th>{% for name in headings %}<th \
scope="col">{{ name }}</th>{% endfor %}</tr></thead>
{{ table_body(rows) }}
</table></div>"""


def content(run: Run) -> Content | None:
    """Flaws and quality of all cubes; None where no quality table is given."""
    if run.quality is None:
        return None
    table = summary(run.quality, run.grid)
    headings, rows = summary_text(table, run.grid.bands)
    flawed = {kind: int((n >= 0.5).any(axis=1).sum()) for kind, n in flawed_pixels(run.quality, run.grid).items()}
    return Content(
        values={
            "number": len(run.quality),
            "headings": headings,
            "rows": rows,
            "flawed": flawed,
            "headers": wrong_headers(run.quality),
        },
        tables={"cubes": table},
    )


def read_quality(paths: Iterable[Path]) -> pd.DataFrame:
    """Read the columns of the quality tables that the report needs, of all chunks; absent ones are left out."""
    kinds = (*QUANTITIES, "saturated", "missing", *HEADERS)
    wanted = ["object_id", "row", *(f"{kind}_{band}" for kind in kinds for band in SDSS.band_names)]
    parts = []
    for path in paths:
        present = pq.read_schema(path).names
        parts.append(pd.read_parquet(path, columns=[name for name in wanted if name in present]))
    return pd.concat(parts, ignore_index=True)


def flawed_pixels(quality: pd.DataFrame, grid: PixelGrid = CUBE) -> dict[str, np.ndarray]:
    """Number of pixels with each kind of flaw, (galaxy, band) float64; kinds that no table counts are left out."""
    found = {"uncovered": (1 - _by_band(quality, "coverage", grid)) * grid.size**2}
    found |= {kind: _by_band(quality, kind, grid) for kind in ("saturated", "missing")}
    return {kind: np.nan_to_num(pixels) for kind, pixels in found.items() if not np.isnan(pixels).all()}


def wrong_headers(quality: pd.DataFrame) -> dict[str, dict]:
    """Frames whose header is wrong or could not be checked.

    Returns
    -------
    dict
        By kind, as in `HEADERS`, where there are any: ``cubes``, the number of cubes; ``number`` of frames; and
        ``frames``, their names, each after its band.
    """
    found = {}
    for kind in HEADERS:
        columns = {
            band: quality[f"{kind}_{band}"].fillna("") for band in SDSS.band_names if f"{kind}_{band}" in quality
        }
        names = {band: sorted(set(" ".join(column.unique()).split())) for band, column in columns.items()}
        frames = [f"{band} {name}" for band, of_band in names.items() for name in of_band]
        if frames:
            cubes = np.any([column != "" for column in columns.values()], axis=0).sum()
            found[kind] = {"cubes": int(cubes), "number": len(frames), "frames": list_names(frames)}
    return found


def _by_band(quality, kind, grid):
    columns = [quality.get(f"{kind}_{band}", pd.Series(np.nan, quality.index)) for band in grid.bands]
    return np.stack([column.to_numpy(float) for column in columns], axis=1)


def summary(quality: pd.DataFrame, grid: PixelGrid = CUBE) -> pd.DataFrame:
    """Median and extremes of each known quantity over all cubes: band, quantity, unit, median, least, greatest."""
    rows = []
    for quantity, (_, unit, factor, _) in QUANTITIES.items():
        values = factor * _by_band(quality, quantity, grid)
        for band, column in zip(grid.bands, values.T, strict=True):
            column = column[np.isfinite(column)]
            if column.size:
                rows.append((band, quantity, unit, np.median(column), column.min(), column.max()))
    return pd.DataFrame(rows, columns=["band", "quantity", "unit", "median", "least", "greatest"])


def summary_text(table: pd.DataFrame, bands: Sequence[str] = CUBE.bands) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each band of "median (least to greatest)", of the table of `summary`."""
    kinds = list(table["quantity"].unique())
    headings = [f"{QUANTITIES[kind][0]} ({QUANTITIES[kind][1]})".removesuffix(" ()") for kind in kinds]
    places = table.set_index(["band", "quantity"])[["median", "least", "greatest"]]
    rows = []
    for band in bands:
        row = [band]
        for kind in kinds:
            if (band, kind) not in places.index:
                row.append("–")
                continue
            digits = QUANTITIES[kind][3]
            median, least, greatest = (f"{value:.{digits}f}" for value in places.loc[(band, kind)])
            row.append(f"{median} ({least} to {greatest})")
        rows.append(row)
    return headings, rows
