"""The features of the forest are observing conditions; none depends on the galaxy's light."""

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.synthetic_run import make_galaxies, make_run

from sdss_photoz.config import Evaluation
from sdss_photoz.methods import forest
from sdss_photoz.methods.forest import observing_conditions
from sdss_photoz.surveys import SDSS
from sdss_photoz.surveys.great_circle import sky_position
from sdss_photoz.surveys.sdss import object_id

FEATURES = {
    *("run", "camcol", "field", "x", "y", "object_id", "object", "row", "catalogue"),
    *(f"{name}_{band}" for name in ("phase_x", "phase_y", "depth", "noise", "seeing") for band in SDSS.band_names),
}


def tables(count=40):
    """Galaxies at known pixels of two fields, with quality tables and fields."""
    random = np.random.default_rng(2)
    x, y, number = random.uniform(0, 2047, count), random.uniform(0, 1488, count), np.arange(count)
    fields = pd.DataFrame({"run": [752, 756], "camcol": 3, "field": 100, "node": 95.0, "incl": 10.0})
    step = 0.396 / 3600
    for term, value in zip("abcdef", ([150.0, 151.0], step, 0.0, [0.1, 0.2], 0.0, step), strict=True):
        fields[term] = value
    of = number % 2
    mu, nu = fields["a"].to_numpy()[of] + step * (y + 0.5), fields["d"].to_numpy()[of] + step * (x + 0.5)
    galaxies = make_galaxies(count)
    galaxies["ra"], galaxies["dec"] = sky_position(mu, nu, 95.0, 10.0)
    galaxies["object_id"] = object_id(fields["run"].to_numpy()[of], 3, 100, number + 1)
    galaxies["spec_id"] = random.permutation(count).astype(np.uint64) + np.uint64(2**60)
    quality = pd.DataFrame({"object_id": galaxies["object_id"]})
    for band in SDSS.band_names:
        quality[f"frames_{band}"], quality[f"sky_{band}"] = number % 3, 1.5 + of
        quality[f"seeing_{band}"] = 1.2 + 0.1 * of
    return galaxies, quality, fields, np.stack([x, y], axis=1)


def test_features_are_place_depth_noise_seeing_and_order_and_do_not_depend_on_the_light():
    galaxies, quality, fields, pixels = tables()
    found = observing_conditions(galaxies, quality, fields)
    assert set(found) == FEATURES
    assert found[["x", "y"]].to_numpy() == pytest.approx(pixels, abs=0.02)
    assert found[["phase_x_g", "phase_y_g"]].to_numpy() == pytest.approx((pixels + 0.5) % 1, abs=0.02)
    assert found["catalogue"].to_numpy() == pytest.approx(galaxies["spec_id"].rank())
    assert found["noise_r"][1] == pytest.approx(np.sqrt(2.5))
    assert found["noise_r"].isna().tolist() == (found["depth_r"] == 0).tolist()
    assert (np.diff(found.sort_values("object_id")["object_id"]) == 1).all()
    darker = galaxies.copy()
    light = [name for name in galaxies if name.split("_")[0] in ("model", "extinction", "ebv", "z")]
    darker[light] = 0.0
    pd.testing.assert_frame_equal(observing_conditions(darker, quality, fields), found)


def test_published_cubes_have_fewer_features():
    galaxies, quality, _, _ = tables()
    found = observing_conditions(galaxies.drop(columns="spec_id"), quality[[f"frames_{b}" for b in SDSS.band_names]])
    assert set(found) == {
        "run",
        "camcol",
        "field",
        "object",
        "object_id",
        "row",
        *(f"depth_{b}" for b in SDSS.band_names),
    }


def test_features_are_the_observing_conditions_whatever_the_order_of_the_quality_tables(tmp_path):
    inputs = make_run(tmp_path, count=60)
    galaxies = pd.read_parquet(inputs["galaxies"])
    quality = pd.concat([pd.read_parquet(path) for path in inputs["quality"]], ignore_index=True)
    expected = observing_conditions(galaxies, quality).to_numpy()
    found = forest.features(galaxies.set_index("object_id"), inputs["quality"][::-1], None)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_a_forest_finds_a_redshift_that_follows_a_feature_and_is_the_same_each_time():
    random = np.random.default_rng(3)
    features = random.uniform(size=(600, 4)).astype(np.float32)
    z = 0.05 + 0.2 * features[:, 1]
    train, test = slice(500), slice(500, None)
    settings = Evaluation(seed=5)
    found, again = (forest.estimate(features[train], z[train], features[test], settings) for _ in range(2))
    assert list(found) == ["z_phot_forest"]
    assert np.corrcoef(found["z_phot_forest"], z[test])[0, 1] > 0.95
    assert (found["z_phot_forest"] == again["z_phot_forest"]).all()
