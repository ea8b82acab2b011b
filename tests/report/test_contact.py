"""The contact sheet shows the worst cubes and random ones, and says what is wrong with each."""

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.report.contact import (
    by_hash,
    choose,
    contact_sheet,
    flawed_pixels,
    flaws,
    read_quality,
    summary,
    summary_text,
)
from sdss_photoz.survey import BANDS


def quality_of(count=40, **columns):
    """A quality table without any flaw but those given."""
    table = pd.DataFrame({"object_id": 1_237_650_000_000_000_000 + 31 * np.arange(count), "row": np.arange(count)})
    for band in BANDS:
        table[f"frames_{band}"], table[f"coverage_{band}"] = 1, 1.0
        table[f"saturated_{band}"] = table[f"missing_{band}"] = 0
    for name, values in columns.items():
        for row, value in values.items():
            table.loc[row, name] = value
    return table


def group(chosen, name):
    return chosen[chosen["group"] == name]


def test_the_worst_of_each_kind_come_first_each_once():
    quality = quality_of(
        coverage_u={4: 0.9, 5: 0.2, 6: 0.0}, coverage_z={6: 0.0, 7: 0.5}, saturated_r={5: 4000, 8: 3, 9: 500},
        missing_g={1: 41}, missing_u={0: 40, 2: 40}, missing_z={2: 39},
    )  # fmt: skip
    chosen = choose(quality)
    assert group(chosen, "Least covered")["row"].tolist() == [6, 5, 7, 4]
    assert group(chosen, "Most saturated pixels")["row"].tolist() == [9, 8]  # 5 stands above
    assert group(chosen, "Most missing pixels")["row"].tolist() == [1, 2, 0]
    assert chosen["group"].unique().tolist()[-1] == "Random"


def test_each_cubes_flaw_is_named():
    quality = quality_of(
        coverage_u={0: 0.0}, coverage_g={0: 0.0, 1: 0.63, 2: 0.999}, saturated_i={2: 812, 3: 1}, missing_z={4: 2048}
    )
    assert flaws(flawed_pixels(quality))[:6] == [
        "no frame in u g", "g: 37 % not covered", "i: 20 % saturated", "i: 1 px saturated", "z: 50 % missing",
        "complete",
    ]  # fmt: skip
    chosen = choose(quality).set_index(["group", "row"])["flaw"]
    assert chosen["Least covered", 2] == "g: 4 px not covered"


def test_random_cubes_follow_from_their_object_ids_alone():
    quality = quality_of(500)
    expected = set(group(choose(quality), "Random")["object_id"])
    assert len(expected) == 10
    shuffled = quality.sample(frac=1, random_state=3)
    assert set(group(choose(shuffled), "Random")["object_id"]) == expected
    assert set(quality["object_id"].iloc[by_hash(quality["object_id"])[:10]]) == expected
    assert np.abs(by_hash(quality["object_id"])[:250].mean() - 250) < 4 * 500 / np.sqrt(12 * 500)


@pytest.mark.parametrize("known", ["no columns", "NaN"])
def test_tables_that_do_not_know_counts_of_pixels_have_coverage_alone(tmp_path, known):
    quality = quality_of(5, coverage_r={3: 0.25})
    counts = [name for name in quality if name.startswith(("saturated", "missing"))]
    quality = quality.drop(columns=counts) if known == "no columns" else quality.assign(**dict.fromkeys(counts, np.nan))
    quality.assign(used_r="3900-6-269", selection="digest").to_parquet(tmp_path / "quality-0.parquet")
    found = read_quality([tmp_path / "quality-0.parquet"])
    assert "used_r" not in found
    assert list(flawed_pixels(found)) == ["uncovered"]
    assert choose(found)["group"].tolist() == ["Least covered"] + ["Random"] * 5
    assert summary(found)["quantity"].unique().tolist() == ["coverage", "frames"]


def test_summary_has_median_and_extremes_of_each_band():
    quality = quality_of(3, frames_z={0: 2, 1: 7, 2: 3}, coverage_z={1: 0.25})
    quality["seeing_r"], quality["sky_r"] = [1.1, 1.5, 1.2], [np.nan, 2.0, 4.0]
    table = summary(quality).set_index(["band", "quantity"])[["median", "least", "greatest"]]
    assert table.loc[("z", "frames")].tolist() == [3, 2, 7]
    assert table.loc[("z", "coverage")].tolist() == [100, 25, 100]
    assert table.loc[("r", "sky")].tolist() == [3, 2, 4]  # no frame, no sky
    headings, rows = summary_text(summary(quality))
    assert headings == ["covered (%)", "frames", "seeing (arcsec)", "sky (nmgy/arcsec²)"]
    assert rows[2] == ["r", "100.0 (100.0 to 100.0)", "1 (1 to 1)", "1.20 (1.10 to 1.50)", "3.00 (2.00 to 4.00)"]
    assert rows[4] == ["z", "100.0 (25.0 to 100.0)", "3 (2 to 7)", "–", "–"]


@pytest.mark.filterwarnings("error")
def test_every_image_has_its_words_below_it():
    chosen = choose(quality_of(12, coverage_u={2: 0.5})).assign(z_spec=0.12345)
    figure = contact_sheet([np.zeros((64, 64, 3), np.uint8)] * len(chosen), chosen)
    assert len(figure.axes) == len(chosen) == 11
    words = [text.get_text() for text in figure.texts]
    assert words.count("Least covered") == words.count("Random") == 1
    assert f"{chosen['object_id'][0]}\nz = 0.123\nu: 50 % not covered" in words
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts] + [axis.get_window_extent() for axis in figure.axes]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all(box.x0 >= -0.5 and box.x1 <= figure.bbox.x1 + 0.5 and box.y0 >= -0.5 for box in boxes)
