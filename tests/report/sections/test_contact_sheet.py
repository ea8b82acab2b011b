"""The contact sheet shows the worst cubes and random ones, each with its largest flaw."""

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.quality import make_quality

from sdss_photoz.report.sections.contact_sheet import by_hash, choose, contact_sheet, flaws
from sdss_photoz.report.sections.cubes import flawed_pixels


def group(chosen, name):
    return chosen[chosen["group"] == name]


def test_the_worst_of_each_kind_come_first_each_once():
    quality = make_quality(
        coverage_u={4: 0.9, 5: 0.2, 6: 0.0}, coverage_z={6: 0.0, 7: 0.5}, saturated_r={5: 4000, 8: 3, 9: 500},
        missing_g={1: 41}, missing_u={0: 40, 2: 40}, missing_z={2: 39},
    )  # fmt: skip
    chosen = choose(quality)
    assert group(chosen, "Least covered")["row"].tolist() == [6, 5, 7, 4]
    assert group(chosen, "Most saturated pixels")["row"].tolist() == [9, 8]  # 5 stands above
    assert group(chosen, "Most missing pixels")["row"].tolist() == [1, 2, 0]
    assert chosen["group"].unique().tolist()[-1] == "Random"


def test_each_cubes_flaw_is_named():
    quality = make_quality(
        coverage_u={0: 0.0}, coverage_g={0: 0.0, 1: 0.63, 2: 0.999}, saturated_i={2: 812, 3: 1}, missing_z={4: 2048}
    )
    assert flaws(flawed_pixels(quality))[:6] == [
        "no frame in u g", "g: 37 % not covered", "i: 20 % saturated", "i: 1 px saturated", "z: 50 % missing",
        "complete",
    ]  # fmt: skip
    chosen = choose(quality).set_index(["group", "row"])["flaw"]
    assert chosen["Least covered", 2] == "g: 4 px not covered"


def test_random_cubes_follow_from_their_object_ids_alone():
    quality = make_quality(500)
    expected = set(group(choose(quality), "Random")["object_id"])
    assert len(expected) == 10
    shuffled = quality.sample(frac=1, random_state=3)
    assert set(group(choose(shuffled), "Random")["object_id"]) == expected
    assert set(quality["object_id"].iloc[by_hash(quality["object_id"])[:10]]) == expected
    assert np.abs(by_hash(quality["object_id"])[:250].mean() - 250) < 4 * 500 / np.sqrt(12 * 500)


@pytest.mark.filterwarnings("error")
def test_every_image_has_its_words_below_it():
    chosen = choose(make_quality(12, coverage_u={2: 0.5})).assign(z_spec=0.12345)
    figure = contact_sheet([np.zeros((64, 64, 3), np.uint8)] * len(chosen), chosen)
    assert len(figure.axes) == len(chosen) == 11
    words = [text.get_text() for text in figure.texts]
    assert words.count("Least covered") == words.count("Random") == 1
    assert f"{chosen['object_id'][0]}\nz = 0.123\nu: 50 % not covered" in words
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts] + [axis.get_window_extent() for axis in figure.axes]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all(box.x0 >= -0.5 and box.x1 <= figure.bbox.x1 + 0.5 and box.y0 >= -0.5 for box in boxes)


def test_the_contact_sheet_shows_each_cube_upright_above_its_words():
    chosen = pd.DataFrame({"object_id": [11, 12], "z_spec": [0.1, 0.2], "group": ["Least covered", "Random"]})
    chosen["flaw"] = ["u: 36 % not covered", "complete"]
    images = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 20)]
    figure = contact_sheet(images, chosen)
    for axis, image in zip(figure.axes, images, strict=True):
        assert (axis.images[0].get_array() == image).all()
        assert axis.images[0].origin == "lower"
    words = [text.get_text() for text in figure.texts]
    assert words == ["Least covered", "11\nz = 0.100\nu: 36 % not covered", "Random", "12\nz = 0.200\ncomplete"]
