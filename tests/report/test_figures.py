"""Each figure shows the numbers of its table, and the tables those of the run: worked out here another way."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sdss_photoz.report import contact, controls, figures, sky

GRID = np.arange(181) * 0.4 / 180


def run_of(count=400, seed=3):
    """Redshifts of three methods and PIT of an ensemble of two, made up; the archive's are unlike the others."""
    random = np.random.default_rng(seed)
    z = random.gamma(4, 0.025, count).clip(0.01, 0.35)
    table = pd.DataFrame({"object_id": np.arange(count) + 1_237_650_000_000_000_000, "z_spec": z})
    table["z_phot"] = z + random.normal(0, 0.01, count)
    table["z_phot_local_linear"] = 0.5 * z + random.normal(0, 0.02, count)
    table["z_phot_archive"] = np.where(np.arange(count) % 7, z * 1.3, np.nan)
    for name in ("pit", "pit_member_0", "pit_member_1"):
        table[name] = random.beta(1.5, 1, count)
    return table


def segments(container):
    """Lower and upper ends (point, 2) of the error bars that `errorbar` drew."""
    (bars,) = container.lines[2]
    return np.array([segment[:, 1] for segment in bars.get_segments()])


@pytest.fixture(scope="module")
def run():
    return run_of()


@pytest.fixture(scope="module")
def density(run):
    return figures.redshift_table(run)


def test_cells_count_each_galaxy_once_where_its_two_redshifts_are(run, density):
    for column, method in (("z_phot", "network"), ("z_phot_archive", "archive")):
        part = density[density["method"] == method]
        assert part["galaxies"].sum() == run[column].notna().sum()
        inside = part.dropna().reset_index(drop=True)
        each = run.dropna(subset=[column])
        for axis, values in (("spec", each["z_spec"]), ("phot", each[column])):
            middle = (inside[f"z_{axis}_low"] + inside[f"z_{axis}_high"]) / 2
            shown = values[each[column] <= inside["z_phot_high"].max()]
            assert np.repeat(middle, inside["galaxies"]).mean() == pytest.approx(shown.mean(), abs=0.0003)
        for row in inside.sample(20, random_state=1).itertuples():
            here = each["z_spec"].between(row.z_spec_low, row.z_spec_high)
            assert (here & each[column].between(row.z_phot_low, row.z_phot_high)).sum() == row.galaxies


def test_the_density_has_spectroscopic_redshifts_along_x_and_photometric_ones_along_y(density):
    figure = figures.redshifts(density, 0.05)
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
    run = run_of(1).assign(z_spec=0.02, z_phot=0.3, z_phot_local_linear=0.02, z_phot_archive=np.nan)
    for far in (run, run.assign(z_phot_local_linear=0.3)):
        figure = figures.redshifts(figures.redshift_table(far), 0.05)
        assert [axis.get_title() for axis in figure.axes][:2] == ["network", "local-linear regression"]
        assert figure.axes[0].texts[0].get_text() == "1 not shown"


def test_residuals_are_the_median_and_scaled_mad_of_each_bin_with_the_errors_of_a_gaussian_sample(run):
    table = figures.residual_table(run)
    for row in table.itertuples():
        column = {label: column for column, (label, _) in figures.METHODS.items()}[row.method]
        part = run[(run["z_spec"] >= row.z_low) & (run["z_spec"] < row.z_high)].dropna(subset=[column])
        dz = (part[column] - part["z_spec"]) / (1 + part["z_spec"])
        assert row.galaxies == len(dz) >= 20
        assert row.median_dz == pytest.approx(np.median(dz))
        assert row.sigma_mad == pytest.approx(stats.median_abs_deviation(dz, scale=1 / 1.4826))
    random = np.random.default_rng(1).normal(0, 1, (4000, 100))
    scaled = table["galaxies"] ** 0.5 / table["sigma_mad"] / 10  # to samples of 100 with sigma 1
    for column, drawn in (
        ("median_dz_error", np.median(random, axis=1)),
        ("sigma_mad_error", stats.median_abs_deviation(random, axis=1, scale=1 / 1.4826)),
    ):
        assert (table[column] * scaled).to_numpy() == pytest.approx(np.std(drawn), rel=0.05)


def test_residual_curves_are_drawn_at_their_bins_with_the_errors_of_the_table(run):
    table = figures.residual_table(run)
    left, right = figures.residual_curves(table).axes
    for axis, column, word in ((left, "median_dz", "median"), (right, "sigma_mad", "sigma")):
        assert axis.get_xlabel() == "spectroscopic redshift"
        assert word in axis.get_ylabel()
        for container, (_, part) in zip(axis.containers, table.groupby("method", sort=False), strict=True):
            x, y = container.lines[0].get_data()
            assert x == pytest.approx(part["z_low"] + 0.01)
            assert y == pytest.approx(part[column])
            expected = np.stack(
                [part[column] - part[f"{column}_error"], part[column] + part[f"{column}_error"]], axis=1
            )
            assert segments(container) == pytest.approx(expected)
    labels = [container.get_label() for container in left.containers]
    assert labels == table["method"].unique().tolist()


def test_the_band_of_flat_pit_is_two_standard_deviations_of_binomial_counts(run):
    table = figures.pit_table(run)
    flat = stats.binom(len(run), 1 / 20)
    for column, value in {
        "flat": flat.mean(), "flat_low": flat.mean() - 2 * flat.std(), "flat_high": flat.mean() + 2 * flat.std()
    }.items():  # fmt: skip
        assert table[column].to_numpy() == pytest.approx(value)
    for name, column in (("ensemble", "pit"), ("member_1", "pit_member_1")):
        below = [(run[column] < edge).sum() for edge in table["pit_high"]]
        assert np.cumsum(table[name]).tolist() == below


def test_pit_is_drawn_relative_to_flat_with_its_band(run):
    table = figures.pit_table(run)
    ensemble, members = figures.pit(table).axes
    for axis, names in ((ensemble, ["ensemble"]), (members, ["member_0", "member_1"])):
        assert axis.get_xlabel() == "PIT"
        *steps, band = axis.patches
        for name, step in zip(names, steps, strict=True):
            values, edges, _ = step.get_data()
            assert values == pytest.approx(table[name] / 20)  # 400 galaxies in 20 bins
            assert edges == pytest.approx([*table["pit_low"], 1])
        ends = band.get_extents().transformed(axis.transData.inverted())
        assert (ends.y0, ends.y1) == pytest.approx((1 - 2 * (0.95 / 20) ** 0.5, 1 + 2 * (0.95 / 20) ** 0.5))


def test_training_curves_are_those_of_each_history_with_its_best_epoch():
    losses = {"fold-0 member-0": [4.0, 3.5, 3.8], "fold-1 member-0": [4.1, 3.9, 3.6]}
    histories = {
        name: pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [5.0, 4.5, 4.2], "validation_loss": loss})
        for name, loss in losses.items()
    }
    histories = {name: table.assign(best=table["validation_loss"].eq(min(losses[name])))
                 for name, table in histories.items()}  # fmt: skip
    table = figures.training_table(histories, 4.4)
    (axis,) = figures.training(table, "training").axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "loss (nat)")
    *curves, entropy = axis.lines
    assert entropy.get_ydata()[0] == 4.4
    drawn = [list(map(list, curve.get_data())) for curve in curves]
    for place, (name, best) in enumerate((("fold-0 member-0", 2), ("fold-1 member-0", 3))):
        train, validation, marker = drawn[3 * place : 3 * place + 3]
        assert train == [[1, 2, 3], [5.0, 4.5, 4.2]]
        assert validation == [[1, 2, 3], losses[name]]
        assert marker == [[best], [min(losses[name])]]


def test_an_example_shows_its_galaxys_density_and_both_redshifts():
    galaxies = run_of(3)
    random = np.random.default_rng(2)
    distributions = random.dirichlet(np.ones(180), 3)
    table = figures.examples_table(galaxies, distributions)
    area = (table["density"] * (table["z_high"] - table["z_low"])).groupby(table["object_id"], sort=False).sum()
    assert area.to_numpy() == pytest.approx(1)
    images = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 20, 30)]
    axes = [axis for axis in figures.examples(images, table).axes if axis.get_visible()]
    for place, galaxy in enumerate(galaxies.itertuples()):
        picture, curve = axes[2 * place : 2 * place + 2]
        (image,) = picture.images
        assert (image.get_array() == images[place]).all()
        assert image.origin == "lower"
        values, edges, _ = curve.patches[0].get_data()
        assert values * 0.4 / 180 == pytest.approx(distributions[place])
        assert edges == pytest.approx(GRID)
        assert [line.get_xdata()[0] for line in curve.lines] == [galaxy.z_spec, galaxy.z_phot]


def test_controls_are_drawn_beside_the_prior_and_the_networks_that_see_galaxies():
    score = lambda value, error: {"sigma_mad": {"value": value, "error": error}}  # noqa: E731
    control = {"galaxies": 300, "scores": {"control": score(0.044, 0.002), "prior": score(0.045, 0.001)}}
    control |= {"differences": {"control - prior": score(-0.001, 0.001)}, "correlation": {"value": 0.1, "error": 0.1}}
    headline = {"galaxies": 300, "scores": {"network": score(0.012, 0.0005)}}
    found, kinds = {"images": {"headline": headline, "controls": control}}, {"images": "none"}
    table = controls.with_networks(controls.control_table(found, kinds), found, kinds)
    (axis,) = figures.controls(table).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == table["label"].tolist()
    assert axis.get_yticks().tolist() == [0, -1]
    for container, row in zip(axis.containers, table.itertuples(), strict=True):
        assert container.lines[0].get_xdata().tolist() == [row.sigma_mad]
        (segment,) = container.lines[2][0].get_segments()
        assert segment[:, 0] == pytest.approx(
            [row.sigma_mad - row.sigma_mad_error, row.sigma_mad + row.sigma_mad_error]
        )
    band = axis.collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1) == pytest.approx((0.044, 0.046))
    assert 0.045 in [line.get_xdata()[0] for line in axis.lines]


def test_the_map_has_right_ascension_to_the_left_and_each_galaxy_in_the_colour_of_its_fold():
    random = np.random.default_rng(5)
    ra, dec = (359.9 + random.uniform(0, 0.4, 60)) % 360, 40 + random.uniform(0, 0.4, 60)
    galaxies = pd.DataFrame({"object_id": np.arange(60), "ra": ra, "dec": dec})
    fold = pd.Series(np.where(np.arange(60) < 5, np.nan, np.arange(60) % 3))
    table = sky.sky_table(galaxies, fold)
    assert table["object_id"].tolist() == galaxies["object_id"].tolist()
    east = ((ra + 180) % 360 - ra_middle(ra)) * np.cos(np.radians((dec.min() + dec.max()) / 2))
    assert table["east"].to_numpy() == pytest.approx(east, abs=1e-9)
    assert table["north"].to_numpy() == pytest.approx(dec - (dec.min() + dec.max()) / 2, abs=1e-9)
    whole, patch = sky.sky(table).axes
    for axis, columns in ((whole, ["ra", "dec"]), (patch, ["east", "north"])):
        left, right = axis.get_xlim()
        assert left > right  # East to the left
        for points in axis.collections:
            number = points.get_label()
            of_fold = table["fold"].isna() if number == "none" else table["fold"].eq(int(number)).fillna(False)
            assert np.asarray(points.get_offsets()) == pytest.approx(
                table.loc[of_fold.to_numpy(bool), columns].to_numpy()
            )
        assert sum(len(points.get_offsets()) for points in axis.collections) == 60
    assert whole.get_xlabel() == "right ascension (deg)"
    assert patch.get_xlabel() == "East (deg)"


def ra_middle(ra):
    turned = (ra + 180) % 360
    return (turned.min() + turned.max()) / 2


def test_the_contact_sheet_shows_each_cube_upright_above_its_words():
    chosen = pd.DataFrame({"object_id": [11, 12], "z_spec": [0.1, 0.2], "group": ["Least covered", "Random"]})
    chosen["flaw"] = ["u: 36 % not covered", "complete"]
    images = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 20)]
    figure = contact.contact_sheet(images, chosen)
    for axis, image in zip(figure.axes, images, strict=True):
        assert (axis.images[0].get_array() == image).all()
        assert axis.images[0].origin == "lower"
    words = [text.get_text() for text in figure.texts]
    assert words == ["Least covered", "11\nz = 0.100\nu: 36 % not covered", "Random", "12\nz = 0.200\ncomplete"]
