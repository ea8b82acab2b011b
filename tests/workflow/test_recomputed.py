"""What a run's files say of each other, worked out again with numpy and scipy: it holds on every processor."""

import json

import duckdb
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky
from astropy_healpix import HEALPix
from scipy import stats

from sdss_photoz.config import Evaluation, Folds

EDGES = np.arange(181) * 0.4 / 180
CENTRES = (np.arange(180) + 0.5) * 0.4 / 180
COLUMNS = {
    "network": "z_phot",
    "local_linear": "z_phot_local_linear",
    "archive": "z_phot_archive",
    "mean": "z_phot_mean",
}
LABELS = {"network": "z_phot", "local-linear regression": "z_phot_local_linear", "archive": "z_phot_archive"}


@pytest.fixture(scope="module")
def photoz(tiny):
    return pd.read_parquet(tiny.results / "evaluation" / "images" / "photoz.parquet")


@pytest.fixture(scope="module")
def metrics(tiny):
    return json.loads((tiny.results / "evaluation" / "images" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def galaxies(tiny):
    return pd.read_parquet(tiny.results / "sample" / "galaxies.parquet")


@pytest.fixture(scope="module")
def distributions(tiny, photoz):
    """The members' mean distributions (galaxy, bin), float64, in the order of photoz.parquet, by object id."""
    tables = [pq.read_table(path) for path in sorted((tiny.results / "training").rglob("pdfs.parquet"))]
    each = pd.concat(
        pd.DataFrame(np.stack(table["pdf"].to_numpy()).astype(float), index=table["object_id"].to_numpy())
        for table in tables
    )
    assert each.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    each = each.div(each.sum(axis=1), axis=0)
    return each.groupby(level=0).mean().loc[photoz["object_id"]].to_numpy()


def table(tiny, name):
    return pd.read_csv(tiny.results / "report" / "tables" / f"{name}.csv")


def dz(part, column):
    return ((part[column] - part["z_spec"]) / (1 + part["z_spec"])).to_numpy()


def scores(part, column, outlier=0.05):
    """Scores of the redshifts in one column, as the paper defines them."""
    values = dz(part, column)
    found = {
        "bias": values.sum() / len(values),
        "sigma_mad": stats.median_abs_deviation(values, scale=1 / 1.4826),
        "outliers": np.count_nonzero(abs(values) > outlier) / len(values),
    }
    crps = {"z_phot": "crps"}.get(column, column.replace("z_phot", "crps"))
    return found | ({"crps": part[crps].sum() / len(part)} if crps in part else {})


def alike(found, expected):
    assert found.keys() == expected.keys()
    assert list(found.values()) == pytest.approx([expected[key] for key in found], rel=1e-9, abs=1e-12)


def test_redshifts_and_ids_are_those_of_the_archives_catalogue(tiny, galaxies, photoz):
    with duckdb.connect(str(tiny.results / "archive" / "catalog.duckdb"), read_only=True) as catalog:
        spectra = catalog.sql("SELECT specObjID, z FROM SpecObjAll").df().set_index("specObjID")["z"]
        known = catalog.sql("SELECT objID, z FROM Photoz").df().set_index("objID")["z"]
    assert galaxies["z_spec"].to_numpy() == pytest.approx(spectra.loc[galaxies["spec_id"]].to_numpy(), rel=1e-6)
    assert photoz["z_spec"].tolist() == galaxies.set_index("object_id").loc[photoz["object_id"], "z_spec"].tolist()
    known = known.where(known > -1).reindex(photoz["object_id"])
    assert known.notna().sum() > 150
    assert photoz["z_phot_archive"].to_numpy() == pytest.approx(known.to_numpy(), rel=1e-6, nan_ok=True)


def test_photometric_redshifts_and_the_ensembles_file_are_those_of_the_members_distributions(
    tiny, photoz, distributions
):
    assert photoz["z_phot"].to_numpy() == pytest.approx(distributions @ CENTRES, abs=1e-7)
    assert photoz["z_phot_mean"].to_numpy() == pytest.approx(
        0.5 * (photoz["z_phot"] + photoz["z_phot_local_linear"]).to_numpy()
    )
    with h5py.File(tiny.results / "evaluation" / "images" / "photoz.hdf5") as file:
        assert file["ancil/object_id"][:].tolist() == photoz["object_id"].tolist()
        assert file["meta/bins"][:].ravel() == pytest.approx(EDGES)
        pdf = file["data/pdfs"][:]
    assert pdf / pdf.sum(axis=1, keepdims=True) == pytest.approx(distributions, abs=1e-7)


def test_pit_widths_and_crps_are_integrals_of_the_distributions(photoz, distributions):
    fine = np.linspace(0, 0.4, 40_001)
    for row, pdf in zip(photoz.itertuples(), distributions, strict=True):
        cdf = np.concatenate([[0], np.cumsum(pdf)])
        assert row.pit == pytest.approx(np.interp(row.z_spec, EDGES, cdf), abs=1e-6)
        for share in (68, 90):
            low, high = np.interp([0.5 - share / 200, 0.5 + share / 200], cdf, EDGES)
            assert getattr(row, f"width_{share}") == pytest.approx(high - low, abs=1e-6)
        step = np.interp(fine, EDGES, cdf) - (fine >= row.z_spec)
        assert row.crps == pytest.approx(np.trapezoid(step**2, fine), abs=1e-5)


def test_scores_are_those_of_the_table_of_redshifts(photoz, metrics):
    scored = photoz[photoz["has_frames"]]
    known = scored[scored["z_phot_archive"].notna()]
    for group, part in (("headline", scored), ("with_archive", known)):
        assert metrics[group]["galaxies"] == len(part)
        for method, found in metrics[group]["scores"].items():
            values = {score: entry["value"] for score, entry in found.items()}
            alike(values, scores(part, COLUMNS[method], metrics["outlier"]))
        for pair, found in metrics[group]["differences"].items():
            first, second = (scores(part, COLUMNS[name], metrics["outlier"]) for name in pair.split(" - "))
            alike({score: entry["value"] for score, entry in found.items()},
                  {score: first[score] - second[score] for score in second if score in first})  # fmt: skip
    assert set(metrics["headline"]["scores"]) == {"network", "local_linear", "mean"}
    assert set(metrics["with_archive"]["scores"]) == {"network", "local_linear", "archive"}


def test_scores_of_folds_and_members_and_their_scatter(photoz, metrics):
    scored = photoz[photoz["has_frames"]]
    each = {"network": [], "local_linear": []}
    for fold in metrics["folds"]:
        part = scored[scored["fold"] == fold["fold"]]
        assert fold["galaxies"] == len(part)
        for method, values in each.items():
            alike(fold[method], scores(part, COLUMNS[method]))
            values.append(fold[method])
    assert [fold["fold"] for fold in metrics["folds"]] == [0, 1]
    for method, values in each.items():
        first, second = values
        alike(metrics["scatter"]["folds"][method], {key: abs(first[key] - second[key]) / 2**0.5 for key in first})
    (member,) = metrics["members"]
    alike({key: member[key] for key in member if key != "member"}, scores(scored, "z_phot_member_0"))


def test_errors_are_the_scatter_over_resampled_cells_of_the_sky(photoz, metrics):
    """The cells are drawn as numpy's generator deals them; each brings all of its galaxies."""
    settings = Evaluation()
    scored = photoz[photoz["has_frames"]]
    places = HEALPix(nside=metrics["bootstrap"]["nside"], order="nested").lonlat_to_healpix(
        scored["ra"].to_numpy() * u.deg, scored["dec"].to_numpy() * u.deg
    )
    number = {place: index for index, place in enumerate(sorted(set(places)))}
    parts = [scored[places == place] for place in number]
    assert metrics["bootstrap"] == {"resamples": 50, "nside": settings.bootstrap_nside, "cells": len(parts)}
    random = np.random.default_rng(settings.seed)
    drawn = [pd.concat([parts[cell] for cell in random.integers(len(parts), size=len(parts))]) for _ in range(50)]
    found = metrics["headline"]
    of = {name: pd.DataFrame([scores(part, COLUMNS[name]) for part in drawn]) for name in found["scores"]}
    for name, errors in found["scores"].items():
        alike({score: entry["error"] for score, entry in errors.items()}, of[name].std(ddof=1).to_dict())
    for pair, errors in found["differences"].items():
        first, second = pair.split(" - ")
        apart = (of[first] - of[second]).dropna(axis=1).std(ddof=1)
        alike({score: entry["error"] for score, entry in errors.items()}, apart.to_dict())


def test_near_galaxies_share_their_fold_and_each_is_tested_by_the_fold_that_did_not_see_it(tiny, galaxies, photoz):
    folds = pd.read_parquet(tiny.results / "sample" / "folds-images.parquet").set_index("object_id")
    folds = folds.loc[galaxies["object_id"]]
    sky = SkyCoord(galaxies["ra"].to_numpy(), galaxies["dec"].to_numpy(), unit="deg")
    first, second, *_ = search_around_sky(sky, sky, Folds().group_radius * u.arcsec)
    assert (first != second).sum() > 4
    for column in ("fold", "role_0", "role_1"):
        assert (folds[column].to_numpy()[first] == folds[column].to_numpy()[second]).all()
    for number in (0, 1):
        assert ((folds["fold"] == number) == (folds[f"role_{number}"] == "test")).all()
        assert {"train", "validation", "test"} == set(folds[f"role_{number}"])
    assert sorted(photoz["object_id"]) == sorted(galaxies["object_id"])
    assert photoz["fold"].tolist() == folds.loc[photoz["object_id"], "fold"].tolist()


def test_the_reports_tables_hold_the_numbers_of_metrics(tiny, metrics):
    rows = table(tiny, "scores").set_index(["galaxies", "method", "score"])[["value", "error"]]
    expected = {
        (group, name, score): entry
        for group in ("headline", "with_archive")
        for kind in ("scores", "differences")
        for name, entries in metrics[group][kind].items()
        for score, entry in entries.items()
    }
    of_run = rows[[not score.startswith(("gap", "pit")) and name != "floor" for _, name, score in rows.index]]
    assert set(of_run.index) == set(expected)
    for place, entry in expected.items():
        assert rows.loc[place].to_dict() == pytest.approx(entry)
    parts = table(tiny, "folds_and_members").set_index(["part", "number", "method", "score"])["value"]
    for fold in metrics["folds"]:
        for method in ("network", "local_linear"):
            for score, value in fold[method].items():
                assert parts["fold", fold["fold"], method, score] == pytest.approx(value)


def test_the_reports_residuals_have_the_errors_of_their_galaxies(tiny, photoz):
    scored = photoz[photoz["has_frames"]]
    found = table(tiny, "images-residuals")
    assert found["method"].unique().tolist() == list(LABELS)
    for row in found.itertuples():
        inside = (scored["z_spec"] >= row.z_low) & (scored["z_spec"] < row.z_high)
        values = dz(scored[inside & scored[LABELS[row.method]].notna()], LABELS[row.method])
        scatter = stats.median_abs_deviation(values, scale=1 / 1.4826)
        numbers = [row.galaxies, row.median_dz, row.sigma_mad, row.median_dz_error, row.sigma_mad_error]
        # of a Gaussian: the variance of the median is pi / 2 sigma^2 / n, that of the scaled MAD 1.36 sigma^2 / n
        errors = [(np.pi / 2 / len(values)) ** 0.5 * scatter, (1.36 / len(values)) ** 0.5 * scatter]
        assert numbers == pytest.approx([len(values), np.median(values), scatter, *errors], rel=1e-3)


def test_the_reports_pit_has_the_band_of_binomial_counts(tiny, photoz):
    scored = photoz[photoz["has_frames"]]
    found, flat = table(tiny, "images-pit"), stats.binom(len(scored), 1 / 20)
    for name, column in (("ensemble", "pit"), ("member_0", "pit_member_0")):
        assert np.cumsum(found[name]).iloc[:-1].tolist() == [(scored[column] < k / 20).sum() for k in range(1, 20)]
        assert found[name].sum() == len(scored)
    assert found["flat"].unique() == pytest.approx([flat.mean()])
    assert found["flat_low"].unique() == pytest.approx([flat.mean() - 2 * flat.std()])
    assert found["flat_high"].unique() == pytest.approx([flat.mean() + 2 * flat.std()])


def test_the_reports_density_counts_the_galaxies_of_each_cell(tiny, photoz):
    scored = photoz[photoz["has_frames"]]
    for method, part in table(tiny, "images-redshifts").groupby("method"):
        assert part["galaxies"].sum() == scored[LABELS[method]].notna().sum()
        for cell in part.dropna().itertuples():
            inside = scored["z_spec"].between(cell.z_spec_low, cell.z_spec_high)
            inside &= scored[LABELS[method]].between(cell.z_phot_low, cell.z_phot_high)
            assert inside.sum() == cell.galaxies


def test_the_reports_curves_examples_and_map_are_those_of_the_run(tiny, galaxies, photoz, distributions):
    curves = table(tiny, "images-training")
    count = pd.cut(galaxies["z_spec"], EDGES, right=False).value_counts()
    assert curves["entropy"].unique() == pytest.approx([stats.entropy(count / len(galaxies))])
    for fold in (0, 1):
        history = pd.read_csv(tiny.results / f"training/images/fold-{fold}/member-0.history.csv")
        shown = curves[curves["network"] == f"fold-{fold} member-0"]
        for column in ("epoch", "train_loss", "validation_loss", "best"):
            assert shown[column].tolist() == history[column].tolist()
        assert history.loc[history["best"], "validation_loss"].tolist() == [history["validation_loss"].min()]
    place = {object_id: index for index, object_id in enumerate(photoz["object_id"])}
    for object_id, part in table(tiny, "images-examples").groupby("object_id"):
        row = photoz.iloc[place[object_id]]
        assert part["density"].to_numpy() * 0.4 / 180 == pytest.approx(distributions[place[object_id]], abs=1e-7)
        assert (part["z_spec"].iloc[0], part["z_phot"].iloc[0]) == pytest.approx((row["z_spec"], row["z_phot"]))
    on_sky = table(tiny, "sky").set_index("object_id").loc[photoz["object_id"]]
    assert on_sky["fold"].tolist() == photoz["fold"].tolist()
    assert on_sky["ra"].to_numpy() == pytest.approx(photoz["ra"].to_numpy())
    middle = SkyCoord(on_sky.loc[on_sky["east"].abs().idxmin(), "ra"], on_sky["dec"].median(), unit="deg")
    patch = on_sky[on_sky["patch"] == on_sky.loc[on_sky["east"].abs().idxmin(), "patch"]]
    apart = SkyCoord(patch["ra"].to_numpy(), patch["dec"].to_numpy(), unit="deg").spherical_offsets_to(middle)[0].deg
    assert np.corrcoef(-apart, patch["east"])[0, 1] > 0.999


def test_every_figure_has_its_table(tiny):
    folder = tiny.results / "report"
    figures, tables = ({path.stem for path in (folder / kind).glob("*.*g" if kind == "figures" else "*.csv")}
                       for kind in ("figures", "tables"))  # fmt: skip
    assert len(figures) >= 7
    assert figures - tables == set()
