"""The command ``sdss-photoz evaluate``."""

import json

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.cli import main


def _scores(capsys, *words):
    assert main(["evaluate", *map(str, words)]) == 0
    return json.loads(capsys.readouterr().out)


def test_scores_of_the_published_capsule_network_are_those_recomputed_from_its_table(shared_data, capsys):
    path = shared_data / "oracles/capsule_photoz_A.csv.gz"
    found = _scores(capsys, path, "--z-spec", "z_spec", "--z-phot", "z_phot")
    print(found)
    assert found["n"] == 51_652
    assert found["bias"] == pytest.approx(6.83e-5, abs=5e-8)
    assert found["sigma_mad"] == pytest.approx(0.0089825, abs=5e-8)
    assert found["outliers"] == pytest.approx(0.0019360, abs=5e-8)


@pytest.fixture
def table():
    random = np.random.default_rng(1)
    z = random.uniform(0.02, 0.3, 400)
    return pd.DataFrame({"z_spec": z, "z_best": z + random.normal(0, 0.01, 400)})


def test_parquet_and_csv_give_the_same_scores(table, tmp_path, capsys):
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet", index=False)
    columns = ("--z-spec", "z_spec", "--z-phot", "z_best")
    assert _scores(capsys, tmp_path / "t.csv", *columns) == _scores(capsys, tmp_path / "t.parquet", *columns)


def test_errors_are_taken_over_sky_cells_where_positions_are_known(table, tmp_path, capsys):
    table["ra"], table["dec"] = np.repeat(np.arange(20) * 10.0, 20), 0.0
    table["z_best"] += np.repeat(np.random.default_rng(2).normal(0, 0.01, 20), 20)  # an offset for each place
    columns = ("--z-spec", "z_spec", "--z-phot", "z_best")
    table.to_parquet(tmp_path / "sky.parquet")
    table.drop(columns="ra").to_parquet(tmp_path / "rows.parquet")
    sky, rows = (_scores(capsys, tmp_path / f"{name}.parquet", *columns) for name in ("sky", "rows"))
    assert sky["resampled"] == "20 sky cells of nside 64"
    assert rows["resampled"] == "rows"
    assert sky["bias"] == rows["bias"]
    assert sky["errors"]["bias"] > 2 * rows["errors"]["bias"]


def test_rows_without_a_redshift_are_counted(table, tmp_path, capsys):
    table.loc[:4, "z_best"] = np.nan
    table.to_csv(tmp_path / "t.csv", index=False)
    found = _scores(capsys, tmp_path / "t.csv", "--z-spec", "z_spec", "--z-phot", "z_best")
    assert (found["n"], found["missing"]) == (395, 5)


def test_too_few_resamples_are_refused_in_words(table, tmp_path, capsys):
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SystemExit):
        main(["evaluate", str(tmp_path / "t.csv"), "--z-spec", "z_spec", "--z-phot", "z_best", "--bootstrap", "1"])
    assert "1 is too few for a scatter: at least 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "column", "sentence"),
    [
        ("t.csv", "z_spec,z_phot\n0.1,0.1\n", "zphot", "has no column 'zphot', redshifts: did you mean 'z_phot'?"),
        (
            "t.csv",
            "z_spec,z_phot\n0.1,red\n",
            "z_phot",
            "column 'z_phot' of {path} holds text",
        ),
        ("t.csv", "z_spec,z_phot\n0.1,\n", "z_phot", "has no row in which both z_spec and z_phot are numbers"),
        ("t.csv", "", "z_phot", "cannot be read as a CSV table"),
        ("t.parquet", "no parquet", "z_phot", "cannot be read as a parquet table"),
        ("t.csv", None, "z_phot", "does not exist"),
    ],
)
def test_bad_tables_are_named_in_one_sentence(tmp_path, capsys, name, content, column, sentence):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    assert main(["evaluate", str(path), "--z-spec", "z_spec", "--z-phot", column]) == 1
    error = capsys.readouterr().err
    assert sentence.format(path=path) in error
    assert error.count("\n") == 1
