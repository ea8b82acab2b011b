"""The density counts each galaxy once, in the cell of its two redshifts."""

import numpy as np
import pytest
from tests.fixtures.photoz import make_photoz

from sdss_photoz.report.sections.redshifts import redshift_table, redshifts


@pytest.fixture(scope="module")
def photoz():
    return make_photoz()


@pytest.fixture(scope="module")
def density(photoz):
    return redshift_table(photoz)


def test_cells_count_each_galaxy_once_where_its_two_redshifts_are(photoz, density):
    for column, method in (("z_phot", "network"), ("z_phot_archive", "archive")):
        part = density[density["method"] == method]
        assert part["galaxies"].sum() == photoz[column].notna().sum()
        inside = part.dropna().reset_index(drop=True)
        each = photoz.dropna(subset=[column])
        for axis, values in (("spec", each["z_spec"]), ("phot", each[column])):
            middle = (inside[f"z_{axis}_low"] + inside[f"z_{axis}_high"]) / 2
            shown = values[each[column] <= inside["z_phot_high"].max()]
            assert np.repeat(middle, inside["galaxies"]).mean() == pytest.approx(shown.mean(), abs=0.0003)
        for row in inside.sample(20, random_state=1).itertuples():
            here = each["z_spec"].between(row.z_spec_low, row.z_spec_high)
            assert (here & each[column].between(row.z_phot_low, row.z_phot_high)).sum() == row.galaxies


def test_the_density_has_spectroscopic_redshifts_along_x_and_photometric_ones_along_y(density):
    figure = redshifts(density, 0.05)
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in panels] == ["network", "local-linear regression", "archive"]
    for axis in panels:
        assert axis.get_xlabel() == "spectroscopic redshift"
        (mesh,) = axis.collections
        edges = mesh.get_coordinates()  # (y, x, 2)
        count = mesh.get_array().filled(0).reshape(80, 80)
        part = density[density["method"] == axis.get_title()]
        for cell in part.dropna().itertuples():
            column = np.searchsorted(edges[0, :, 0], (cell.z_spec_low + cell.z_spec_high) / 2) - 1
            row = np.searchsorted(edges[:, 0, 1], (cell.z_phot_low + cell.z_phot_high) / 2) - 1
            assert count[row, column] == cell.galaxies
        assert count.sum() == part.dropna()["galaxies"].sum()
        beyond = part.loc[part["z_phot_low"].isna(), "galaxies"].item()
        assert [text.get_text() for text in axis.texts] == ([f"{beyond} not shown"] if beyond else [])
        x, y = np.array([line.get_data() for line in axis.lines]).transpose(1, 0, 2)
        assert ((y - x) / (1 + x)).tolist() == pytest.approx(np.array([[0, 0], [-0.05, -0.05], [0.05, 0.05]]))
    assert panels[0].get_ylabel() == "photometric redshift"
    assert "not shown" in "".join(text.get_text() for axis in panels for text in axis.texts)


def test_a_method_whose_redshifts_lie_in_no_cell_keeps_its_panel():
    photoz = make_photoz(1).assign(z_spec=0.02, z_phot=0.3, z_phot_local_linear=0.02, z_phot_archive=np.nan)
    for far in (photoz, photoz.assign(z_phot_local_linear=0.3)):
        figure = redshifts(redshift_table(far), 0.05)
        assert [axis.get_title() for axis in figure.axes][:2] == ["network", "local-linear regression"]
        assert figure.axes[0].texts[0].get_text() == "1 not shown"


def test_cells_reach_as_far_as_the_bins_of_the_trial(photoz):
    far = photoz.assign(z_spec=2 * photoz["z_spec"], z_phot=2 * photoz["z_phot"])
    assert redshift_table(far)["z_spec_high"].max() <= 0.4
    assert far["z_spec"].max() < redshift_table(far, 1.0)["z_spec_high"].max() <= 1
