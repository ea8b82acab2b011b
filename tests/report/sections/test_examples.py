"""An example shows a galaxy's image beside its distribution."""

import numpy as np
import pytest
from tests.fixtures.photoz import make_photoz

from sdss_photoz.evaluation.kinds import KINDS
from sdss_photoz.report.sections.examples import examples, examples_table
from sdss_photoz.scores.grid import Grid

GRID = np.arange(181) * 0.4 / 180


def test_an_example_shows_its_galaxys_density_and_both_redshifts():
    galaxies = make_photoz(3)
    random = np.random.default_rng(2)
    distributions = random.dirichlet(np.ones(180), 3)
    table = examples_table(galaxies, distributions)
    area = (table["density"] * (table["z_high"] - table["z_low"])).groupby(table["object_id"], sort=False).sum()
    assert area.to_numpy() == pytest.approx(1)
    images = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 20, 30)]
    axes = [axis for axis in examples(images, table).axes if axis.get_visible()]
    for place, galaxy in enumerate(galaxies.itertuples()):
        picture, curve = axes[2 * place : 2 * place + 2]
        (image,) = picture.images
        assert (image.get_array() == images[place]).all()
        assert image.origin == "lower"
        values, edges, _ = curve.patches[0].get_data()
        assert values * 0.4 / 180 == pytest.approx(distributions[place])
        assert edges == pytest.approx(GRID)
        assert [line.get_xdata()[0] for line in curve.lines] == [galaxy.z_spec, galaxy.z_phot]


def test_an_example_of_another_value_has_its_own_grid_and_names():
    galaxies = make_photoz(2)[["object_id"]].assign(true=[9.0, 11.9], predicted=[9.2, 11.8])
    table = examples_table(galaxies, np.full((2, 8), 1 / 8), Grid(8, 12, 8), KINDS["value"])
    assert list(table) == ["object_id", "true", "predicted", "low", "high", "density"]
    assert table["density"].to_numpy() == pytest.approx(1 / 4)
    images = [np.zeros((64, 64, 3), np.uint8)] * 2
    axes = [axis for axis in examples(images, table, KINDS["value"], 2, "mass").axes if axis.get_visible()]
    for (true, predicted), curve, limits in zip(
        [(9, 9.2), (11.9, 11.8)], axes[1::2], [(8.1, 10.1), (10, 12)], strict=True
    ):
        assert [line.get_xdata()[0] for line in curve.lines] == [true, predicted]
        assert curve.get_xlim() == pytest.approx(limits)
        assert curve.get_xlabel() == "mass"
