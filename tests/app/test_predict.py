"""`sdss-photoz predict`: redshifts of any positions, by the networks of the tiny run."""

import json
import resource
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from sdss_photoz import files
from sdss_photoz.app import cli
from sdss_photoz.app.finished_run import find_trial, load_ensemble, sky_of
from sdss_photoz.app.predict import combine, predict
from sdss_photoz.errors import UserError
from sdss_photoz.evaluation.kinds import KINDS
from sdss_photoz.scores.grid import Grid
from sdss_photoz.training.model import Trained, describe_model, save_model

COUNT = 1000
SMALL = pd.DataFrame({"ra": [10.0], "dec": [0.0], "ebv": [0.02]})


@pytest.fixture(scope="module")
def sample(tiny):
    return pd.read_parquet(tiny.results / "sample" / "galaxies.parquet")


@pytest.fixture(scope="module")
def positions(sample):
    """The sample's galaxies; four that something is wrong with; and random places around, up to 1,000."""
    random = np.random.default_rng(3)
    table = sample[["object_id", "ra", "dec", "ebv", "dered_petro_r"]].assign(name="galaxy")
    first = table.iloc[[0]]
    near = sample.iloc[random.integers(len(sample), size=COUNT - len(sample) - 4)]
    places = near[["ra", "dec"]].assign(object_id=range(len(near)), ebv=0.025)
    places["dec"] += random.uniform(0.01, 0.02, len(near))
    wrong = [
        first.assign(name="far from all frames", dec=60.0),
        first.assign(name="behind dust", ebv=3.0),
        first.assign(name="faint", dered_petro_r=22.0),
        first.assign(name="beside", dec=first["dec"] + 10 / 3600),
    ]
    return pd.concat([table, *wrong, places.assign(name="place")], ignore_index=True)


@pytest.fixture(scope="module")
def predicted(tiny, positions, tmp_path_factory):
    """The output for them, its distributions, the CPU seconds it took, and its metadata."""
    out = tmp_path_factory.mktemp("predicted") / "photoz.parquet"
    frames = tiny.results / "archive" / "sas"
    count = len(list(frames.rglob("frame-*.fits.bz2")))
    elapsed, cpu = time.perf_counter(), time.process_time()
    predict(tiny.results, positions, frames, out, threads=2, device="cpu")
    elapsed, cpu = time.perf_counter() - elapsed, time.process_time() - cpu
    print(
        f"\n{len(positions)} positions on {count} frames by 2 networks inception_small: {elapsed:.1f} s, "
        f"{cpu:.1f} CPU s, {60 * len(positions) / elapsed:,.0f} positions a minute"
    )
    assert list(out.parent.iterdir()) == [out]
    return pd.read_parquet(out), pq.read_table(out)["pdf"].combine_chunks(), cpu, pq.read_schema(out).metadata


def test_at_least_1000_positions_a_minute_on_two_cores(predicted):
    cpu = predicted[2]
    assert cpu < 2 * 60  # of 1,000 positions: CPU seconds, which other work on the machine does not change


def test_a_networks_redshifts_are_those_of_the_evaluation(tiny, sample, predicted):
    table = predicted[0][: len(sample)].set_index("object_id")
    evaluated = pd.read_parquet(tiny.results / "evaluation" / "images" / "photoz.parquet").set_index("object_id")
    assert len(evaluated) == len(sample)
    for fold, test in evaluated[evaluated["has_frames"]].groupby("fold"):
        own = table.loc[test.index, f"z_phot_fold_{fold}_member_0"]
        assert np.abs(own - test["z_phot"]).max() < 1e-6
    same = table.loc[evaluated.index]
    assert same["has_frames"].equals(evaluated["has_frames"])
    assert same["complete"].equals(evaluated["complete"])


def test_the_ensemble_is_the_mean_of_all_networks_and_its_distribution_is_written(predicted):
    table, pdf, *_ = predicted
    assert pdf.type == pa.list_(pa.float32(), 180)
    known = table["has_frames"].to_numpy()
    values = pdf.flatten().to_numpy().reshape(-1, 180)
    assert values[known].sum(axis=1) == pytest.approx(1, abs=1e-5)
    centres, edges = (np.arange(180) + 0.5) * 0.4 / 180, np.arange(181) * 0.4 / 180
    assert values[known] @ centres == pytest.approx(table["z_phot"][known], abs=1e-6)
    each = table[["z_phot_fold_0_member_0", "z_phot_fold_1_member_0"]][known]
    assert each.mean(axis=1).to_numpy() == pytest.approx(table["z_phot"][known], abs=1e-9)
    assert each.std(axis=1, ddof=0).to_numpy() == pytest.approx(table["z_phot_scatter"][known], abs=1e-9)
    for pdf, width in zip(values[known].astype(float), table["width_68"][known], strict=True):
        low, high = np.interp([0.16, 0.84], np.concatenate([[0], np.cumsum(pdf)]), edges)
        assert width == pytest.approx(high - low, abs=1e-5)


def test_columns_of_the_input_are_carried_through(positions, predicted):
    pd.testing.assert_frame_equal(predicted[0][positions.columns], positions)


def test_columns_of_a_csv_table_come_out_as_they_were_written(tiny, sample, tmp_path, capsys):
    places = [f"{galaxy.ra:.8f},{galaxy.dec:.8f},0.0297" for galaxy in sample.head(3).itertuples()]
    own = ["1237649006296563726,0266,001,AGN", "1237649006296563713,0267,002,NA", ",0268,,inf"]
    places = [f"{place},as in ebv" for place in places]
    rows = [f"{mine},{place},-9999" for mine, place in zip(own, places, strict=True)]
    (tmp_path / "t.csv").write_text(
        "objID,plate,fiber,subclass,ra,dec,ebv,extinction_r,dered_petro_r\n" + "\n".join(rows)
    )
    words = [
        tiny.results,
        tmp_path / "t.csv",
        "--frames",
        tiny.results / "archive/sas",
        "--out",
        tmp_path / "o.parquet",
    ]
    assert cli.main(["predict", *map(str, words), "--device", "cpu"]) == 0
    found = pd.read_parquet(tmp_path / "o.parquet")
    assert found["objID"].tolist()[:2] == ["1237649006296563726", "1237649006296563713"]
    assert found["objID"].isna().tolist() == [False, False, True]
    assert found["plate"].tolist() == ["0266", "0267", "0268"]
    assert found["fiber"].tolist()[:2] == ["001", "002"]
    assert found["subclass"].tolist() == ["AGN", "NA", "inf"]
    assert found["extinction_r"].tolist() == ["as in ebv"] * 3  # where there is ebv it is not used
    assert found[["ra", "dec", "ebv", "dered_petro_r"]].dtypes.eq(np.float64).all()
    assert not found["outside_r"].any()  # a fill value is no faint galaxy
    message = capsys.readouterr()
    assert "dered_petro_r is -9999 in 3: there outside_r is by the flux of the cube" in message.out
    assert "warning: the networks learned from the simulated sky" in message.err


def test_identifiers_that_a_spreadsheet_rounded_are_refused(tiny, tmp_path):
    positions = SMALL.assign(objID="1.23766E+18")
    with pytest.raises(UserError, match=r"column 'objID' of the table of positions is 1.23766E\+18, rounded"):
        predict(tiny.results, positions, tiny.results / "archive" / "sas", tmp_path / "o.parquet", device="cpu")


def test_a_position_without_frames_has_no_redshift(predicted):
    table, pdf, *_ = predicted
    row = int(table.index[table["name"] == "far from all frames"][0])
    assert not table["has_frames"][row]
    assert table.loc[row, ["z_phot", "width_68", "z_phot_fold_0_member_0"]].isna().all()
    assert np.isnan(pdf[row].values.to_numpy()).all()
    assert table["outside_depth"][row]


def test_flags_name_what_is_wrong(predicted):
    table = predicted[0]
    galaxy = table.iloc[0]
    of = table[table["name"] != "galaxy"].groupby("name").first()
    assert of.loc["behind dust", "outside_ebv"]
    assert not galaxy["outside_ebv"]
    assert of.loc["faint", "outside_r"]
    assert not galaxy["outside_r"]
    assert of.loc["beside", "neighbour"]
    assert galaxy["in_training"]
    assert not of.loc["beside", "in_training"]
    places = table[(table["name"] == "place") & table["has_frames"]]
    assert places["outside_r"].mean() > 0.5  # nearly all are empty sky


def test_few_training_galaxies_lie_outside_of_their_own_domain(sample, predicted):
    own = predicted[0][: len(sample)]
    for flag in ("outside_r", "outside_colour", "outside_ebv", "outside_depth"):
        assert own[flag].mean() < 0.05, flag


def test_members_disagree_where_their_redshifts_scatter_more_than_they_are_wide():
    narrow, far = np.zeros((2, 180)), np.zeros((2, 180))
    narrow[:, 40], far[0, 40], far[1, 60] = 1, 1, 1
    table, mean = combine({"a": narrow, "b": far})
    assert (table["z_phot_scatter"] > table["half_width"]).tolist() == [False, True]
    assert mean[1, [40, 60]].tolist() == [0.5, 0.5]


def test_predictions_of_another_kind_have_names_of_their_own():
    grid = Grid(8, 12, 180)
    narrow = np.zeros((1, 180))
    narrow[:, 40] = 1
    table, _ = combine({"a": narrow, "b": narrow[:, ::-1]}, grid, KINDS["value"])
    names = ["predicted", "width_68", "width_90", "predicted_scatter", "half_width", "predicted_a", "predicted_b"]
    assert list(table) == names
    assert table["predicted"].tolist() == pytest.approx([10])
    assert table["predicted_scatter"].tolist() == pytest.approx([10 - grid.centres()[40]])


def test_own_points_of_the_networks_are_averaged_in_place_of_the_means():
    flat = np.full((2, 180), 1 / 180)
    table, _ = combine({"a": flat, "b": flat}, points=np.array([[0.1, 0.2], [0.3, 0.2]]))
    assert table["z_phot"].tolist() == pytest.approx([0.2, 0.2])
    assert table["z_phot_b"].tolist() == [0.3, 0.2]
    assert table["z_phot_scatter"].tolist() == pytest.approx([0.1, 0])


def test_networks_disagree_on_yes_where_the_answer_depends_on_them():
    both, grid = np.array([[0.1, 0.9], [0.45, 0.55]]), Grid(-0.5, 1.5, 2)
    table, _ = combine({"a": both, "b": np.array([[0.3, 0.7], [0.65, 0.35]])}, grid, KINDS["yes_no"])
    assert "width_68" not in table
    assert table["predicted"].tolist() == pytest.approx([0.8, 0.45])
    assert (table["predicted_scatter"] > table["half_width"]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "nowhere"}, "nowhere is not the results folder of a run: give results/<run> of a finished one"),
        ({"trial": "other"}, "has no trial 'other', but images: choose one of them with --trial"),
        ({"out": "photoz.csv"}, "give a name that ends in .parquet"),
        ({"out": "there.parquet"}, "there.parquet exists already"),
        ({"positions": SMALL.drop(columns="ebv")}, "neither a column 'ebv' nor 'extinction_r', but the networks need"),
        ({"positions": SMALL.assign(ebv=-9999)}, "column 'ebv' .* 1 values .*, the first in row 1 \\(-9999\\)"),
        (
            {"positions": SMALL.assign(dec=np.nan)},
            "column 'dec' .* 1 values that are missing or fill values, the first",
        ),
        ({"positions": pd.concat([SMALL] * 2).assign(mark=["a", 1])}, "carried into a parquet table .*column mark"),
        ({"positions": SMALL.assign(z_phot=0.1)}, "has a column 'z_phot', as the output has: rename it"),
        ({"positions": SMALL.assign(dec=91)}, "declinations lie in -90 to 90 degrees"),
        (
            {"positions": SMALL.assign(dered_petro_r=77.0), "frames": "."},
            "'dered_petro_r' .* is 77 in row 1, but magnitudes lie in",
        ),
        ({"frames": "."}, "holds no corrected frame"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tiny, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.parquet").touch()
    words = {"run": tiny.results, "positions": SMALL, "frames": tiny.results / "archive" / "sas", "out": "new.parquet"}
    with pytest.raises(UserError, match=message) as caught:
        predict(**{**words, "device": "cpu", **change})
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there.parquet"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tiny, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # the disk of this process: less than a cube
    try:
        with pytest.raises(UserError, match=r"^the disk mounted at /\S* has no room for the cubes of 1 positions"):
            predict(tiny.results, SMALL, tiny.results / "archive" / "sas", tmp_path / "new.parquet", device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_table_without_positions_is_one_sentence(tmp_path, capsys):
    (tmp_path / "table.csv").write_text("ra,z\n1,2\n")
    words = ["predict", "run", str(tmp_path / "table.csv"), "--frames", ".", "--out", "new.parquet"]
    assert cli.main(words) == 1
    assert "has no column 'dec'" in capsys.readouterr().err


def test_an_unfinished_run_and_several_trials_are_named(tiny, tmp_path):
    (tmp_path / "sample").mkdir()
    folds = (tiny.results / "sample" / "folds-images.parquet").read_bytes()
    for trial in ("images", "more"):
        (tmp_path / "sample" / f"folds-{trial}.parquet").write_bytes(folds)
    with pytest.raises(UserError, match="has the trials images, more: choose one with --trial"):
        find_trial(tmp_path)
    with pytest.raises(UserError, match=r"is not finished, for .*evaluation/more/photoz.parquet is missing"):
        find_trial(tmp_path, "more")


def test_networks_are_those_of_the_folds_that_were_tested(tiny, tmp_path):
    for name in ("sample/folds-images.parquet", "sample/galaxies.parquet", "cubes.zarr"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tiny.results / name)
    photoz = pd.read_parquet(tiny.results / "evaluation/images/photoz.parquet")
    (tmp_path / "evaluation/images").mkdir(parents=True)
    photoz[photoz["fold"] == 1].to_parquet(tmp_path / "evaluation/images/photoz.parquet")
    every, one = find_trial(tiny.results), find_trial(tmp_path)
    assert [of.name for of in every.models] == ["fold_0_member_0", "fold_1_member_0"]
    assert list(one.models) == [Trained("images", 1, 0)]
    assert len(one.trained) < len(every.trained)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stretch": "sqrt"}, "holds network inception_small with 180 bins and stretch sqrt, but .* asinh is expected"),
        ({"network": "inception"}, "holds network inception with 180 bins"),
        (
            {"fold": 0},
            "holds the network of trial images, fold 0, member 0, but that of trial images, fold 1",
        ),
        ({"trial": "more"}, "holds the network of trial more, fold 1"),
        ({"version": 1}, "was trained by version 1 of the stage training, but this is version"),
    ],
)
def test_models_of_other_networks_or_trainings_are_refused(tiny, tmp_path, change, message):
    models, second = find_trial(tiny.results).models, Trained("images", 1, 0)
    other = tmp_path / "member-0.safetensors"
    save_model(other, load_file(models[second]), describe_model(models[second]) | change)
    with pytest.raises(UserError, match=message):
        load_ensemble({**models, second: other})


def test_a_run_from_before_model_files_told_their_trial_predicts_the_same_and_says_so(tiny, tmp_path, capsys):
    models = find_trial(tiny.results).models
    older = {of: tmp_path / f"{of.name}.safetensors" for of in models}
    for of, path in older.items():
        description = describe_model(models[of])
        assert description.pop("trial") == "images"
        save_model(path, load_file(models[of]), description)
    assert list(load_ensemble(older)) == list(models)
    assert "fold_0_member_0.safetensors and 1 more do not tell their trial" in capsys.readouterr().err


def test_the_table_tells_which_model_files_predicted_it(tiny, predicted):
    models = find_trial(tiny.results).models
    description = json.loads(predicted[3][b"sdss_photoz"])
    assert description["trial"] == "images"
    assert description["models"] == {of.name: files.sha256(path) for of, path in models.items()}
    assert description["sky"] == "simulated"
    assert "says nothing about real galaxies" in description["warning"]
    for of, path in models.items():
        fold = json.loads(pq.read_schema(path.with_name("pdfs.parquet")).metadata[b"sdss_photoz"])
        assert fold["models"] == {of.name: description["models"][of.name]}


def test_only_a_run_of_the_survey_predicts_without_a_warning(tmp_path):
    assert sky_of(tmp_path) == "unknown"
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "galaxies.parquet").touch()
    assert sky_of(tmp_path) == "survey"
    (tmp_path / "archive" / "catalog.duckdb").touch()
    assert sky_of(tmp_path) == "simulated"


def test_a_model_with_other_layers_is_refused(tiny, tmp_path):
    first, model = next(iter(find_trial(tiny.results).models.items()))
    weights = load_file(model)
    path = tmp_path / "member-0.safetensors"
    save_model(path, weights, describe_model(model) | {"network": "inception"})
    with pytest.raises(UserError, match="holds weights of other layers than inception has in this version"):
        load_ensemble({first: path})
    save_model(path, weights, {"network": "inception_small"})
    with pytest.raises(UserError, match="does not tell its bins, stretch"):
        load_ensemble({first: path})
