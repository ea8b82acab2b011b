"""The command ``sdss-photoz evaluate``."""

import json

import numpy as np
import pandas as pd
import pytest

from sdss_photoz.app.cli import main


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


SENTINELS = {  # a table as programs of the field write it: what is missing, and the bias of the rest
    "SDSS": ("0.10,0.101\n0.20,0.201\n0.30,0.299\n0.15,-9999\n", 3, 0.000324398, {"z_phot": {"-9999": 1}}),
    "LePhare": (
        "0.10,0.101\n0.20,0.201\n" + 3 * "-99.9,-99.9\n",
        2,
        0.000871212,
        {"z_spec": {"-99.9": 3}, "z_phot": {"-99.9": 3}},
    ),
    "EAZY": ("0.10,0.101\n0.20,0.201\n0.30,0.299\n-1,0.25\n", 3, 0.000324398, {"z_spec": {"-1": 1}}),
    "several": (
        "0.10,0.101\n0.20,0.201\n0.30,0.299\n,0.1\n0.1,-9\n0.1,inf\n0.1,nan\n0.1,99\n",
        3,
        0.000324398,
        {"z_spec": {"no value": 1}, "z_phot": {"no value": 1, "-9": 1, "99": 1, "inf": 1}},
    ),
}


@pytest.mark.parametrize(("rows", "n", "bias", "missing"), SENTINELS.values(), ids=SENTINELS)
def test_a_fill_value_is_no_redshift_and_is_counted_on_the_terminal_and_in_json(
    tmp_path, capsys, rows, n, bias, missing
):
    (tmp_path / "t.csv").write_text("z_spec,z_phot\n" + rows)
    assert main(["evaluate", str(tmp_path / "t.csv"), "--z-spec", "z_spec", "--z-phot", "z_phot"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out, parse_constant=pytest.fail)  # of NaN and Infinity
    assert found["bias"] == pytest.approx(bias, abs=1e-9)
    assert (found["n"], found["missing"]) == (n, rows.count("\n") - n)
    assert found["missing_values"] == missing
    assert f"{found['missing']} of {rows.count(chr(10))} rows are left out: " in err
    for column, marks in missing.items():
        assert all(f"{mark} in {count}" in err.split(column, 1)[1] for mark, count in marks.items())


def test_a_row_without_a_position_is_scored_and_lies_in_no_sky_cell(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("ra,dec,z,p\n10.1,1.0,0.10,0.101\n12.1,1.0,0.20,0.201\n14.1,-9999,0.30,0.299\n")
    assert main(["evaluate", str(tmp_path / "t.csv"), "--z-spec", "z", "--z-phot", "p"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert "1 of 3 rows have no position: drawn one by one" in err
    assert found["bias"] == pytest.approx(0.000324398, abs=1e-9)
    assert (found["n"], found["missing"], found["without_position"]) == (3, 0, 1)
    assert found["resampled"] == "2 sky cells of nside 64 and 1 rows without a position"


def test_an_error_that_cannot_be_known_is_null_and_says_why(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("ra,dec,z,p\n10.1,1.0,0.10,0.101\n10.1,1.0,0.20,0.201\n")
    found = _scores(capsys, tmp_path / "t.csv", "--z-spec", "z", "--z-phot", "p")
    assert found["errors"] == {"bias": None, "sigma_mad": None, "outliers": None}
    assert found["resampled"] == "nothing: all rows lie in one cell of nside 64"


def test_a_comma_at_the_end_of_rows_shifts_no_column(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("z_spec,z_phot,zerr\n0.10,0.101,0.01,\n0.20,0.199,0.01,\n")
    assert main(["evaluate", str(tmp_path / "t.csv"), "--z-spec", "z_spec", "--z-phot", "z_phot"]) == 1
    assert "row 1 has 4 values, the header 3 names: '0.10,0.101,0.01,'" in capsys.readouterr().err


def test_a_catalogue_of_lephare_is_scored_as_it_is(tmp_path, capsys):
    rows = " 1  0.1010  1.2e+00  0.1000\n 2  0.2010  1.2e+00  0.2000\n 4  -99.9000  1.0e+09  0.1500\n"
    (tmp_path / "lp.out").write_text("# PHOTOMETRIC REDSHIFT with OPTIONS\n# IDENT  Z_BEST  CHI_BEST  ZSPEC\n" + rows)
    found = _scores(capsys, tmp_path / "lp.out", "--z-spec", "ZSPEC", "--z-phot", "Z_BEST")
    assert (found["n"], found["missing_values"]) == (2, {"Z_BEST": {"-99.9": 1}})


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
