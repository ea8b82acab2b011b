"""The quality of the cubes by band."""

import numpy as np
import pytest
from tests.fixtures.quality import make_quality

from sdss_photoz.report.sections.contact_sheet import choose
from sdss_photoz.report.sections.cubes import flawed_pixels, read_quality, summary, summary_text


@pytest.mark.parametrize("known", ["no columns", "NaN"])
def test_tables_that_do_not_know_counts_of_pixels_have_coverage_alone(tmp_path, known):
    quality = make_quality(5, coverage_r={3: 0.25})
    counts = [name for name in quality if name.startswith(("saturated", "missing"))]
    quality = quality.drop(columns=counts) if known == "no columns" else quality.assign(**dict.fromkeys(counts, np.nan))
    quality.assign(used_r="3900-6-269", selection="digest").to_parquet(tmp_path / "quality-0.parquet")
    found = read_quality([tmp_path / "quality-0.parquet"])
    assert "used_r" not in found
    assert list(flawed_pixels(found)) == ["uncovered"]
    assert choose(found)["group"].tolist() == ["Least covered"] + ["Random"] * 5
    assert summary(found)["quantity"].unique().tolist() == ["coverage", "frames"]


def test_summary_has_median_and_extremes_of_each_band():
    quality = make_quality(3, frames_z={0: 2, 1: 7, 2: 3}, coverage_z={1: 0.25})
    quality["seeing_r"], quality["sky_r"] = [1.1, 1.5, 1.2], [np.nan, 2.0, 4.0]
    table = summary(quality).set_index(["band", "quantity"])[["median", "least", "greatest"]]
    assert table.loc[("z", "frames")].tolist() == [3, 2, 7]
    assert table.loc[("z", "coverage")].tolist() == [100, 25, 100]
    assert table.loc[("r", "sky")].tolist() == [3, 2, 4]  # no frame, no sky
    headings, rows = summary_text(summary(quality))
    assert headings == ["covered (%)", "frames", "seeing (arcsec)", "sky (nmgy/arcsec²)"]
    assert rows[2] == ["r", "100.0 (100.0 to 100.0)", "1 (1 to 1)", "1.20 (1.10 to 1.50)", "3.00 (2.00 to 4.00)"]
    assert rows[4] == ["z", "100.0 (25.0 to 100.0)", "3 (2 to 7)", "–", "–"]
